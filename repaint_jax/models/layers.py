"""Layers that the networks share. Pictures are NHWC, parameters are float32.

Each layer takes `dtype`, in which its product is computed; statistics and softmax are always
float32. A layer keeps nothing but parameters and plain values, so that two networks of one
configuration are pytrees of one structure and new weights never recompile.
"""

import math
import re
from functools import cache, partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from repaint_jax.models.kernels.convolution import convolve
from repaint_jax.models.kernels.normalization import normalize

Network = TypeVar("Network", bound=nnx.Module)


class Linear(nnx.Module):
    """x @ kernel + bias over the last axis; also a 1x1 convolution over flattened pixels."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        zero: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """`zero` starts the layer as the constant 0; without `bias` it has none."""
        shape = (in_features, out_features)
        self.kernel, drawn = _kernel_and_bias(shape, zero, rngs)
        self.bias = drawn if bias else None
        self.dtype = jnp.dtype(dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """f[..., in_features] -> f[..., out_features]."""
        x, kernel = x.astype(self.dtype), self.kernel.astype(self.dtype)
        y = jnp.matmul(x, kernel, preferred_element_type=dtype_of_sums()).astype(self.dtype)
        if self.bias is None:
            return y
        return y + jnp.broadcast_to(self.bias.astype(self.dtype), y.shape)


class Conv(nnx.Module):
    """Convolution with an odd square kernel, padded with zeros."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int = 3,
        *,
        stride: int = 1,
        padding: tuple[int, int] | None = None,
        zero: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """`zero` starts the layer as the constant 0.

        `padding` is how many zeros go before and after the pixels, in height and in width; half
        the kernel on all sides, whatever the stride, if it is None.
        """
        shape = (size, size, in_channels, out_channels)
        self.kernel, self.bias = _kernel_and_bias(shape, zero, rngs)
        self.stride = stride
        # Not "SAME", which pads a stride of 2 on one side only.
        self.padding = (size // 2, size // 2) if padding is None else padding
        self.dtype = jnp.dtype(dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """f[B, H, W, in_channels] -> f[B, H/stride, W/stride, out_channels]."""
        return convolve(
            x.astype(self.dtype),
            self.kernel.astype(self.dtype),
            self.bias.astype(self.dtype),
            stride=self.stride,
            padding=self.padding,
        )


def _kernel_and_bias(
    shape: tuple[int, ...], zero: bool, rngs: nnx.Rngs
) -> tuple[nnx.Param, nnx.Param]:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for both, or zeros."""
    if zero:
        return nnx.Param(jnp.zeros(shape)), nnx.Param(jnp.zeros(shape[-1:]))
    size, bound = math.prod(shape), 1 / math.sqrt(math.prod(shape[:-1]))
    # One flat draw for both: generators of many dimensions take seconds to compile.
    flat = jax.random.uniform(rngs.params(), (size + shape[-1],), jnp.float32, -bound, bound)
    return nnx.Param(flat[:size].reshape(shape)), nnx.Param(flat[size:])


def in_computing_dtype(model: Network) -> Network:
    """Casts the parameters of products to the dtype these are computed in, once and for all.

    For a network that is not trained any more: it computes the same, bit for bit, but each call
    reads 16 bits a weight instead of reading 32, writing 16 and reading them again.
    """
    for _, module in nnx.iter_modules(model):
        if isinstance(module, Linear | Conv):
            for parameter in (module.kernel, module.bias):
                if parameter is not None and parameter.dtype != module.dtype:
                    parameter.set_value(parameter[...].astype(module.dtype))
    return model


class GroupNorm(nnx.Module):
    """Group normalisation (Wu and He, 2018), optionally modulated by FiLM (Perez et al., 2018)."""

    def __init__(self, channels: int, *, num_groups: int = 32, eps: float = 1e-5):
        """Raises ValueError if the groups cannot share the channels evenly."""
        if channels % num_groups:
            raise ValueError(
                f"GroupNorm needs channels divisible by {num_groups} groups; got {channels}"
            )
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.num_groups = num_groups
        self.eps = eps

    def __call__(
        self,
        x: jax.Array,
        scale: jax.Array | None = None,
        shift: jax.Array | None = None,
        *,
        silu: bool = False,
    ) -> jax.Array:
        """norm(x) * (1 + scale) + shift, and then SiLU if `silu`.

        Args:
            x: f[B, H, W, C].
            scale: float32[B, C], together with `shift`, or neither.
            shift: float32[B, C].
            silu: whether y * sigmoid(y) is returned in the place of y.
        """
        shape = x.shape[0], x.shape[-1]
        gain, offset = (jnp.broadcast_to(p[...], shape) for p in (self.scale, self.bias))
        if scale is not None and shift is not None:
            gain, offset = gain * (1 + scale), offset * (1 + scale) + shift
        return normalize(x, gain, offset, num_groups=self.num_groups, eps=self.eps, silu=silu)


def timestep_embedding(
    t: jax.Array,
    channels: int,
    max_period: float = 10_000.0,
    *,
    freq_shift: float = 0.0,
    cosines_first: bool = True,
) -> jax.Array:
    """Sinusoids of the timestep: cos(t w_i) for all i, then sin(t w_i), or the other way round.

    The frequencies are w_i = max_period^(-i / (channels/2 - freq_shift)), i = 0 .. channels/2 - 1.

    Args:
        t: int or float [B].
        channels: width of the embedding, even.
        max_period: bound on the slowest period, over 2 pi.
        freq_shift: 1 makes `max_period` the slowest period over 2 pi itself, as in DDPM's code.
        cosines_first: False puts the sines first, as in DDPM's code.

    Returns:
        float32[B, channels].
    """
    if channels % 2:
        raise ValueError(f"a timestep embedding has an even width; got {channels}")
    half = channels // 2
    frequencies = max_period ** (-np.arange(half) / (half - freq_shift))
    phase = t.astype(jnp.float32)[:, None] * jnp.asarray(frequencies, jnp.float32)[None, :]
    waves = (jnp.cos(phase), jnp.sin(phase))
    return jnp.concatenate(waves if cosines_first else waves[::-1], axis=-1)


def upsample_nearest(x: jax.Array) -> jax.Array:
    """Each pixel becomes 2x2: [B, H, W, C] -> [B, 2H, 2W, C]."""
    b, h, w, c = x.shape
    wide = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c))
    return wide.reshape(b, 2 * h, 2 * w, c)


def average_pool(x: jax.Array) -> jax.Array:
    """Mean of each 2x2 block: [B, H, W, C] -> [B, H/2, W/2, C]."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def patchify(x: jax.Array, size: int) -> jax.Array:
    """Pixels of a patch become channels: [B, H, W, C] -> [B, H/size, W/size, C * size^2].

    Channel c * size^2 + y * size + x is channel c of the patch's pixel (y, x), as in PyTorch's
    `pixel_unshuffle`.
    """
    b, h, w, c = x.shape
    patches = x.reshape(b, h // size, size, w // size, size, c)
    return patches.transpose(0, 1, 3, 5, 2, 4).reshape(b, h // size, w // size, c * size**2)


def unpatchify(x: jax.Array, size: int) -> jax.Array:
    """The inverse of `patchify`."""
    b, h, w, c = x.shape
    pixels = x.reshape(b, h, w, c // size**2, size, size).transpose(0, 1, 4, 2, 5, 3)
    return pixels.reshape(b, h * size, w * size, c // size**2)


def self_attention(qkv: jax.Array, num_heads: int, *, heads_first: bool) -> jax.Array:
    """softmax(q k^T / sqrt(c)) v for each head of c channels.

    Args:
        qkv: f[B, N, 3 * num_heads * c], N tokens.
        num_heads: number of heads.
        heads_first: how the last axis is laid out. True (guided-diffusion's legacy order): a head
            after the other, each with its q, k and v. False (its "new" order): the queries of all
            heads, then the keys, then the values.

    Returns:
        f[B, N, num_heads * c], in the dtype of `qkv`.
    """
    b, n, width = qkv.shape
    c = width // (3 * num_heads)
    layout = (b, n, num_heads, 3, c) if heads_first else (b, n, 3, num_heads, c)
    return attention(*jnp.moveaxis(qkv.reshape(layout), 3 if heads_first else 2, 0))


def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """softmax(q k^T / sqrt(c)) v by heads: three f[B, N, heads, c] -> f[B, N, heads * c].

    On an NVIDIA GPU it is one kernel of cuDNN, which keeps no N x N array, where that takes the
    dtype and the shape. The platform is settled when the network is lowered.
    """
    b, n, heads, c = q.shape
    if not fused_attention_takes(q):
        return plain_attention(q, k, v).reshape(b, n, heads * c)
    fused = partial(jax.nn.dot_product_attention, implementation="cudnn")
    out = lax.platform_dependent(q, k, v, cuda=fused, default=plain_attention)
    return out.reshape(b, n, heads * c)


def plain_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """The same product by product: three f[B, N, heads, c] -> f[B, N, heads, c]."""
    root = q.shape[-1] ** -0.25  # half of 1/sqrt(c) on each side: small products in 16 bits
    logits = jnp.einsum("bqhc,bkhc->bhqk", q * root, k * root, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    sums = jnp.einsum("bhqk,bkhc->bqhc", weights, v, preferred_element_type=dtype_of_sums())
    return sums.astype(v.dtype)


def dtype_of_sums() -> DTypeLike | None:
    """In what products of matrices add up before they are rounded; None for XLA's choice.

    XLA:CPU is up to eleven times slower in bfloat16 if it is not told to keep float32, and what it
    makes of a picture depends on how many there are.
    """
    return jnp.float32 if jax.default_backend() == "cpu" else None


def fused_attention_takes(q: jax.Array) -> bool:
    """Whether a GPU of this process has cuDNN's attention for f[B, N, heads, c]."""
    c = q.shape[-1]
    fits = q.dtype in (jnp.bfloat16, jnp.float16) and c % 8 == 0 and c <= 128
    return fits and cuda_capability() >= (8, 0)


@cache
def cuda_capability() -> tuple[int, ...]:
    """The least compute capability of this process's NVIDIA GPUs, as (9, 0); (0, 0) without any.

    JAX asks cuDNN while it traces, so this must be known before the platform is.
    """
    said = (getattr(device, "compute_capability", "") for device in jax.local_devices())
    found = [text.split(".") for text in said if re.fullmatch(r"\d+\.\d+", text)]  # AMD's differ
    return min((tuple(map(int, parts)) for parts in found), default=(0, 0))
