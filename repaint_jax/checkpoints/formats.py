"""Any file or folder of a trained network, whatever program wrote it."""

from pathlib import Path

import jax.numpy as jnp
from jax.typing import DTypeLike

from repaint_jax.checkpoints import diffusers, guided_diffusion, lucidrains
from repaint_jax.checkpoints.checkpoint import Checkpoint
from repaint_jax.checkpoints.diffusers import read_diffusers
from repaint_jax.checkpoints.diffusers_files import diffusers_folder, is_hub_name
from repaint_jax.checkpoints.guided_diffusion import read_guided_diffusion
from repaint_jax.checkpoints.lucidrains import read_lucidrains
from repaint_jax.checkpoints.native import is_native, read_native
from repaint_jax.checkpoints.parameters import CheckpointError
from repaint_jax.checkpoints.tensor_files import open_tensors, prefixes
from repaint_jax.files import expanded


def read_checkpoint(
    path_or_name: str | Path,
    *,
    dtype: DTypeLike = jnp.float32,
    num_heads: int | None = None,
    num_head_channels: int = 64,
    use_new_attention_order: bool = False,
    patch_size: int = 1,
    sinusoidal_pos_emb_theta: float = 10_000,
) -> Checkpoint:
    """Reads a network and what its file tells of the training.

    Args:
        path_or_name: a file that `save` wrote; of guided-diffusion or denoising-diffusion-pytorch,
            `.pt` or `.safetensors`; a folder of diffusers, or its name on the Hugging Face hub.
        dtype: in which the network computes; its parameters are float32.
        num_heads: of guided-diffusion's networks, as the next three: see `load_guided_diffusion`.
        num_head_channels: channels of an attention head.
        use_new_attention_order: True for OpenAI's 64x64 model.
        patch_size: pixels of a picture, a side, that are one of the network's.
        sinusoidal_pos_emb_theta: of denoising-diffusion-pytorch's: see `load_lucidrains`.

    Raises:
        FileNotFoundError: there is no such file or folder, or it lacks a file.
        CheckpointError: it is damaged, of no format that is known, or does not fit the heads.
    """
    path = expanded(path_or_name)
    if path.is_dir() or (not path.is_file() and is_hub_name(str(path_or_name))):
        return read_diffusers(diffusers_folder(path_or_name), dtype=dtype)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}; expected a .safetensors, .pt or .ckpt file, a folder of "
            "diffusers, or the name of a model of the hub, owner/name"
        )
    if is_native(path):
        return read_native(path, dtype=dtype)
    tensors = open_tensors(path)
    if prefixes(tensors.shapes, guided_diffusion.ANCHOR):
        return read_guided_diffusion(
            path,
            tensors,
            dtype=dtype,
            num_heads=num_heads,
            num_head_channels=num_head_channels,
            use_new_attention_order=use_new_attention_order,
            patch_size=patch_size,
        )
    if prefixes(tensors.shapes, lucidrains.ANCHOR):
        return read_lucidrains(
            path, tensors, dtype=dtype, sinusoidal_pos_emb_theta=sinusoidal_pos_emb_theta
        )
    if prefixes(tensors.shapes, diffusers.ANCHOR):
        raise CheckpointError(
            f"{path}: weights of diffusers, without their config.json and scheduler_config.json; "
            "give the folder that has these, too, as save_pretrained writes it"
        )
    raise CheckpointError(
        f"{path}: of no known network, which would be guided-diffusion's, denoising-diffusion-"
        "pytorch's or diffusers' UNet2DModel; its tensors are "
        f"{', '.join(list(tensors.shapes)[:4])}, ...: use it in Python, as "
        "docs/bring_your_own_model.md shows for PyTorch"
    )
