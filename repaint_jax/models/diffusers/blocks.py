"""What diffusers' `UNet2DModel` is built of: its arguments and layers.

Attributes are named as diffusers names its tensors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from repaint_jax.models.adm.blocks import check_arguments, json_fields
from repaint_jax.models.layers import (
    Conv,
    GroupNorm,
    Linear,
    attention,
    average_pool,
    upsample_nearest,
)

_ACTIVATIONS = {
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "mish": jax.nn.mish,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "relu": jax.nn.relu,
}
_KNOWN: dict[str, tuple[Any, ...]] = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "mid_block_type": ("UNetMidBlock2D", None),
    "time_embedding_type": ("positional",),
    "class_embed_type": (None, "timestep", "identity"),
    "downsample_padding": (0, 1),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "act_fn": tuple(_ACTIVATIONS),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture2D:
    """The constructor arguments of `UNet2DModel`, with diffusers' names and defaults.

    Attributes:
        sample_size: side of the training pictures, or height and width; informative.
        in_channels: channels of the input.
        out_channels: channels of the output; 6 for noise and variance of RGB.
        center_input_sample: pictures are taken in [0, 1] and brought to [-1, 1].
        time_embedding_type: "positional", sinusoids.
        time_embedding_dim: width of the time embedding; four times the first level's if None.
        freq_shift: how the sinusoids' frequencies are spread; see `timestep_embedding`.
        flip_sin_to_cos: cosines before sines.
        down_block_types: a block's name a level, from the full picture down.
        mid_block_type: "UNetMidBlock2D" or None, for no middle.
        up_block_types: a block's name a level, from the lowest up.
        block_out_channels: channels a level, from the full picture down.
        layers_per_block: residual blocks a level of the encoder.
        mid_block_scale_factor: what the sums of the middle's residual branches are divided by.
        downsample_padding: zeros around a picture that a convolution halves; with 0, one row and
            one column after it.
        downsample_type: `AttnDownBlock2D` halves by "conv" or a "resnet" block.
        upsample_type: `AttnUpBlock2D` doubles by "conv" or a "resnet" block.
        dropout: rate in the residual blocks while training.
        act_fn: activation in the residual blocks.
        attention_head_dim: channels of an attention head; None for a single head.
        norm_num_groups: groups of GroupNorm.
        attn_norm_num_groups: those of the middle's attention; if None, `norm_num_groups`, or with
            "scale_shift" no normalisation at all.
        norm_eps: epsilon of GroupNorm.
        resnet_time_scale_shift: the embedding is added before the second normalisation ("default")
            or scales and shifts after it ("scale_shift").
        add_attention: the middle has attention.
        class_embed_type: how labels are embedded: "timestep", as times are; "identity", not at
            all; None, by a table if `num_class_embeds` is given.
        num_class_embeds: number of labels.
        num_train_timesteps: not used by sinusoids.
    """

    sample_size: int | tuple[int, int] | None = None
    in_channels: int = 3
    out_channels: int = 3
    center_input_sample: bool = False
    time_embedding_type: str = "positional"
    time_embedding_dim: int | None = None
    freq_shift: float = 0
    flip_sin_to_cos: bool = True
    down_block_types: tuple[str, ...] = ("DownBlock2D", *["AttnDownBlock2D"] * 3)
    mid_block_type: str | None = "UNetMidBlock2D"
    up_block_types: tuple[str, ...] = (*["AttnUpBlock2D"] * 3, "UpBlock2D")
    block_out_channels: tuple[int, ...] = (224, 448, 672, 896)
    layers_per_block: int = 2
    mid_block_scale_factor: float = 1
    downsample_padding: int = 1
    downsample_type: str = "conv"
    upsample_type: str = "conv"
    dropout: float = 0.0
    act_fn: str = "silu"
    attention_head_dim: int | None = 8
    norm_num_groups: int = 32
    attn_norm_num_groups: int | None = None
    norm_eps: float = 1e-5
    resnet_time_scale_shift: str = "default"
    add_attention: bool = True
    class_embed_type: str | None = None
    num_class_embeds: int | None = None
    num_train_timesteps: int | None = None

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            if isinstance(value, list):
                object.__setattr__(self, field, tuple(value))
        check_arguments(self, len(self.block_out_channels), self.layers_per_block)
        for field in ("down_block_types", "up_block_types"):
            # As early versions of diffusers called the same blocks.
            names = tuple(name.removeprefix("UNetRes") for name in getattr(self, field))
            object.__setattr__(self, field, names)
        for field, known in _KNOWN.items():
            value = getattr(self, field)
            for choice in value if isinstance(value, tuple) else (value,):
                if choice not in known:
                    listed = ", ".join(map(str, known))
                    raise ValueError(f"{field}: {choice!r} is not supported; known are {listed}")
        if self.layers_per_block < 1:
            raise ValueError(f"layers_per_block: at least 1, not {self.layers_per_block}")
        levels = len(self.block_out_channels)
        if not len(self.down_block_types) == len(self.up_block_types) == levels:
            raise ValueError(
                "expected as many down_block_types and up_block_types as block_out_channels; got "
                f"{len(self.down_block_types)}, {len(self.up_block_types)} and {levels}"
            )

    @property
    def embed_channels(self) -> int:
        """Width of the time embedding."""
        return self.time_embedding_dim or 4 * self.block_out_channels[0]

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return json_fields(self)


class TimestepEmbedding(nnx.Module):
    """The perceptron behind the sinusoids."""

    def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs):
        self.linear_1 = Linear(in_channels, out_channels, rngs=rngs)
        self.linear_2 = Linear(out_channels, out_channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """float32[B, in_channels] -> float32[B, out_channels]."""
        return self.linear_2(jax.nn.silu(self.linear_1(x)))


class LabelEmbedding(nnx.Module):
    """A vector for each label."""

    def __init__(self, num_labels: int, channels: int, *, rngs: nnx.Rngs):
        self.table = nnx.Param(jax.random.normal(rngs.params(), (num_labels, channels)))

    def __call__(self, y: jax.Array) -> jax.Array:
        """int[B] -> float32[B, channels]."""
        return self.table[y]


class ResnetBlock(nnx.Module):
    """(x + h) / divisor, h = conv(act(norm(conv(act(norm(x))); t))), at any of three sizes."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        arch: Architecture2D,
        *,
        divisor: float = 1,
        resample: Literal["down", "up"] | None = None,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        groups, eps = arch.norm_num_groups, arch.norm_eps
        self.film = arch.resnet_time_scale_shift == "scale_shift"
        self.act_fn = arch.act_fn
        self.divisor = divisor
        self.resample = resample
        self.norm1 = GroupNorm(in_channels, num_groups=groups, eps=eps)
        self.conv1 = Conv(in_channels, out_channels, dtype=dtype, rngs=rngs)
        embed_width = 2 * out_channels if self.film else out_channels
        self.time_emb_proj = Linear(arch.embed_channels, embed_width, rngs=rngs)
        self.norm2 = GroupNorm(out_channels, num_groups=groups, eps=eps)
        self.dropout = nnx.Dropout(arch.dropout)
        self.conv2 = Conv(out_channels, out_channels, dtype=dtype, rngs=rngs)
        self.conv_shortcut = (
            None
            if in_channels == out_channels
            else Conv(in_channels, out_channels, size=1, dtype=dtype, rngs=rngs)
        )

    def __call__(self, x: jax.Array, emb: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """(f[B, H, W, in], float32[B, E]) -> f[B, H', W', out]; drops out only with `rngs`."""
        h = self._activated(self.norm1, x)
        if self.resample is not None:
            resize = average_pool if self.resample == "down" else upsample_nearest
            x, h = resize(x), resize(h)
        h = self.conv1(h)
        emb = self.time_emb_proj(_ACTIVATIONS[self.act_fn](emb))
        if self.film:
            h = self._activated(self.norm2, h, *jnp.split(emb, 2, axis=-1))
        else:
            h = self._activated(self.norm2, h + emb[:, None, None, :].astype(h.dtype))
        h = self.dropout(h, deterministic=rngs is None, rngs=rngs)
        x = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return (x + self.conv2(h)) / self.divisor

    def _activated(self, norm: GroupNorm, *arguments: jax.Array) -> jax.Array:
        """The activation of a normalisation, in one pass where it is SiLU."""
        act = _ACTIVATIONS[self.act_fn]
        silu = act is jax.nn.silu
        h = norm(*arguments, silu=silu)
        return h if silu else act(h)


class Attention(nnx.Module):
    """(x + out(attention(norm(x)))) / divisor over all pixels."""

    def __init__(
        self,
        channels: int,
        arch: Architecture2D,
        *,
        num_groups: int | None,
        divisor: float = 1,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """`num_groups` None leaves the normalisation out."""
        self.head_dim = arch.attention_head_dim or channels
        if self.head_dim > channels:
            raise ValueError(
                f"attention_head_dim: a head of {self.head_dim} channels does not fit into a "
                f"level of {channels}; null makes one head of all"
            )
        width = channels // self.head_dim * self.head_dim  # less than `channels` if uneven
        self.divisor = divisor
        self.group_norm = (
            None
            if num_groups is None
            else GroupNorm(channels, num_groups=num_groups, eps=arch.norm_eps)
        )
        self.to_q = Linear(channels, width, dtype=dtype, rngs=rngs)
        self.to_k = Linear(channels, width, dtype=dtype, rngs=rngs)
        self.to_v = Linear(channels, width, dtype=dtype, rngs=rngs)
        self.to_out = nnx.List([Linear(width, channels, dtype=dtype, rngs=rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, C] -> f[B, H, W, C]."""
        b, h, w, c = x.shape
        tokens = (x if self.group_norm is None else self.group_norm(x)).reshape(b, h * w, c)
        q, k, v = (
            project(tokens).reshape(b, h * w, -1, self.head_dim)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        return (x + self.to_out[0](attention(q, k, v)).reshape(x.shape)) / self.divisor


class Downsample(nnx.Module):
    """Halves the picture by a strided convolution."""

    def __init__(self, channels: int, arch: Architecture2D, *, dtype: DTypeLike, rngs: nnx.Rngs):
        padding = (1, 1) if arch.downsample_padding else (0, 1)
        self.conv = Conv(channels, channels, stride=2, padding=padding, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, C] -> f[B, H/2, W/2, C]."""
        return self.conv(x)


class Upsample(nnx.Module):
    """Doubles the picture by repeating pixels, then convolves."""

    def __init__(self, channels: int, arch: Architecture2D, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv = Conv(channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, C] -> f[B, 2H, 2W, C]."""
        return self.conv(upsample_nearest(x))


def run(
    layers: Iterable[nnx.Module], h: jax.Array, emb: jax.Array, rngs: nnx.Rngs | None
) -> jax.Array:
    """The layers in turn; the residual ones are told the time."""
    for layer in layers:
        h = layer(h, emb, rngs) if isinstance(layer, ResnetBlock) else layer(h)
    return h
