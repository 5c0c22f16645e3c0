"""What guided-diffusion's two networks are built of: their arguments, blocks and encoder."""

import dataclasses
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from repaint_jax.models.layers import (
    Conv,
    GroupNorm,
    Linear,
    average_pool,
    self_attention,
    timestep_embedding,
    upsample_nearest,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """The constructor arguments that `UNet` and `EncoderUNet` share, named as in guided-diffusion.

    Attributes:
        model_channels: base width; a level is `channel_mult` times as wide.
        channel_mult: one factor a level, from the full picture down.
        num_res_blocks: residual blocks a level.
        attention_resolutions: levels with attention, as downsampling factors 1, 2, 4, ... (not as
            sides of the picture).
        image_size: side of the pictures the network was trained on; informative for `UNet`.
        in_channels: channels of the picture.
        out_channels: channels of the output; 6 for noise and variance of RGB.
        patch_size: the network sees each patch of so many pixels a side as one pixel of more
            channels (`patchify`), and its output is taken apart alike: 1 is guided-diffusion's.
        num_heads: attention heads, unless `num_head_channels` is given.
        num_head_channels: channels of a head; overrides `num_heads` (guided-diffusion's -1 is
            None here).
        use_scale_shift_norm: the timestep scales and shifts after the second normalisation, or is
            added before it.
        resblock_updown: residual blocks halve and double the picture, or single layers do.
        conv_resample: those single layers convolve, or only pool and repeat.
        use_new_attention_order: layout of the attention's channels; see `self_attention`.
        dropout: rate in the residual blocks while training.
    """

    model_channels: int
    channel_mult: tuple[float, ...]
    num_res_blocks: int
    attention_resolutions: tuple[int, ...]
    image_size: int | None = None
    in_channels: int = 3
    out_channels: int = 6
    patch_size: int = 1
    num_heads: int = 1
    num_head_channels: int | None = None
    use_scale_shift_norm: bool = True
    resblock_updown: bool = True
    conv_resample: bool = True
    use_new_attention_order: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel_mult", tuple(self.channel_mult))
        object.__setattr__(self, "attention_resolutions", tuple(self.attention_resolutions))
        check_arguments(self, len(self.channel_mult), self.num_res_blocks)
        if self.patch_size < 1:
            raise ValueError(f"patch_size must be 1 or more pixels; got {self.patch_size}")
        if any(width % 32 for width in self.widths):
            raise ValueError(
                "every level's width must be divisible by the 32 groups of GroupNorm; "
                f"model_channels={self.model_channels} times channel_mult={self.channel_mult} "
                f"gives {self.widths}"
            )
        factors = [2**level for level in range(len(self.widths))]
        if not set(self.attention_resolutions) <= set(factors):
            raise ValueError(
                f"attention_resolutions are downsampling factors, not picture sides: expected some "
                f"of {factors} for {len(factors)} levels; got {list(self.attention_resolutions)}"
            )
        for factor, width in zip(factors, self.widths, strict=True):
            if factor in self.attention_resolutions or factor == factors[-1]:
                self.heads(width)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every level."""
        return tuple(int(mult * self.model_channels) for mult in self.channel_mult)

    @property
    def downsampling(self) -> int:
        """By how much the lowest level is smaller than the picture."""
        return self.patch_size * 2 ** (len(self.channel_mult) - 1)

    def heads(self, width: int) -> int:
        """Number of attention heads over `width` channels."""
        share = self.num_heads if self.num_head_channels is None else self.num_head_channels
        if share < 1 or width % share:
            kind = "heads" if self.num_head_channels is None else "channels a head"
            raise ValueError(
                f"attention over {width} channels cannot be split evenly with {share} {kind}; "
                "set num_heads or num_head_channels to what the network was trained with"
            )
        return share if self.num_head_channels is None else width // share

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return json_fields(self)


def json_fields(arch: Any) -> dict[str, Any]:
    """The fields of a dataclass of arguments as JSON has them."""
    fields = dataclasses.asdict(arch)
    return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}


def check_arguments(arch: Any, num_levels: int, blocks_a_level: int) -> None:
    """Checks a dataclass of arguments, which may come from any file.

    Raises:
        ValueError: a field is of another type than its annotation, or there is no level, or there
            are more residual blocks than any network has, which would take for ever to build.
    """
    for name, hint in get_type_hints(type(arch)).items():
        if not _is_of(getattr(arch, name), hint):
            kind = hint if get_args(hint) else hint.__name__
            raise ValueError(f"{name}: expected {kind}, got {getattr(arch, name)!r}")
    if num_levels < 1 or not 0 <= num_levels * blocks_a_level <= 200:
        raise ValueError(
            "expected at least one level and 0 to 200 residual blocks in the encoder; got "
            f"{num_levels} levels of {blocks_a_level} blocks"
        )


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; NumPy's numbers are numbers, True is none."""
    parts = get_args(hint)
    if get_origin(hint) is tuple:
        length = len(parts) if parts[-1] is not ... else None
        return (
            isinstance(value, tuple)
            and length in (None, len(value))
            and all(_is_of(element, parts[0]) for element in value)
        )
    if parts:
        return any(_is_of(value, part) for part in parts)
    kind = {int: Integral, float: Real}.get(hint, hint)
    return isinstance(value, kind) and (hint is bool or not isinstance(value, bool))


class TimeEmbedding(nnx.Module):
    """Sinusoids of the timestep through a perceptron, four times as wide as the network."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.linear_in = Linear(channels, 4 * channels, rngs=rngs)
        self.linear_out = Linear(4 * channels, 4 * channels, rngs=rngs)

    def __call__(self, t: jax.Array) -> jax.Array:
        """[B] -> float32[B, 4 * channels]."""
        sinusoids = timestep_embedding(t, self.linear_in.kernel.shape[0])
        return self.linear_out(jax.nn.silu(self.linear_in(sinusoids)))


class ResBlock(nnx.Module):
    """x + h, h = conv(act(norm(conv(act(norm(x))); t)))), at the same, half or twice the size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        arch: Architecture,
        *,
        resample: Literal["down", "up"] | None = None,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.film = arch.use_scale_shift_norm
        self.resample = resample
        self.norm_in = GroupNorm(in_channels)
        self.conv_in = Conv(in_channels, out_channels, dtype=dtype, rngs=rngs)
        embed_width = 2 * out_channels if self.film else out_channels
        self.embed = Linear(4 * arch.model_channels, embed_width, rngs=rngs)
        self.norm_out = GroupNorm(out_channels)
        self.dropout = nnx.Dropout(arch.dropout)
        self.conv_out = Conv(out_channels, out_channels, zero=True, dtype=dtype, rngs=rngs)
        self.skip = (
            None
            if in_channels == out_channels
            else Conv(in_channels, out_channels, size=1, dtype=dtype, rngs=rngs)
        )

    def __call__(self, x: jax.Array, emb: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """(f[B, H, W, in], float32[B, E]) -> f[B, H', W', out]; drops out only with `rngs`."""
        h = self.norm_in(x, silu=True)
        if self.resample is not None:
            resize = average_pool if self.resample == "down" else upsample_nearest
            x, h = resize(x), resize(h)
        h = self.conv_in(h)
        emb = self.embed(jax.nn.silu(emb))
        if self.film:
            h = self.norm_out(h, *jnp.split(emb, 2, axis=-1), silu=True)
        else:
            h = self.norm_out(h + emb[:, None, None, :].astype(h.dtype), silu=True)
        h = self.dropout(h, deterministic=rngs is None, rngs=rngs)
        return (x if self.skip is None else self.skip(x)) + self.conv_out(h)


class AttentionBlock(nnx.Module):
    """x + proj(attention(norm(x))) over all pixels."""

    def __init__(self, channels: int, arch: Architecture, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.num_heads = arch.heads(channels)
        self.heads_first = not arch.use_new_attention_order
        self.norm = GroupNorm(channels)
        self.qkv = Linear(channels, 3 * channels, dtype=dtype, rngs=rngs)
        self.proj = Linear(channels, channels, zero=True, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, C] -> f[B, H, W, C]."""
        b, h, w, c = x.shape
        qkv = self.qkv(self.norm(x).reshape(b, h * w, c))
        out = self.proj(self_attention(qkv, self.num_heads, heads_first=self.heads_first))
        return x + out.reshape(b, h, w, c)


class Downsample(nnx.Module):
    """Halves the picture, by a strided convolution or by pooling."""

    def __init__(self, channels: int, arch: Architecture, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv_down = (
            Conv(channels, channels, stride=2, dtype=dtype, rngs=rngs)
            if arch.conv_resample
            else None
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, C] -> f[B, H/2, W/2, C]."""
        return average_pool(x) if self.conv_down is None else self.conv_down(x)


class Upsample(nnx.Module):
    """Doubles the picture by repeating pixels, with or without a convolution."""

    def __init__(self, channels: int, arch: Architecture, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv_up = (
            Conv(channels, channels, dtype=dtype, rngs=rngs) if arch.conv_resample else None
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, C] -> f[B, 2H, 2W, C]."""
        x = upsample_nearest(x)
        return x if self.conv_up is None else self.conv_up(x)


def halve(channels: int, arch: Architecture, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Module:
    """The layer between a level of the encoder and the next."""
    if arch.resblock_updown:
        return ResBlock(channels, channels, arch, resample="down", dtype=dtype, rngs=rngs)
    return Downsample(channels, arch, dtype=dtype, rngs=rngs)


def level_block(
    in_channels: int,
    out_channels: int,
    level: int,
    arch: Architecture,
    *,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> nnx.List:
    """A residual block, and attention if the level has it."""
    layers: list[nnx.Module] = [ResBlock(in_channels, out_channels, arch, dtype=dtype, rngs=rngs)]
    if 2**level in arch.attention_resolutions:
        layers.append(AttentionBlock(out_channels, arch, dtype=dtype, rngs=rngs))
    return nnx.List(layers)


def encoder(arch: Architecture, *, dtype: DTypeLike, rngs: nnx.Rngs) -> tuple[nnx.List, list[int]]:
    """Blocks from the picture to the lowest level, and the channels that each puts out."""
    width = arch.widths[0]
    channels = arch.in_channels * arch.patch_size**2
    blocks: list[nnx.List] = [nnx.List([Conv(channels, width, dtype=dtype, rngs=rngs)])]
    outputs = [width]
    for level, next_width in enumerate(arch.widths):
        if level:
            blocks.append(nnx.List([halve(width, arch, dtype=dtype, rngs=rngs)]))
            outputs.append(width)
        for _ in range(arch.num_res_blocks):
            blocks.append(level_block(width, next_width, level, arch, dtype=dtype, rngs=rngs))
            width = next_width
            outputs.append(width)
    return nnx.List(blocks), outputs


def middle(arch: Architecture, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.List:
    """The blocks at the lowest level, between encoder and decoder."""
    width = arch.widths[-1]
    return nnx.List(
        [
            ResBlock(width, width, arch, dtype=dtype, rngs=rngs),
            AttentionBlock(width, arch, dtype=dtype, rngs=rngs),
            ResBlock(width, width, arch, dtype=dtype, rngs=rngs),
        ]
    )


def run(block: nnx.List, h: jax.Array, emb: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
    """The layers of a block in turn; the residual ones are told the time."""
    for layer in block:
        h = layer(h, emb, rngs) if isinstance(layer, ResBlock) else layer(h)
    return h


def check_input(x: jax.Array, t: jax.Array, in_channels: int, factor: int) -> None:
    """Raises ValueError unless x is f[B, H, W, in_channels], multiples of `factor`, and t [B]."""
    if x.ndim != 4 or x.shape[-1] != in_channels:
        raise ValueError(
            f"expected pictures [B, H, W, {in_channels}]; got an array of shape {x.shape}"
        )
    if any(side == 0 or side % factor for side in x.shape[1:3]):
        mended = " x ".join(str(max(factor, -(-side // factor) * factor)) for side in x.shape[1:3])
        raise ValueError(
            f"expected height and width divisible by {factor}; got "
            f"{x.shape[1]} x {x.shape[2]}: pad or resize to {mended}"
        )
    if t.shape != x.shape[:1]:
        raise ValueError(
            f"expected a timestep for each picture, shape ({x.shape[0]},); got shape {t.shape}"
        )
