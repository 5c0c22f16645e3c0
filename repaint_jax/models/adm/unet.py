"""The U-Net of Dhariwal and Nichol (2021), guided-diffusion's `UNetModel`, in NHWC.

    encoder:  convolution, then per level `num_res_blocks` residual blocks and a halving
    middle:   residual block, attention, residual block
    decoder:  per level `num_res_blocks + 1` residual blocks, each fed one encoder output,
              and a doubling

Attention follows the residual blocks of the levels named in `attention_resolutions`; timestep
and label enter every residual block. A fresh network returns zeros, as the reference does.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from repaint_jax.models.adm.blocks import (
    Architecture,
    ResBlock,
    TimeEmbedding,
    Upsample,
    check_input,
    encoder,
    level_block,
    middle,
    run,
)
from repaint_jax.models.layers import Conv, GroupNorm, patchify, unpatchify


class UNet(nnx.Module):
    """Noisy pictures and their timesteps -> noise, or noise and variance."""

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
        **arguments: Any,
    ):
        """Builds a network with fresh weights.

        Args:
            num_classes: number of labels of a class-conditional network.
            dtype: in which convolutions and attention are computed; parameters are float32.
            rngs: source of the weights (stream `params`).
            **arguments: the fields of `Architecture`: model_channels, channel_mult,
                num_res_blocks, attention_resolutions and those with defaults.

        Raises:
            ValueError: if widths, groups, heads and levels do not fit each other.
        """
        self.arch = arch = Architecture(**arguments)
        self.num_classes = num_classes
        self.dtype = jnp.dtype(dtype)
        self.time_embed = TimeEmbedding(arch.model_channels, rngs=rngs)
        self.label_embed = (
            None
            if num_classes is None
            else nnx.Param(jax.random.normal(rngs.params(), (num_classes, 4 * arch.model_channels)))
        )
        self.down, skips = encoder(arch, dtype=dtype, rngs=rngs)
        self.middle = middle(arch, dtype=dtype, rngs=rngs)
        self.up = decoder(arch, skips, dtype=dtype, rngs=rngs)
        self.out_norm = GroupNorm(arch.widths[0])
        out_channels = arch.out_channels * arch.patch_size**2
        self.out_conv = Conv(arch.widths[0], out_channels, zero=True, rngs=rngs)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that rebuild the network, `UNet(**config, rngs=...)`, as JSON has them."""
        return {**self.arch.as_dict(), "num_classes": self.num_classes}

    @property
    def downsampling(self) -> int:
        """Height and width of a picture must be divisible by this."""
        return self.arch.downsampling

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
            y: int[B], labels of a class-conditional network.
            rngs: source of dropout (stream `dropout`); without it nothing is dropped.

        Returns:
            float32[B, H, W, out_channels].

        Raises:
            ValueError: for a shape or label that the network cannot take.
        """
        check_input(x, t, self.arch.in_channels, self.downsampling)
        emb = self.time_embed(t)
        if self.label_embed is not None:
            # A label out of range becomes NaN here; plain indexing would take the last one.
            emb = emb + jnp.take(self.label_embed[...], self._labels(y, t), axis=0, mode="fill")
        elif y is not None:
            raise ValueError(
                "labels y were given, but this network knows no classes; leave them out"
            )
        h = patchify(x, self.arch.patch_size).astype(self.dtype)
        skips = []
        for block in self.down:
            h = run(block, h, emb, rngs)
            skips.append(h)
        h = run(self.middle, h, emb, rngs)
        for block in self.up:
            h = run(block, jnp.concatenate([h, skips.pop()], axis=-1), emb, rngs)
        out = self.out_conv(self.out_norm(h.astype(jnp.float32), silu=True))
        return unpatchify(out, self.arch.patch_size)

    def _labels(self, y: jax.Array | None, t: jax.Array) -> jax.Array:
        if y is None or y.shape != t.shape:
            got = "none" if y is None else f"labels of shape {y.shape}"
            raise ValueError(
                f"expected a label 0 .. {self.num_classes} - 1 for each picture, y of shape "
                f"{t.shape}; got {got}"
            )
        return y


def decoder(arch: Architecture, skips: list[int], *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.List:
    """Blocks from the lowest level back to the picture; `skips` are the encoder's channels."""
    skips = list(skips)
    width = arch.widths[-1]
    blocks = []
    for level, next_width in reversed(list(enumerate(arch.widths))):
        for _ in range(arch.num_res_blocks + 1):
            fed = width + skips.pop()
            blocks.append(level_block(fed, next_width, level, arch, dtype=dtype, rngs=rngs))
            width = next_width
        if level:
            blocks[-1].append(double(width, arch, dtype=dtype, rngs=rngs))
    return nnx.List(blocks)


def double(channels: int, arch: Architecture, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Module:
    """The layer between a level of the decoder and the next."""
    if arch.resblock_updown:
        return ResBlock(channels, channels, arch, resample="up", dtype=dtype, rngs=rngs)
    return Upsample(channels, arch, dtype=dtype, rngs=rngs)
