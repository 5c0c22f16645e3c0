"""Loads guided-diffusion's checkpoints: OpenAI's, RePaint's and any other of `UNetModel`.

The tensors' names and shapes tell the architecture but for three facts: how attention's channels
are split into heads, in which order they lie, and whether a pixel of the network is a patch of the
picture's. Those are arguments.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from repaint_jax.checkpoints.checkpoint import Checkpoint
from repaint_jax.checkpoints.parameters import (
    CheckpointError,
    Shape,
    abstract_model,
    check_shapes,
    fill,
    from_torch,
    parameter_shapes,
    torch_shape,
)
from repaint_jax.checkpoints.tensor_files import Tensors, find_network, open_tensors
from repaint_jax.files import fingerprint
from repaint_jax.models.adm.classifier import EncoderUNet
from repaint_jax.models.adm.unet import UNet

ANCHOR = "time_embed.0.weight"  # a tensor of every such network

# Each part of a parameter's path, and what guided-diffusion calls it.
_NAMES = {
    "linear_in": "0",
    "linear_out": "2",
    "label_embed": "label_emb.weight",
    "down": "input_blocks",
    "middle": "middle_block",
    "up": "output_blocks",
    "norm_in": "in_layers.0",
    "conv_in": "in_layers.2",
    "embed": "emb_layers.1",
    "norm_out": "out_layers.0",
    "conv_out": "out_layers.3",
    "skip": "skip_connection",
    "proj": "proj_out",
    "conv_down": "op",
    "conv_up": "conv",
    "out_norm": "out.0",
    "out_conv": "out.2",
    "out_pool": "out.2",
    "position": "positional_embedding",
    "out_proj": "c_proj",
    "kernel": "weight",
    "scale": "weight",
}
_CONV1D = (".qkv.kernel", ".proj.kernel", ".qkv_proj.kernel", ".out_proj.kernel")


def load_guided_diffusion(
    path: str | Path,
    *,
    num_heads: int | None = None,
    num_head_channels: int = 64,
    use_new_attention_order: bool = False,
    patch_size: int = 1,
    dtype: DTypeLike = jnp.float32,
) -> UNet:
    """Loads a `UNetModel`.

    Args:
        path: a `.pt`, `.ckpt` or `.safetensors` file that holds its state dict, alone or among
            other things of a training; averaged weights (EMA) are preferred.
        num_heads: attention heads; overrides `num_head_channels`.
        num_head_channels: channels of an attention head: 64 in OpenAI's and RePaint's models.
        use_new_attention_order: True for OpenAI's 64x64 model.
        patch_size: 2 for a network of pictures that went through `pixel_unshuffle(x, 2)`.
        dtype: in which the model computes.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is not such a checkpoint, or does not fit the heads.
    """
    facts = {
        "num_heads": num_heads,
        "num_head_channels": num_head_channels,
        "use_new_attention_order": use_new_attention_order,
        "patch_size": patch_size,
    }
    return _load(path, open_tensors(Path(path)), UNet, infer_config, facts, dtype)


def read_guided_diffusion(
    path: Path, tensors: Tensors, *, dtype: DTypeLike, **facts: Any
) -> Checkpoint:
    """A `UNetModel`; of its training the file tells nothing.

    Args:
        path: the file.
        tensors: those in it.
        dtype: in which the network computes.
        **facts: `num_heads`, `num_head_channels`, `use_new_attention_order` and `patch_size` of
            `load_guided_diffusion`.

    Raises:
        CheckpointError: as `load_guided_diffusion`.
    """
    network = _load(path, tensors, UNet, infer_config, facts, dtype)
    return Checkpoint(
        network,
        prediction="noise",
        noise=None,
        image_size=None,
        clip_denoised=None,
        variance=None,
        fingerprint=fingerprint(path),
    )


def load_guided_diffusion_classifier(
    path: str | Path,
    *,
    num_head_channels: int = 64,
    num_res_blocks: int | None = None,
    dtype: DTypeLike = jnp.float32,
) -> EncoderUNet:
    """Loads an `EncoderUNetModel` with attention pooling, a classifier of noisy pictures.

    Args:
        path: a file as `load_guided_diffusion` takes it.
        num_head_channels: channels of an attention head.
        num_res_blocks: residual blocks a level, only for a file that does not tell.
        dtype: in which the model computes.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is not such a checkpoint, or does not fit the heads.
    """
    facts = {"num_head_channels": num_head_channels, "num_res_blocks": num_res_blocks}
    tensors = open_tensors(Path(path))
    return _load(path, tensors, EncoderUNet, infer_classifier_config, facts, dtype)


def _load(
    path: str | Path,
    tensors: Tensors,
    construct: Callable[..., Any],
    infer: Callable[..., dict[str, Any]],
    facts: dict[str, Any],
    dtype: DTypeLike,
) -> Any:
    try:
        tensors, _ = find_network(tensors, ANCHOR)
        model = abstract_model(construct, infer(tensors.shapes, **facts), dtype=dtype)
        check_shapes(checkpoint_shapes(model), tensors.shapes)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    # Read one by one, so that each part of the file leaves memory once it is copied.
    return fill(model, lambda name: _from_torch(name, tensors.read(checkpoint_name(name))))


def checkpoint_name(name: str) -> str:
    """down.1.0.norm_in.scale -> input_blocks.1.0.in_layers.0.weight."""
    return ".".join(_NAMES.get(part, part) for part in name.split("."))


def checkpoint_shapes(model: UNet | EncoderUNet) -> dict[str, Shape]:
    """Names and shapes of the state dict of a model, which may be abstract."""
    shapes = parameter_shapes(model)
    return {checkpoint_name(name): _torch_shape(name, shape) for name, shape in shapes.items()}


def _torch_shape(name: str, shape: Shape) -> Shape:
    """The shape that guided-diffusion gives a parameter."""
    if name.endswith(_CONV1D):
        return (*shape[::-1], 1)
    if name.endswith((".kernel", ".position")):
        return torch_shape(shape)
    return shape


def _from_torch(name: str, tensor: np.ndarray) -> np.ndarray:
    """The inverse, on the array."""
    if name.endswith(_CONV1D):
        return tensor[:, :, 0].T
    if name.endswith((".kernel", ".position")):
        return from_torch(tensor)
    return tensor


def infer_config(
    shapes: Mapping[str, Shape],
    *,
    num_heads: int | None = None,
    num_head_channels: int = 64,
    use_new_attention_order: bool = False,
    patch_size: int = 1,
) -> dict[str, Any]:
    """Arguments of `UNet` from the names and shapes of a state dict, heads and patches.

    Raises CheckpointError if it is none of `UNetModel`.
    """
    if "out.2.c_proj.weight" in shapes:
        raise CheckpointError(
            "this is a classifier; load it with load_guided_diffusion_classifier, and the "
            "diffusion model from its own file"
        )
    out_channels = _size(shapes, "out.2.weight", 0)
    encoder = _infer_encoder(shapes, _infer_depth(shapes))
    return {
        **encoder,
        "in_channels": _a_pixel(encoder["in_channels"], patch_size),
        "out_channels": _a_pixel(out_channels, patch_size),
        "patch_size": patch_size,
        "num_classes": _size(shapes, "label_emb.weight", 0)
        if "label_emb.weight" in shapes
        else None,
        "num_heads": 1 if num_heads is None else num_heads,
        "num_head_channels": num_head_channels if num_heads is None else None,
        "use_new_attention_order": use_new_attention_order,
    }


def infer_classifier_config(
    shapes: Mapping[str, Shape], *, num_head_channels: int = 64, num_res_blocks: int | None = None
) -> dict[str, Any]:
    """Arguments of `EncoderUNet` from the names and shapes of a state dict, and the heads.

    Raises CheckpointError if it is none of `EncoderUNetModel` with attention pooling.
    """
    out_channels = _size(shapes, "out.2.c_proj.weight", 0)
    config = _infer_encoder(shapes, num_res_blocks or _infer_depth(shapes))
    side = math.isqrt(_size(shapes, "out.2.positional_embedding", 1) - 1)
    return {
        **config,
        "out_channels": out_channels,
        "image_size": side * 2 ** (len(config["channel_mult"]) - 1),
        "num_head_channels": num_head_channels,
    }


def _infer_encoder(shapes: Mapping[str, Shape], depth: int) -> dict[str, Any]:
    """What the encoder tells, knowing that each level has `depth` residual blocks."""
    model_channels = _size(shapes, "time_embed.0.weight", 1)
    firsts = [f"input_blocks.{i}" for i in range(1, _count(shapes), depth + 1)]
    widths = [_size(shapes, f"{first}.0.in_layers.2.weight", 0) for first in firsts]
    halving = f"input_blocks.{depth + 1}.0"
    residual = f"{halving}.in_layers.2.weight" in shapes or len(firsts) == 1
    return {
        "in_channels": _size(shapes, "input_blocks.0.0.weight", 1),
        "model_channels": model_channels,
        "channel_mult": [_ratio(width, model_channels) for width in widths],
        "num_res_blocks": depth,
        "attention_resolutions": [
            2**level for level, first in enumerate(firsts) if f"{first}.1.qkv.weight" in shapes
        ],
        "use_scale_shift_norm": _size(shapes, f"{firsts[0]}.0.emb_layers.1.weight", 0)
        == 2 * widths[0],
        "resblock_updown": residual,
        "conv_resample": residual or f"{halving}.op.weight" in shapes,
    }


def _infer_depth(shapes: Mapping[str, Shape]) -> int:
    """Residual blocks a level."""
    count = _count(shapes)
    blocks = [_encoder_block(shapes, i) for i in range(count)]
    if None in blocks[1:]:  # a halving that is no residual block ends the first level
        return blocks.index(None, 1) - 1
    if any(name.startswith("output_blocks.") for name in shapes):
        second_in_block = re.compile(r"output_blocks\.(\d+)\.[12]\.in_layers\.2\.weight")
        doublings = [int(m[1]) for m in map(second_in_block.fullmatch, shapes) if m]
        return min(doublings, default=count - 1)
    return _classifier_depth(blocks)


def _classifier_depth(blocks: list[tuple[int, bool] | None]) -> int:
    """Residual blocks a level, where halvings look like the other blocks and no decoder tells.

    The depth must be one at which the blocks of a level are alike in width and attention, and
    each halving has the width of its level and no attention.
    """
    count = len(blocks)
    fits = []
    for depth in range(1, count):
        levels = [blocks[i : i + depth + 1] for i in range(1, count, depth + 1)]
        halvings = [level.pop() for level in levels[:-1]]
        alike = all(len(set(level)) == 1 and len(level) == depth for level in levels)
        if alike and halvings == [(level[0][0], False) for level in levels[:-1] if level[0]]:
            fits.append(depth)
    if len(fits) != 1:
        raise CheckpointError(
            "the tensors do not tell how many residual blocks a level of this classifier has "
            f"(of 1 to {count - 1}, {fits or 'none'} fit): give num_res_blocks"
        )
    return fits[0]


def _encoder_block(shapes: Mapping[str, Shape], i: int) -> tuple[int, bool] | None:
    """Width and attention of block i of the encoder; None if it is no residual block."""
    block = f"input_blocks.{i}"
    if f"{block}.0.in_layers.2.weight" not in shapes:
        return None
    width = _size(shapes, f"{block}.0.in_layers.2.weight", 0)
    return width, f"{block}.1.qkv.weight" in shapes


def _count(shapes: Mapping[str, Shape]) -> int:
    """Number of the encoder's blocks, which is at least two."""
    matches = (re.match(r"input_blocks\.(\d+)\.", name) for name in shapes)
    numbers = {int(match[1]) for match in matches if match}
    # At most every second block has no tensors, a halving by pooling: a damaged name counts little.
    return max(2, min(1 + max(numbers, default=0), 2 * len(numbers)))


def _size(shapes: Mapping[str, Shape], name: str, axis: int) -> int:
    """Length of a tensor that every such checkpoint has."""
    if not any(shapes.get(name, ())[axis : axis + 1]):
        raise CheckpointError(
            f"not a checkpoint of guided-diffusion: expected a tensor {name}, but the names are "
            f"{', '.join(list(shapes)[:4])}, ...; read_checkpoint tells the formats apart"
        )
    return shapes[name][axis]


def _a_pixel(channels: int, patch_size: int) -> int:
    """Channels of a picture's pixel, of which a patch makes one of the network's."""
    if patch_size < 1 or channels % patch_size**2:
        raise CheckpointError(
            f"{channels} channels are no patches of {patch_size} x {patch_size} pixels: give the "
            "patch_size of the training"
        )
    return channels // patch_size**2


def _ratio(width: int, model_channels: int) -> int | float:
    """The multiplier, an int where it is one."""
    return width // model_channels if width % model_channels == 0 else width / model_channels
