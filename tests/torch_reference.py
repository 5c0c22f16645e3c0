"""PyTorch, beside which tests run this project; importing this skips them without it."""

import pytest

torch = pytest.importorskip("torch")
try:
    import torchvision  # noqa: F401
except ImportError:
    pass
except RuntimeError:
    # Built for CUDA beside torch for CPUs, it finds none of its operators; none is used here.
    _OPERATORS = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
