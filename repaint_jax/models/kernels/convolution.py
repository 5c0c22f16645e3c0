"""The convolution of the networks: XLA's, or on CPUs oneDNN's where it is installed.

Three products make a family that is closed under differentiation, so that derivatives of any order,
forward and in reverse, run by oneDNN too:

    y = convolution(x, k),   dx = by_pictures(dy, k),   dk = by_kernel(x, dy).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad

from repaint_jax.models.kernels import onednn
from repaint_jax.models.kernels.pictures import ForeignFunction

Padding = tuple[int, int]


def convolve(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, *, stride: int, padding: Padding
) -> jax.Array:
    """Convolves pictures padded with zeros, and adds a bias.

    Args:
        x: f[B, H, W, in].
        kernel: f[size, size, in, out], of x's dtype.
        bias: f[out], of x's dtype.
        stride: in height and in width.
        padding: how many zeros go before and after the pixels, in height and in width.

    Returns:
        f[B, H', W', out].
    """
    if onednn.convolves(x.dtype) and max(padding) < kernel.shape[0]:
        return _biased(x, kernel, bias, stride=stride, padding=padding)
    return _biased_by_xla(x, kernel, bias, stride=stride, padding=padding)


def _by_xla(x: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=(padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _biased_by_xla(x: jax.Array, kernel: jax.Array, bias: jax.Array, **how: Any) -> jax.Array:
    return _by_xla(x, kernel, **how) + bias[None, None, None, :]


def _by_onednn(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    *,
    stride: int,
    padding: Padding,
    turned: bool = False,
) -> jax.Array:
    """`turned` flips the kernel in height and width and exchanges its channels in and out."""
    batch, *sides, _ = x.shape
    size, _, *channels = kernel.shape
    height, width = ((side + sum(padding) - size) // stride + 1 for side in sides)
    result = jax.ShapeDtypeStruct((batch, height, width, channels[not turned]), x.dtype)
    before, after = padding
    call = jax.ffi.ffi_call(onednn.CONVOLUTION, result)
    return call(x, kernel, bias, stride=stride, before=before, after=after, turned=turned)


def _unbiased_by_onednn(x: jax.Array, kernel: jax.Array, **how: Any) -> jax.Array:
    return _by_onednn(x, kernel, jnp.zeros(kernel.shape[-1], x.dtype), **how)


def _by_pictures_by_xla(
    dy: jax.Array, kernel: jax.Array, *, sides: tuple[int, int], **how: Any
) -> jax.Array:
    x = jax.ShapeDtypeStruct((dy.shape[0], *sides, kernel.shape[2]), dy.dtype)
    return jax.linear_transpose(lambda x: _by_xla(x, kernel, **how), x)(dy)[0]


def _by_pictures_by_onednn(
    dy: jax.Array, kernel: jax.Array, *, sides: tuple[int, int], stride: int, padding: Padding
) -> jax.Array:
    """A convolution again, of dy with zeros between its pixels where the stride left pixels out."""
    size, (before, after) = kernel.shape[0], padding
    left = [(side + before + after - size) % stride for side in sides]
    turned = (size - 1 - before, size - 1 - after)
    spread = _spread(dy, stride, [(0, more) for more in left])
    bias = jnp.zeros(kernel.shape[2], dy.dtype)
    return _by_onednn(spread, kernel, bias, stride=1, padding=turned, turned=True)


def _by_kernel_by_xla(x: jax.Array, dy: jax.Array, *, size: int, **how: Any) -> jax.Array:
    kernel = jax.ShapeDtypeStruct((size, size, x.shape[-1], dy.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: _by_xla(x, kernel, **how), kernel)(dy)[0]


def _by_kernel_by_onednn(
    x: jax.Array, dy: jax.Array, *, size: int, stride: int, padding: Padding
) -> jax.Array:
    before, sides = padding[0], x.shape[1:3]
    reached = [(side - 1) * stride + size for side in dy.shape[1:3]]
    x = _spread(x, 1, [(before, r - before - side) for r, side in zip(reached, sides, strict=True)])
    dy = _spread(dy, stride, [(0, size - 1)] * 2)
    result = jax.ShapeDtypeStruct((size, size, x.shape[-1], dy.shape[-1]), x.dtype)
    return jax.ffi.ffi_call(onednn.BY_KERNEL, result)(x, dy)


def _spread(x: jax.Array, stride: int, edges: list[tuple[int, int]]) -> jax.Array:
    """Zeros between the pixels, and around them; negative edges are cut off."""
    config = [(0, 0, 0), *((low, high, stride - 1) for low, high in edges), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)


_X, _KERNEL, _Y = "n y x i", "h w i o", "n v u o"
_biased = ForeignFunction(
    "biased_convolution", _by_onednn, _biased_by_xla, f"{_X}, {_KERNEL}, o -> {_Y}"
)
_convolution = ForeignFunction(
    "convolution", _unbiased_by_onednn, _by_xla, f"{_X}, {_KERNEL} -> {_Y}"
)
_by_pictures = ForeignFunction(
    "convolution_by_pictures", _by_pictures_by_onednn, _by_pictures_by_xla,
    f"{_Y}, {_KERNEL} -> {_X}",
)  # fmt: skip
_by_kernel = ForeignFunction(
    "convolution_by_kernel", _by_kernel_by_onednn, _by_kernel_by_xla, f"{_X}, {_Y} -> {_KERNEL}"
)


def _tangent(primals: Any, tangents: Any, **how: Any) -> tuple[jax.Array, Any]:
    x, kernel, bias = primals
    dx, dkernel, dbias = tangents
    y = _biased(x, kernel, bias, **how)
    terms = []
    if type(dx) is not ad.Zero:
        terms.append(_convolution(dx, kernel, **how))
    if type(dkernel) is not ad.Zero:
        terms.append(_convolution(x, dkernel, **how))
    if type(dbias) is not ad.Zero:
        # In reverse a sum over the pixels, which 16 bits do not hold.
        terms.append(jnp.broadcast_to(dbias.astype(jnp.float32), y.shape).astype(y.dtype))
    return y, sum(terms[1:], terms[0])


_biased.def_jvp(_tangent)
_convolution.def_bilinear(
    lambda dy, x, k, **how: _by_pictures(dy, k, sides=x.aval.shape[1:3], **how),
    lambda dy, x, k, **how: _by_kernel(x, dy, size=k.aval.shape[0], **how),
)
_by_pictures.def_bilinear(
    lambda dx, dy, k, sides, **how: _convolution(dx, k, **how),
    lambda dx, dy, k, sides, **how: _by_kernel(dx, dy, size=k.aval.shape[0], **how),
)
_by_kernel.def_bilinear(
    lambda dk, x, dy, size, **how: _by_pictures(dy, dk, sides=x.aval.shape[1:3], **how),
    lambda dk, x, dy, size, **how: _convolution(x, dk, **how),
)
