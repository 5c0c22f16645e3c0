"""The `Unet` of denoising-diffusion-pytorch (lucidrains, MIT licence), in NHWC.

    encoder:  convolution, then per level two residual blocks, attention and a halving
    middle:   residual block, full attention, residual block
    decoder:  per level two residual blocks, each fed one encoder output, attention and a doubling

The lowest level of the encoder and the full picture's of the decoder end with a convolution
instead; a last residual block is fed the output of the first convolution. Attention is linear in
the number of pixels, but full where `full_attn` says so.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from repaint_jax.models.adm.blocks import check_input
from repaint_jax.models.layers import Conv
from repaint_jax.models.lucidrains.blocks import (
    Downsample,
    FullAttention,
    LinearAttention,
    LucidrainsArchitecture,
    ResnetBlock,
    TimeEmbedding,
    Upsample,
)


class LucidrainsUnet(nnx.Module):
    """Noisy pictures and their timesteps -> noise, x_0 or v, perhaps with a variance."""

    def __init__(self, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs, **arguments: Any):
        """Builds a network with fresh weights.

        Args:
            dtype: in which convolutions and attention are computed; parameters are float32.
            rngs: source of the weights (stream `params`).
            **arguments: the fields of `LucidrainsArchitecture`.

        Raises:
            ValueError: if the arguments do not fit each other.
        """
        self.arch = arch = LucidrainsArchitecture(**arguments)
        self.dtype = jnp.dtype(dtype)
        widths, last = arch.widths, len(arch.dim_mults) - 1
        levels = list(enumerate(pairwise(widths)))
        kinds: dict[str, Any] = {"arch": arch, "dtype": dtype, "rngs": rngs}
        self.init_conv = Conv(arch.in_channels, widths[0], size=7, dtype=dtype, rngs=rngs)
        self.time_embed = TimeEmbedding(arch, rngs=rngs)
        self.down = nnx.List(
            [
                Level(fed, fed, after, resample="down" if i < last else None, level=i, **kinds)
                for i, (fed, after) in levels
            ]
        )
        self.middle = Middle(**kinds)
        self.up = nnx.List(
            [
                Level(width + skip, width, skip, resample="up" if i else None, level=i, **kinds)
                for i, (skip, width) in reversed(levels)
            ]
        )
        self.final_block = ResnetBlock(2 * widths[0], widths[0], arch, dtype=dtype, rngs=rngs)
        self.final_conv = Conv(widths[0], arch.out_channels, size=1, rngs=rngs)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that rebuild the network, `LucidrainsUnet(**config, rngs=...)`, for JSON."""
        return self.arch.as_dict()

    @property
    def downsampling(self) -> int:
        """Height and width of a picture must be divisible by this."""
        return 2 ** (len(self.arch.dim_mults) - 1)

    def __call__(self, x: jax.Array, t: jax.Array) -> jax.Array:
        """Predicts what the network was trained to, from noisy pictures.

        Args:
            x: f[B, H, W, in_channels].
            t: int or float [B], the timestep as the network was trained to see it.

        Returns:
            float32[B, H, W, out_channels].

        Raises:
            ValueError: for a shape that the network cannot take.
        """
        check_input(x, t, self.arch.in_channels, self.downsampling)
        emb = self.time_embed(t)
        first = h = self.init_conv(x.astype(self.dtype))
        skips = []
        for level in self.down:
            h = level.block1(h, emb)
            skips.append(h)
            h = level.attention(level.block2(h, emb))
            skips.append(h)
            h = level.resample(h)
        h = self.middle(h, emb)
        for level in self.up:
            h = level.block1(jnp.concatenate([h, skips.pop()], axis=-1), emb)
            h = level.block2(jnp.concatenate([h, skips.pop()], axis=-1), emb)
            h = level.resample(level.attention(h))
        h = self.final_block(jnp.concatenate([h, first], axis=-1), emb)
        return self.final_conv(h.astype(jnp.float32))


class Level(nnx.Module):
    """Two residual blocks, attention, and the step to the next level."""

    def __init__(
        self,
        fed: int,
        width: int,
        after: int,
        *,
        resample: Literal["down", "up"] | None,
        level: int,
        arch: LucidrainsArchitecture,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """`fed` channels go into each block, `width` come out, and `after` go on."""
        kinds: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.block1 = ResnetBlock(fed, width, arch, **kinds)
        self.block2 = ResnetBlock(fed, width, arch, **kinds)
        attend = FullAttention if arch.full_attn[level] else LinearAttention
        heads, head_channels = arch.attn_heads[level], arch.attn_dim_head[level]
        self.attention = attend(width, heads, head_channels, arch.num_mem_kv, **kinds)
        between = {"down": Downsample, "up": Upsample, None: Conv}[resample]
        self.resample = between(width, after, **kinds)


class Middle(nnx.Module):
    """The layers between encoder and decoder."""

    def __init__(self, *, arch: LucidrainsArchitecture, dtype: DTypeLike, rngs: nnx.Rngs):
        width, heads, head_channels = arch.widths[-1], arch.attn_heads[-1], arch.attn_dim_head[-1]
        kinds: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.block1 = ResnetBlock(width, width, arch, **kinds)
        self.attention = FullAttention(width, heads, head_channels, arch.num_mem_kv, **kinds)
        self.block2 = ResnetBlock(width, width, arch, **kinds)

    def __call__(self, h: jax.Array, emb: jax.Array) -> jax.Array:
        """f[B, H, W, C] -> f[B, H, W, C]."""
        return self.block2(self.attention(self.block1(h, emb)), emb)
