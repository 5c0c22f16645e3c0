"""diffusers, with a torchvision that fits its PyTorch or with none."""

import sys

try:
    import torchvision  # noqa: F401
except ImportError:
    pass
except RuntimeError:  # it was built for another PyTorch: diffusers can do without
    sys.modules["torchvision"] = None  # type: ignore[assignment]
import diffusers

__all__ = ["diffusers"]
