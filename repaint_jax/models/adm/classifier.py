"""The classifier of Dhariwal and Nichol (2021), guided-diffusion's `EncoderUNetModel`.

It takes noisy pictures. It is the encoder and middle of a U-Net, then attention pooling (Radford
et al., 2021): the mean of all pixels asks the pixels.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from repaint_jax.models.adm.blocks import (
    Architecture,
    TimeEmbedding,
    check_input,
    encoder,
    middle,
    run,
)
from repaint_jax.models.layers import GroupNorm, Linear, patchify, self_attention


class AttentionPool(nnx.Module):
    """Pools pixels by attention, of which only the mean's answer is kept."""

    def __init__(
        self,
        num_pixels: int,
        channels: int,
        out_channels: int,
        arch: Architecture,
        *,
        rngs: nnx.Rngs,
    ):
        self.num_heads = arch.heads(channels)
        noise = jax.random.normal(rngs.params(), (num_pixels + 1, channels))
        self.position = nnx.Param(noise / math.sqrt(channels))
        self.qkv_proj = Linear(channels, 3 * channels, rngs=rngs)
        self.out_proj = Linear(channels, out_channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """float32[B, H, W, C] -> float32[B, out_channels]."""
        pixels = x.reshape(x.shape[0], -1, x.shape[-1])
        tokens = jnp.concatenate([pixels.mean(1, keepdims=True), pixels], axis=1)
        qkv = self.qkv_proj(tokens + self.position[None])
        # The reference pools with the new order of q, k and v whatever the other blocks use.
        pooled = self_attention(qkv, self.num_heads, heads_first=False)
        return self.out_proj(pooled[:, 0])


class EncoderUNet(nnx.Module):
    """Noisy pictures and their timesteps -> logits of the classes."""

    def __init__(
        self,
        *,
        image_size: int,
        out_channels: int,
        pool: str = "attention",
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
        **arguments: Any,
    ):
        """Builds a classifier with fresh weights.

        Args:
            image_size: side of the pictures; attention pooling takes no other.
            out_channels: number of classes.
            pool: "attention", the only one that published classifiers use.
            dtype: in which convolutions and attention are computed; parameters are float32.
            rngs: source of the weights (stream `params`).
            **arguments: the other fields of `Architecture`.

        Raises:
            ValueError: if widths, groups, heads and levels do not fit each other, or for
                another `pool`.
        """
        if pool != "attention":
            raise ValueError(f"pool must be 'attention', no other is implemented; got {pool!r}")
        arch = Architecture(image_size=image_size, out_channels=out_channels, **arguments)
        if image_size % arch.downsampling:
            raise ValueError(
                f"image_size must be divisible by {arch.downsampling}, for {len(arch.widths)} "
                f"levels; got {image_size}"
            )
        self.arch = arch
        self.pool = pool
        self.dtype = jnp.dtype(dtype)
        width = arch.widths[-1]
        num_pixels = (image_size // arch.downsampling) ** 2
        self.time_embed = TimeEmbedding(arch.model_channels, rngs=rngs)
        self.down, _ = encoder(arch, dtype=dtype, rngs=rngs)
        self.middle = middle(arch, dtype=dtype, rngs=rngs)
        self.out_norm = GroupNorm(width)
        self.out_pool = AttentionPool(num_pixels, width, out_channels, arch, rngs=rngs)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that rebuild it, `EncoderUNet(**config, rngs=...)`, as JSON has them."""
        return {**self.arch.as_dict(), "pool": self.pool}

    @property
    def downsampling(self) -> int:
        """By how much the pooled pixels are fewer than the picture's, per side."""
        return self.arch.downsampling

    def __call__(self, x: jax.Array, t: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """f[B, image_size, image_size, in_channels], int or float [B] -> float32[B, classes].

        Dropout happens only with `rngs` (stream `dropout`). Raises ValueError for other shapes.
        """
        check_input(x, t, self.arch.in_channels, self.downsampling)
        if x.shape[1:3] != (self.arch.image_size, self.arch.image_size):
            raise ValueError(
                f"this classifier takes pictures of {self.arch.image_size} x "
                f"{self.arch.image_size}; got {x.shape[1]} x {x.shape[2]}"
            )
        emb = self.time_embed(t)
        h = patchify(x, self.arch.patch_size).astype(self.dtype)
        for block in self.down:
            h = run(block, h, emb, rngs)
        h = run(self.middle, h, emb, rngs)
        return self.out_pool(self.out_norm(h.astype(jnp.float32), silu=True))
