"""Group normalisation and SiLU: by XLA, or on CPUs in one pass of foreign code."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad

from repaint_jax.models.kernels import onednn
from repaint_jax.models.kernels.pictures import ForeignFunction

_LANES = 16  # the foreign code takes so many channels at once


def normalize(
    x: jax.Array, gain: jax.Array, offset: jax.Array, *, num_groups: int, eps: float, silu: bool
) -> jax.Array:
    """Y = (x - mean) / sqrt(var + eps) * gain + offset by groups of channels, or y * sigmoid(y).

    Args:
        x: f[B, H, W, C].
        gain: float32[B, C].
        offset: float32[B, C].
        num_groups: the moments are those of C / num_groups channels of a picture.
        eps: added to the variance.
        silu: whether y or y * sigmoid(y) is returned.

    Returns:
        f[B, H, W, C], in x's dtype; all is float32 before.
    """
    how: dict[str, Any] = {"groups": num_groups, "eps": float(eps), "silu": silu}
    if onednn.convolves(x.dtype) and x.shape[-1] % _LANES == 0:
        return _normal(x, gain, offset, **how)
    return _by_xla(x, gain, offset, **how)


def _by_xla(
    x: jax.Array, gain: jax.Array, offset: jax.Array, *, groups: int, eps: float, silu: bool
) -> jax.Array:
    """The same by XLA.

    Moments are taken over the pixels of a channel and only then over the channels of a group, so
    that the picture is read in the layout it has and everything after the moments folds into one
    multiply-add a value.
    """
    batch, _, _, channels = x.shape
    pixels = x.astype(jnp.float32)
    mean_c = pixels.mean((1, 2), keepdims=True)
    var_c = ((pixels - mean_c) ** 2).mean((1, 2))  # E[x^2] - E[x]^2 cancels for a large mean

    shape = (batch, groups, channels // groups)
    mean_c = mean_c.reshape(shape)
    mean = mean_c.mean(-1, keepdims=True)
    var = (var_c.reshape(shape) + (mean_c - mean) ** 2).mean(-1, keepdims=True)

    a = lax.rsqrt(var + eps) * gain.reshape(shape)
    b = offset.reshape(shape) - mean * a
    a, b = a.reshape(batch, channels), b.reshape(batch, channels)
    y = pixels * a[:, None, None, :] + b[:, None, None, :]
    return (jax.nn.silu(y) if silu else y).astype(x.dtype)


def _foreign(x: jax.Array, gain: jax.Array, offset: jax.Array, **how: Any) -> jax.Array:
    result = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.ffi.ffi_call(onednn.NORMALIZATION, result)(x, gain, offset, **_attributes(**how))


def _attributes(groups: int, eps: float, silu: bool) -> dict[str, Any]:
    return {"groups": groups, "eps": np.float32(eps), "silu": silu}


def _tangent_by_xla(*arrays: jax.Array, **how: Any) -> jax.Array:
    """(x, gain, offset) and a tangent of each -> the tangent of y."""
    return jax.jvp(partial(_by_xla, **how), arrays[:3], arrays[3:])[1]


def _gradient_by_xla(
    x: jax.Array, gain: jax.Array, offset: jax.Array, dy: jax.Array, **how: Any
) -> list[jax.Array]:
    return list(jax.vjp(partial(_by_xla, **how), x, gain, offset)[1](dy))


def _foreign_gradient(
    x: jax.Array, gain: jax.Array, offset: jax.Array, dy: jax.Array, **how: Any
) -> list[jax.Array]:
    results = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (x, gain, offset)]
    call = jax.ffi.ffi_call(onednn.NORMALIZATION_GRADIENT, results)
    return list(call(x, gain, offset, dy, **_attributes(**how)))


_RULE = "n y x c, n c, n c"
_normal = ForeignFunction("normalization", _foreign, _by_xla, f"{_RULE} -> n y x c")
# Foreign code is worth its lines in reverse; tangents of x are left to XLA.
_tangent = ForeignFunction(
    "normalization_tangent", _tangent_by_xla, _tangent_by_xla, f"{_RULE}, {_RULE} -> n y x c"
)
_gradient = ForeignFunction(
    "normalization_gradient", _foreign_gradient, _gradient_by_xla,
    f"{_RULE}, n y x c -> {_RULE}",
)  # fmt: skip


def _jvp(primals: Any, tangents: Any, **how: Any) -> tuple[jax.Array, jax.Array]:
    tangents = map(ad.instantiate_zeros, tangents)
    return _normal(*primals, **how), _tangent(*primals, *tangents, **how)


def _transpose(dy: Any, *arrays: Any, **how: Any) -> list[Any]:
    if type(dy) is ad.Zero:
        return [None] * 6
    gradients = _gradient(*arrays[:3], dy, **how)
    linear = map(ad.is_undefined_primal, arrays[3:])
    return [None] * 3 + [g if yes else None for g, yes in zip(gradients, linear, strict=True)]


_normal.def_jvp(_jvp)
_tangent.def_transpose(_transpose)
_tangent.def_jvp_by_xla()
_gradient.def_jvp_by_xla()
