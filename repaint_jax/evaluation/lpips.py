"""LPIPS with AlexNet's features (Zhang et al., CVPR 2018): how unlike two pictures look.

The features after each of the five convolutions are normalised over their channels; the squared
differences are weighted by channel and averaged over the picture; the five are summed (Eq. 1).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from safetensors.numpy import load_file

from repaint_jax.pixels import to_float

WEIGHTS = Path(__file__).with_name("lpips_alexnet.safetensors")  # by tools/convert_lpips.py

_LARGEST_BATCH = 16
_SMALLEST = 32  # pixels a side, below which AlexNet's last features are empty
_MEAN = np.array([-0.030, -0.088, -0.188], np.float32)  # of ImageNet, for pictures in [-1, 1]
_STD = np.array([0.458, 0.448, 0.450], np.float32)
_CONVOLUTIONS = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))  # stride and padding
NUM_LAYERS = len(_CONVOLUTIONS)
_POOLED = (1, 2)  # convolutions that see half of the pixels before them

Weights = dict[str, jax.Array]


def lpips(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """The distance of pictures, float64[N]; 0 for equal ones.

    As in the paper: the whole picture, inputs in [-1, 1], AlexNet, the linear weights of version
    0.1. Grey pictures are given three times.

    Args:
        a: uint8[N, H, W, C].
        b: likewise.

    Returns:
        The distances; None if a side is below 32 pixels.
    """
    return _in_batches(_distances, a, b)


def pooled_features(pictures: np.ndarray) -> np.ndarray | None:
    """What AlexNet sees in pictures, float64[N, 1152]: each layer's features, averaged over them.

    Args:
        pictures: uint8[N, H, W, C].

    Returns:
        The features; None if a side is below 32 pixels.
    """
    return _in_batches(_pooled, pictures)


def _in_batches(of: Callable[..., jax.Array], *pictures: np.ndarray) -> np.ndarray | None:
    count, *shape = pictures[0].shape
    if min(shape[:2]) < _SMALLEST:
        return None
    size = min(_LARGEST_BATCH, 1 << (count - 1).bit_length())  # few shapes, few compilations
    parts = [slice(start, start + size) for start in range(0, count, size)]
    found = [of(_weights(), *(_batch(x[part], size) for x in pictures)) for part in parts]
    return np.concatenate(found)[:count].astype(float)


def _batch(pictures: np.ndarray, size: int) -> np.ndarray:
    """uint8[n, H, W, C] as float32[size, H, W, 3]."""
    filled = np.zeros((size, *pictures.shape[1:3], 3), np.float32)
    filled[: len(pictures)] = to_float(pictures)
    return filled


@functools.cache
def _weights() -> Weights:
    return {name: jnp.asarray(array) for name, array in load_file(WEIGHTS).items()}


@jax.jit
def _distances(weights: Weights, a: jax.Array, b: jax.Array) -> jax.Array:
    """float32[N] of float32[N, H, W, 3] in [-1, 1]."""
    pairs = zip(_features(weights, a), _features(weights, b), strict=True)
    parts = [
        jnp.einsum("nhwc,c->n", (x - y) ** 2, weights[f"linear.{i}"]) / (x.shape[1] * x.shape[2])
        for i, (x, y) in enumerate(pairs)
    ]
    return jnp.stack(parts).sum(0)


@jax.jit
def _pooled(weights: Weights, pictures: jax.Array) -> jax.Array:
    """float32[N, F] of float32[N, H, W, 3] in [-1, 1]."""
    return jnp.concatenate([jnp.mean(x, (1, 2)) for x in _features(weights, pictures)], -1)


def _features(weights: Weights, pictures: jax.Array) -> Iterator[jax.Array]:
    """float32[N, h, w, c] after each convolution of AlexNet, of length 1 over the channels."""
    x = (pictures - _MEAN.reshape(1, 1, 1, 3)) / _STD.reshape(1, 1, 1, 3)
    for i, (stride, padding) in enumerate(_CONVOLUTIONS):
        if i in _POOLED:
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")
        x = lax.conv_general_dilated(
            x,
            weights[f"features.{i}.kernel"],
            (stride, stride),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = jax.nn.relu(x + weights[f"features.{i}.bias"].reshape(1, 1, 1, -1))
        yield x / (jnp.sqrt(jnp.sum(x**2, -1, keepdims=True)) + 1e-10)
