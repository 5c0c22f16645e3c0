"""The U-Net of Ho et al. (2020) as diffusers' `UNet2DModel` has it, in NHWC.

    encoder:  convolution, then per level `layers_per_block` residual blocks and a halving
    middle:   residual block, attention, residual block
    decoder:  per level `layers_per_block + 1` residual blocks, each fed one encoder output,
              and a doubling

Attention follows the residual blocks of the levels whose block is an `Attn...`; timestep and label
enter every residual block.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from repaint_jax.models.adm.blocks import check_input
from repaint_jax.models.diffusers.blocks import (
    Architecture2D,
    Attention,
    Downsample,
    LabelEmbedding,
    ResnetBlock,
    TimestepEmbedding,
    Upsample,
    run,
)
from repaint_jax.models.layers import Conv, GroupNorm, timestep_embedding


class UNet2DModel(nnx.Module):
    """Noisy pictures and their timesteps -> noise, or noise and variance."""

    def __init__(self, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs, **arguments: Any):
        """Builds a network with fresh weights.

        Args:
            dtype: in which convolutions and attention are computed; parameters are float32.
            rngs: source of the weights (stream `params`).
            **arguments: the fields of `Architecture2D`.

        Raises:
            ValueError: for a block or option that is not known, or if widths, groups, heads and
                levels do not fit each other.
        """
        self.arch = arch = Architecture2D(**arguments)
        self.dtype = jnp.dtype(dtype)
        widths = arch.block_out_channels
        self.conv_in = Conv(arch.in_channels, widths[0], dtype=dtype, rngs=rngs)
        self.time_embedding = TimestepEmbedding(widths[0], arch.embed_channels, rngs=rngs)
        self.class_embedding = class_embedding(arch, rngs=rngs)
        self.down_blocks, skips = encoder(arch, dtype=dtype, rngs=rngs)
        self.mid_block = (
            None if arch.mid_block_type is None else Middle(arch, dtype=dtype, rngs=rngs)
        )
        self.up_blocks = decoder(arch, skips, dtype=dtype, rngs=rngs)
        self.conv_norm_out = GroupNorm(
            widths[0], num_groups=arch.norm_num_groups, eps=arch.norm_eps
        )
        self.conv_out = Conv(widths[0], arch.out_channels, rngs=rngs)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that rebuild the network, `UNet2DModel(**config, rngs=...)`, for JSON."""
        return self.arch.as_dict()

    @property
    def downsampling(self) -> int:
        """Height and width of a picture must be divisible by this."""
        return 2 ** (len(self.arch.block_out_channels) - 1)

    @property
    def num_classes(self) -> int | None:
        """Number of labels, if the network has a table of them."""
        return self.arch.num_class_embeds if self.arch.class_embed_type is None else None

    def __call__(
        self,
        x: jax.Array,
        t: jax.Array,
        y: jax.Array | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """Predicts the noise in `x`.

        Args:
            x: f[B, H, W, in_channels].
            t: int or float [B], the timestep as the network was trained to see it.
            y: of a class-conditional network, int[B], labels; with `class_embed_type` "timestep"
                int or float [B], with "identity" f[B, embed_channels].
            rngs: source of dropout (stream `dropout`); without it nothing is dropped.

        Returns:
            float32[B, H, W, out_channels].

        Raises:
            ValueError: for a shape or label that the network cannot take.
        """
        check_input(x, t, self.arch.in_channels, self.downsampling)
        emb = self.time_embedding(self._sinusoids(t)) + self._label(y, t)
        x = 2 * x - 1 if self.arch.center_input_sample else x
        h = self.conv_in(x.astype(self.dtype))
        skips = [h]
        for level in self.down_blocks:
            skips += level.down(skips[-1], emb, rngs)
        h = skips[-1] if self.mid_block is None else self.mid_block(skips[-1], emb, rngs)
        for level in self.up_blocks:
            h = level.up(h, skips, emb, rngs)
        return self.conv_out(self.conv_norm_out(h.astype(jnp.float32), silu=True))

    def _sinusoids(self, t: jax.Array) -> jax.Array:
        return timestep_embedding(
            t,
            self.arch.block_out_channels[0],
            freq_shift=self.arch.freq_shift,
            cosines_first=self.arch.flip_sin_to_cos,
        )

    def _label(self, y: jax.Array | None, t: jax.Array) -> jax.Array:
        """What the label adds to the time embedding, f[B, embed_channels]; 0 without classes."""
        kind = self.arch.class_embed_type
        if self.class_embedding is None and kind != "identity":
            if y is not None:
                raise ValueError(
                    "labels y were given, but this network knows no classes; leave them out"
                )
            return jnp.zeros((len(t), self.arch.embed_channels))
        shape = (*t.shape, self.arch.embed_channels) if kind == "identity" else t.shape
        if y is None or y.shape != shape:
            got = "none" if y is None else f"shape {y.shape}"
            labels = f"labels 0 .. {self.num_classes} - 1" if kind is None else kind
            raise ValueError(f"expected y of shape {shape} ({labels}); got {got}")
        if self.class_embedding is None:
            return y
        return self.class_embedding(self._sinusoids(y) if kind == "timestep" else y)


def class_embedding(
    arch: Architecture2D, *, rngs: nnx.Rngs
) -> TimestepEmbedding | LabelEmbedding | None:
    """What makes a vector of a label, where something does."""
    if arch.class_embed_type == "timestep":
        return TimestepEmbedding(arch.block_out_channels[0], arch.embed_channels, rngs=rngs)
    if arch.class_embed_type is None and arch.num_class_embeds is not None:
        return LabelEmbedding(arch.num_class_embeds, arch.embed_channels, rngs=rngs)
    return None


class Level(nnx.Module):
    """Residual blocks of one width, each with or without attention, then a halving or doubling."""

    def __init__(
        self,
        kind: str,
        fed: list[int],
        width: int,
        arch: Architecture2D,
        *,
        resample: Literal["down", "up"] | None,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """`kind` is the block's name in diffusers, `fed` the channels that each block takes."""
        self.resnets = nnx.List(
            [ResnetBlock(channels, width, arch, dtype=dtype, rngs=rngs) for channels in fed]
        )
        groups = arch.norm_num_groups
        self.attentions = nnx.List(
            [
                Attention(width, arch, num_groups=groups, dtype=dtype, rngs=rngs)
                for _ in (fed if kind.startswith("Attn") else ())
            ]
        )
        ends = (
            [] if resample is None else [level_end(kind, width, arch, resample, dtype, rngs=rngs)]
        )
        self.downsamplers = nnx.List(ends if resample == "down" else ())
        self.upsamplers = nnx.List(ends if resample == "up" else ())

    def down(self, h: jax.Array, emb: jax.Array, rngs: nnx.Rngs | None) -> list[jax.Array]:
        """f[B, H, W, in] -> the output of every block, and of the halving if there is one."""
        outputs = []
        for i, resnet in enumerate(self.resnets):
            h = run([resnet, *self.attentions[i : i + 1]], h, emb, rngs)
            outputs.append(h)
        for halving in self.downsamplers:
            outputs.append(run([halving], h, emb, rngs))
        return outputs

    def up(
        self, h: jax.Array, skips: list[jax.Array], emb: jax.Array, rngs: nnx.Rngs | None
    ) -> jax.Array:
        """f[B, H, W, in] -> f[B, 2H, 2W, width]; takes what it is fed from the end of `skips`."""
        for i, resnet in enumerate(self.resnets):
            h = jnp.concatenate([h, skips.pop()], axis=-1)
            h = run([resnet, *self.attentions[i : i + 1]], h, emb, rngs)
        return run(self.upsamplers, h, emb, rngs)


def level_end(
    kind: str,
    width: int,
    arch: Architecture2D,
    resample: Literal["down", "up"],
    dtype: DTypeLike,
    *,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """The layer between a level and the next; only blocks with attention leave a choice."""
    chosen = arch.downsample_type if resample == "down" else arch.upsample_type
    if kind.startswith("Resnet") or (kind.startswith("Attn") and chosen == "resnet"):
        return ResnetBlock(width, width, arch, resample=resample, dtype=dtype, rngs=rngs)
    return (Downsample if resample == "down" else Upsample)(width, arch, dtype=dtype, rngs=rngs)


class Middle(nnx.Module):
    """The layers at the lowest level, between encoder and decoder."""

    def __init__(self, arch: Architecture2D, *, dtype: DTypeLike, rngs: nnx.Rngs):
        width, divisor = arch.block_out_channels[-1], arch.mid_block_scale_factor
        first, last = (
            ResnetBlock(width, width, arch, divisor=divisor, dtype=dtype, rngs=rngs)
            for _ in range(2)
        )
        self.resnets = nnx.List([first, last])
        groups = arch.attn_norm_num_groups
        if groups is None and arch.resnet_time_scale_shift == "default":
            groups = arch.norm_num_groups
        self.attentions = nnx.List(
            [
                Attention(width, arch, num_groups=groups, divisor=divisor, dtype=dtype, rngs=rngs)
                for _ in range(arch.add_attention)
            ]
        )

    def __call__(self, h: jax.Array, emb: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """f[B, H, W, C] -> f[B, H, W, C]."""
        return run([self.resnets[0], *self.attentions, self.resnets[1]], h, emb, rngs)


def encoder(
    arch: Architecture2D, *, dtype: DTypeLike, rngs: nnx.Rngs
) -> tuple[nnx.List, list[int]]:
    """Levels from the picture down, and the channels of all that the decoder is fed."""
    widths, depth = arch.block_out_channels, arch.layers_per_block
    width = widths[0]
    levels, outputs = [], [width]
    for i, (kind, next_width) in enumerate(zip(arch.down_block_types, widths, strict=True)):
        fed = [width] + [next_width] * (depth - 1)
        resample: Literal["down"] | None = "down" if i < len(widths) - 1 else None
        levels.append(Level(kind, fed, next_width, arch, resample=resample, dtype=dtype, rngs=rngs))
        width = next_width
        outputs += [width] * (depth + (resample is not None))
    return nnx.List(levels), outputs


def decoder(
    arch: Architecture2D, skips: list[int], *, dtype: DTypeLike, rngs: nnx.Rngs
) -> nnx.List:
    """Levels from the lowest up to the picture; `skips` are the encoder's channels."""
    skips = list(skips)
    widths = arch.block_out_channels[::-1]
    width = widths[0]
    levels = []
    for i, (kind, next_width) in enumerate(zip(arch.up_block_types, widths, strict=True)):
        inputs = [width] + [next_width] * arch.layers_per_block
        fed = [channels + skips.pop() for channels in inputs]
        resample: Literal["up"] | None = "up" if i < len(widths) - 1 else None
        levels.append(Level(kind, fed, next_width, arch, resample=resample, dtype=dtype, rngs=rngs))
        width = next_width
    return nnx.List(levels)
