"""What the `Unet` of denoising-diffusion-pytorch is built of: its arguments and layers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from repaint_jax.models.adm.blocks import check_arguments, json_fields
from repaint_jax.models.layers import (
    Conv,
    Linear,
    attention,
    patchify,
    timestep_embedding,
    upsample_nearest,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LucidrainsArchitecture:
    """The constructor arguments of `LucidrainsUnet`, named as in `Unet` but for the channels.

    Dropout is left out, as it is in sampling; flash attention computes the same.

    Attributes:
        dim: base width; a level is `dim_mults` times as wide.
        init_dim: channels of the first convolution.
        dim_mults: one factor a level, from the full picture down.
        in_channels: channels of the picture.
        out_channels: channels of the output; twice as many with a learned variance.
        full_attn: whether a level has full attention, or linear.
        attn_heads: heads of each level's attention.
        attn_dim_head: channels of a head, for each level.
        num_mem_kv: learned keys and values that every pixel attends to besides.
        fourier_features: number of learned or random frequencies of the time; None for sinusoids.
        sinusoidal_pos_emb_theta: bound on the slowest period of the sinusoids, over 2 pi.
    """

    dim: int
    init_dim: int
    dim_mults: tuple[float, ...]
    full_attn: tuple[bool, ...]
    attn_heads: tuple[int, ...]
    attn_dim_head: tuple[int, ...]
    in_channels: int = 3
    out_channels: int = 3
    num_mem_kv: int = 4
    fourier_features: int | None = None
    sinusoidal_pos_emb_theta: float = 10_000

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            if isinstance(value, list):
                object.__setattr__(self, field, tuple(value))
        check_arguments(self, len(self.dim_mults), 2)
        if self.fourier_features is None and (self.dim < 4 or self.dim % 2):
            raise ValueError(
                f"the sinusoids of the time need an even dim, 4 or more; got {self.dim}"
            )
        for field in ("full_attn", "attn_heads", "attn_dim_head"):
            if len(getattr(self, field)) != len(self.dim_mults):
                raise ValueError(
                    f"{field}: expected one for each of the {len(self.dim_mults)} levels; got "
                    f"{getattr(self, field)}"
                )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the first convolution and after every level."""
        return (self.init_dim, *(round(self.dim * mult) for mult in self.dim_mults))

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return json_fields(self)


class TimeEmbedding(nnx.Module):
    """Waves of the timestep through a perceptron, four times as wide as the network."""

    def __init__(self, arch: LucidrainsArchitecture, *, rngs: nnx.Rngs):
        self.theta = arch.sinusoidal_pos_emb_theta
        count = arch.fourier_features
        self.frequencies = (
            None if count is None else nnx.Param(jax.random.normal(rngs.params(), (count,)))
        )
        waves = arch.dim if count is None else 1 + 2 * count
        self.linear_in = Linear(waves, 4 * arch.dim, rngs=rngs)
        self.linear_out = Linear(4 * arch.dim, 4 * arch.dim, rngs=rngs)

    def __call__(self, t: jax.Array) -> jax.Array:
        """[B] -> float32[B, 4 * dim]."""
        hidden = jax.nn.gelu(self.linear_in(self._waves(t)), approximate=False)
        return self.linear_out(hidden)

    def _waves(self, t: jax.Array) -> jax.Array:
        if self.frequencies is None:
            channels = self.linear_in.kernel.shape[0]
            return timestep_embedding(t, channels, self.theta, freq_shift=1, cosines_first=False)
        time = t.astype(jnp.float32)[:, None]
        phase = 2 * math.pi * time * self.frequencies[...][None]
        return jnp.concatenate([time, jnp.sin(phase), jnp.cos(phase)], axis=-1)


class RMSNorm(nnx.Module):
    """Each pixel's channels scaled to the root mean square 1, then by a learned factor."""

    def __init__(self, channels: int):
        self.scale = nnx.Param(jnp.ones(channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        """f[..., C] -> f[..., C]."""
        pixels = x.astype(jnp.float32)
        norm = jnp.sqrt((pixels**2).sum(-1, keepdims=True))
        scale = jnp.expand_dims(self.scale[...] * x.shape[-1] ** 0.5, range(x.ndim - 1))
        return (pixels / jnp.maximum(norm, 1e-12) * scale).astype(x.dtype)


class ConvBlock(nnx.Module):
    """act(norm(conv(x))), where the normalised pixels may be scaled and shifted."""

    def __init__(self, in_channels: int, out_channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv = Conv(in_channels, out_channels, dtype=dtype, rngs=rngs)
        self.norm = RMSNorm(out_channels)

    def __call__(self, x: jax.Array, film: jax.Array | None = None) -> jax.Array:
        """f[B, H, W, in], float32[B, 2 * out] -> f[B, H, W, out]."""
        h = self.norm(self.conv(x))
        if film is not None:
            scale, shift = jnp.split(film[:, None, None, :].astype(h.dtype), 2, axis=-1)
            h = h * (scale + 1) + shift
        return jax.nn.silu(h)


class ResnetBlock(nnx.Module):
    """x + h, h = two convolutions, the first of which is told the time."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        arch: LucidrainsArchitecture,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.embed = Linear(4 * arch.dim, 2 * out_channels, rngs=rngs)
        self.block1 = ConvBlock(in_channels, out_channels, dtype=dtype, rngs=rngs)
        self.block2 = ConvBlock(out_channels, out_channels, dtype=dtype, rngs=rngs)
        self.skip = (
            None
            if in_channels == out_channels
            else Conv(in_channels, out_channels, size=1, dtype=dtype, rngs=rngs)
        )

    def __call__(self, x: jax.Array, emb: jax.Array) -> jax.Array:
        """(f[B, H, W, in], float32[B, E]) -> f[B, H, W, out]."""
        h = self.block2(self.block1(x, self.embed(jax.nn.silu(emb))))
        return h + (x if self.skip is None else self.skip(x))


class FullAttention(nnx.Module):
    """x + out(attention(norm(x))) over all pixels and some learned keys and values."""

    def __init__(
        self,
        channels: int,
        heads: int,
        head_channels: int,
        num_mem_kv: int,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        width = heads * head_channels
        self.norm = RMSNorm(channels)
        shape = (2, heads, num_mem_kv, head_channels)
        self.mem_kv = nnx.Param(jax.random.normal(rngs.params(), shape))
        self.qkv = Linear(channels, 3 * width, bias=False, dtype=dtype, rngs=rngs)
        self.proj = Linear(width, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, C] -> f[B, H, W, C]."""
        memory = jnp.moveaxis(self.mem_kv[...], 1, 2)  # [2, M, heads, c]
        q, k, v = _with_memory(self.qkv(self.norm(x)), memory)
        return x + self.proj(attention(q, k, v)).reshape(x.shape)


class LinearAttention(nnx.Module):
    """x + norm(out(a)), a = softmax(q) (softmax(k)^T v): linear in the number of pixels.

    Efficient attention (Shen et al. 2021): the queries' softmax is over a head's channels, the
    keys' over all pixels and some learned ones.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        head_channels: int,
        num_mem_kv: int,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        width = heads * head_channels
        self.norm = RMSNorm(channels)
        shape = (2, heads, head_channels, num_mem_kv)
        self.mem_kv = nnx.Param(jax.random.normal(rngs.params(), shape))
        self.qkv = Linear(channels, 3 * width, bias=False, dtype=dtype, rngs=rngs)
        self.linear_out = Linear(width, channels, dtype=dtype, rngs=rngs)
        self.out_norm = RMSNorm(channels)

    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, C] -> f[B, H, W, C]."""
        memory = jnp.moveaxis(self.mem_kv[...], 3, 1)  # [2, M, heads, c]
        q, k, v = _with_memory(self.qkv(self.norm(x)), memory)
        heads, c = q.shape[2:]
        q = jax.nn.softmax(q.astype(jnp.float32), axis=-1).astype(v.dtype) * c**-0.5
        k = jax.nn.softmax(k.astype(jnp.float32), axis=1).astype(v.dtype)
        context = jnp.einsum("bnhd,bnhe->bhde", k, v)
        out = jnp.einsum("bhde,bnhd->bnhe", context, q)
        return x + self.out_norm(self.linear_out(out.reshape(*x.shape[:3], heads * c)))


def _with_memory(qkv: jax.Array, memory: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries, and keys and values after those of `memory`: f[B, N, heads, c], f[B, M + N, ...].

    Args:
        qkv: f[B, H, W, 3 * heads * c], the queries of all heads first, then keys, then values.
        memory: f[2, M, heads, c], keys and values.
    """
    batch, height, width, _ = qkv.shape
    heads, c = memory.shape[2:]
    q, k, v = jnp.moveaxis(qkv.reshape(batch, height * width, 3, heads, c), 2, 0)
    mem_k, mem_v = (
        jnp.broadcast_to(rows[None], (batch, *rows.shape)) for rows in memory.astype(qkv.dtype)
    )
    return q, jnp.concatenate([mem_k, k], axis=1), jnp.concatenate([mem_v, v], axis=1)


class Downsample(nnx.Module):
    """Halves the picture: each 2x2 block becomes one pixel, whose channels are mixed."""

    def __init__(self, in_channels: int, out_channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.mix = Conv(4 * in_channels, out_channels, size=1, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, in] -> f[B, H/2, W/2, out]."""
        return self.mix(patchify(x, 2))


class Upsample(nnx.Module):
    """Doubles the picture by repeating pixels, then convolves."""

    def __init__(self, in_channels: int, out_channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.mix = Conv(in_channels, out_channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, in] -> f[B, 2H, 2W, out]."""
        return self.mix(upsample_nearest(x))
