"""torchvision, for packages that import it; importing this skips their tests without it.

Built for CUDA, as on PyPI, beside a torch for CPUs, it finds none of its operators and does not
import. None is used here; so they are declared.
"""

from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch")
if find_spec("torchvision") is None:
    pytest.skip("could not import torchvision", allow_module_level=True)
try:
    import torchvision  # noqa: F401
except RuntimeError:
    _OPERATORS = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
