"""The convolution of the networks: XLA's, or on CPUs oneDNN's where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from repaint_jax.models.kernels import onednn

Convolution = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def convolve(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, *, stride: int, padding: tuple[int, int]
) -> jax.Array:
    """Convolves pictures padded with zeros, and adds a bias.

    Args:
        x: f[B, H, W, in].
        kernel: f[h, w, in, out], of x's dtype.
        bias: f[out], of x's dtype.
        stride: in height and in width.
        padding: how many zeros go before and after the pixels, in height and in width.

    Returns:
        f[B, H', W', out].
    """
    if x.dtype == jnp.float32 and jax.default_backend() == "cpu" and onednn.wanted():
        return _by_onednn(stride, padding)(x, kernel, bias)
    return _by_xla(stride, padding)(x, kernel, bias)


@cache
def _by_xla(stride: int, padding: tuple[int, int]) -> Convolution:
    def convolution(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        y = lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(stride, stride),
            padding=(padding, padding),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + bias[None, None, None, :]

    return convolution


@cache
def _by_onednn(stride: int, padding: tuple[int, int]) -> Convolution:
    """Tells JAX how the foreign function is batched, shared among devices and differentiated."""
    by_xla = _by_xla(stride, padding)

    def foreign(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        batch, *sides, _ = x.shape
        height, width = (
            (side + sum(padding) - size) // stride + 1
            for side, size in zip(sides, kernel.shape[:2], strict=True)
        )
        result = jax.ShapeDtypeStruct((batch, height, width, kernel.shape[-1]), x.dtype)
        before, after = padding
        call = jax.ffi.ffi_call(onednn.TARGET, result)
        return call(x, kernel, bias, stride=stride, before=before, after=after)

    def partition(mesh: Mesh, arguments: Any, result: Any) -> tuple[Any, ...]:
        """Each device convolves its own pictures."""
        pictures = NamedSharding(mesh, PartitionSpec(*arguments[0].sharding.spec[:1]))
        copied = NamedSharding(mesh, PartitionSpec())
        return mesh, foreign, pictures, (pictures, copied, copied)

    @custom_partitioning
    def shared(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return lax.platform_dependent(x, kernel, bias, cpu=foreign, default=by_xla)

    shared.def_partition(
        partition,
        sharding_rule="n y x i, h w i o, o -> n v u o",
        need_replication_factors=("y", "x", "i", "h", "w", "o", "v", "u"),
    )
    batched = custom_vmap(shared)

    @batched.def_vmap
    def more_pictures(
        size: int, is_batched: list[bool], x: jax.Array, kernel: jax.Array, bias: jax.Array
    ) -> tuple[jax.Array, bool]:
        x_axis, *weight_axes = (0 if yes else None for yes in is_batched)
        if weight_axes != [None, None]:
            return jax.vmap(by_xla, (x_axis, *weight_axes))(x, kernel, bias), True
        y = batched(x.reshape(-1, *x.shape[2:]), kernel, bias)
        return y.reshape(*x.shape[:2], *y.shape[1:]), True

    # Linear in each argument, so that a tangent is a convolution again, or a broadcast.
    linear = jax.custom_jvp(batched)
    linear.defjvps(
        lambda dx, y, x, kernel, bias: by_xla(dx, kernel, jnp.zeros_like(bias)),
        lambda dkernel, y, x, kernel, bias: by_xla(x, dkernel, jnp.zeros_like(bias)),
        lambda dbias, y, x, kernel, bias: jnp.broadcast_to(dbias, y.shape),
    )
    return linear
