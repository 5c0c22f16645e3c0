"""The networks that are timed: diffusers' `UNet2DModel`, which PyTorch has as well.

"adm" is the U-Net of guided-diffusion, put together from diffusers' blocks: at 256x256 it has the
552.8 M weights and 2.24 TFLOP of the published models, at 64x64 (64 channels) 25.1 M and 17.7
GFLOP. "ddpm" is the one of Ho et al. (2020), google/ddpm-ema-celebahq-256 and ddpm-cifar10-32.
"faces" is built as the model of 64x64 faces in the box, to which 2x2 pixels are one of 12 channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from repaint_jax.checkpoints.parameters import abstract_model, fill, parameter_shapes
from repaint_jax.models import UNet2DModel
from repaint_jax.models.kernels.onednn import left_out
from repaint_jax.models.layers import in_computing_dtype, patchify, unpatchify

WIDTHS: dict[str, dict[int, tuple[int, ...]]] = {
    "adm": {32: (64, 128, 128, 128), 64: (64, 128, 192, 256),
            256: (256, 256, 512, 512, 1024, 1024)},
    "ddpm": {32: (128, 256, 256, 256), 64: (64, 128, 192, 256),
             256: (128, 128, 256, 256, 512, 512)},
    "faces": {64: (64, 128, 256)},
}  # fmt: skip


def unet_config(network: str, size: int, widths: Sequence[int] | None = None) -> dict[str, Any]:
    """Arguments of `UNet2DModel`, here and in diffusers.

    Args:
        network: "adm", "ddpm" or "faces".
        size: side of the pictures.
        widths: channels a level, multiples of 32; the published ones of that size if None.

    Returns:
        The arguments, and `patch_size`: pixels, a side, that are one of the network's.

    Raises:
        ValueError: no widths are known for the size.
    """
    if widths is None and size not in WIDTHS[network]:
        known = ", ".join(map(str, WIDTHS[network]))
        raise ValueError(
            f"--size: widths are known for {known}, not for {size}; give them, "
            "for instance --widths=64,128,128"
        )
    widths = tuple(widths or WIDTHS[network][size])
    if wrong := [width for width in widths if width % 32 or not width]:
        raise ValueError(f"--widths: multiples of the 32 groups of the norms, not {wrong[0]}")
    levels = range(len(widths))
    patch_size = 2 if network == "faces" else 1
    common: dict[str, Any] = {
        "sample_size": size // patch_size,
        "in_channels": 3 * patch_size**2,
        "out_channels": 3 * patch_size**2,
        "block_out_channels": widths,
        "layers_per_block": 2,
        "patch_size": patch_size,
    }
    if network == "ddpm":
        attends = [size >> level == 16 for level in levels]
        google = {"downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1}
        return {**common, **_blocks(attends, "DownBlock2D", "UpBlock2D"), **google,
                "attention_head_dim": None, "norm_eps": 1e-6}  # fmt: skip
    attends = [level >= len(widths) // 2 for level in levels]
    return {
        **common,
        **_blocks(attends, "ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"),
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "attention_head_dim": min(32 if network == "faces" else 64, *widths),
        "attn_norm_num_groups": 32,
    }


def _blocks(attends: Sequence[bool], down: str, up: str) -> dict[str, tuple[str, ...]]:
    return {
        "down_block_types": tuple("AttnDownBlock2D" if yes else down for yes in attends),
        "up_block_types": tuple("AttnUpBlock2D" if yes else up for yes in attends[::-1]),
    }


class Patched(nnx.Module):
    """A network for which patches of pixels are pixels of more channels."""

    def __init__(self, *, patch_size: int, **arguments: Any):
        """Of the arguments of `UNet2DModel`."""
        self.network, self.patch_size = UNet2DModel(**arguments), patch_size

    def __call__(self, x: jax.Array, t: jax.Array) -> jax.Array:
        """As a network of pictures."""
        return unpatchify(self.network(patchify(x, self.patch_size), t), self.patch_size)


def shapes_of(config: Mapping[str, Any], dtype: Any) -> tuple[Any, Any]:
    """The network's structure, and shapes in the place of its weights."""
    model = abstract_model(lambda **more: in_computing_dtype(Patched(**more)), config, dtype=dtype)
    return nnx.split(model)


def random_model(graph: Any, state: Any, seed: int = 0) -> Patched:
    """Weights of about the size that training starts from; none of them zero or one."""
    rng = np.random.default_rng(seed)
    model = nnx.merge(graph, state)
    shapes = parameter_shapes(model)

    def tensor(name: str) -> np.ndarray:
        shape = shapes[name]
        deviation = np.prod(shape[:-1], dtype=float) ** -0.5 if len(shape) > 1 else 0.1
        draw = rng.standard_normal(shape, np.float32) * np.float32(deviation)
        return draw + np.float32(name.endswith("scale"))

    return fill(model, tensor)


def predict(graph: Any, state: Any, x: jax.Array, t: jax.Array) -> jax.Array:
    """One network call as the sampler makes it, picture by picture: f[N, H, W, C], int32[]."""
    model = nnx.merge(graph, state)
    return jax.vmap(lambda one: model(one[None], t[None])[0])(x)


def flops_of(graph: Any, state: Any, size: int) -> float:
    """Floating-point operations of a call for one picture, by XLA's count of the lowered module.

    XLA does not count products with the zeros around a picture, which other counters do: of
    17.7 GFLOP at 64x64 it leaves 17.0. Lowered for CPUs, where no fused kernel hides its own.
    """
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    t = jax.ShapeDtypeStruct((), jnp.int32)
    with left_out():
        traced = jax.jit(lambda state, x, t: predict(graph, state, x, t)).trace(state, x, t)
    return float(traced.lower(lowering_platforms=("cpu",)).cost_analysis()["flops"])
