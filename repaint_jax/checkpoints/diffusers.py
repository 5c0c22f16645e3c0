"""Loads diffusers' `UNet2DModel`: a folder that `save_pretrained` wrote, or a model of the hub.

A folder holds the network, `config.json` and `diffusion_pytorch_model.safetensors` (or `.bin`, in
16 bits or in several files), at its top or in `unet/`; and `scheduler_config.json`, beside it or in
`scheduler/`. The scheduler's settings tell the noise schedule of the training and what the network
predicts; those of a solver are left out.
"""

import re
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from repaint_jax.adapters import noise_predictor
from repaint_jax.checkpoints.checkpoint import Checkpoint
from repaint_jax.checkpoints.diffusers_files import (
    diffusers_folder,
    open_weights,
    read_json,
    scheduler_config,
    unet_folder,
)
from repaint_jax.checkpoints.diffusers_scheduler import noise_of, prediction_of, sampler_of
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
from repaint_jax.checkpoints.tensor_files import find_network
from repaint_jax.denoisers import Denoiser
from repaint_jax.files import fingerprint
from repaint_jax.models.diffusers.blocks import Architecture2D
from repaint_jax.models.diffusers.unet import UNet2DModel
from repaint_jax.schedules import NoiseSchedule, described_schedule

ANCHOR = "conv_in.weight"  # a tensor of every such network
# Early versions of diffusers had other names for the projections of attention.
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAME = re.compile(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.")


def load_diffusers(
    name: str | Path, *, dtype: DTypeLike = jnp.float32
) -> tuple[Denoiser, NoiseSchedule]:
    """Loads a network and the noise schedule it was trained with.

    Args:
        name: a folder, or a model of the Hugging Face hub as "owner/name", which is downloaded
            once and needs the extra `hub`.
        dtype: in which the network computes; its parameters are float32.

    Returns:
        A `UNet2DModel`, wrapped to predict the noise if it predicts x_0 or v; and its schedule,
        not respaced.

    Raises:
        FileNotFoundError: if the folder or one of its files is missing.
        CheckpointError: if the files are damaged, do not fit each other, or ask for what is not
            supported; or if the hub's model cannot be had.
    """
    folder = diffusers_folder(name)
    about = diffusers_about(folder)
    noise = described_schedule(**about["noise"])
    unet = load_diffusers_unet(folder, dtype=dtype)
    return noise_predictor(unet, about["prediction"], noise), noise


def load_diffusers_unet(folder: Path, *, dtype: DTypeLike = jnp.float32) -> UNet2DModel:
    """Loads the network of a folder alone, whatever it predicts; errors as `load_diffusers`."""
    model = _abstract_unet(folder, dtype)
    tensors, _ = find_network(open_weights(unet_folder(folder)), ANCHOR)
    stored = tensors.renamed({_OLD_NAME.sub(_new_name, name): name for name in tensors.shapes})
    try:
        check_shapes(checkpoint_shapes(model), stored.shapes)
    except CheckpointError as error:
        raise CheckpointError(f"{unet_folder(folder)}: {error}") from error

    def parameter(name: str) -> np.ndarray:
        array = stored.read(checkpoint_name(name))
        return from_torch(array) if name.endswith(".kernel") else array

    return fill(model, parameter)


def read_diffusers(folder: Path, *, dtype: DTypeLike) -> Checkpoint:
    """A network and its training; errors as `load_diffusers`."""
    about = diffusers_about(folder)
    size = about["image_size"]
    height, width = size if isinstance(size, list) else (size, size)
    return Checkpoint(
        load_diffusers_unet(folder, dtype=dtype),
        prediction=about["prediction"],
        noise=described_schedule(**about["noise"]),
        image_size=None if size is None else (height, width),
        clip_denoised=about["sampler"]["clip_denoised"],
        variance=about["sampler"].get("variance"),
        fingerprint=fingerprint(folder),
    )


def diffusers_about(folder: Path) -> dict[str, Any]:
    """What a folder says of the training and the sampling, in the words of the native format.

    Returns:
        `image_size` (a side, or [height, width], or None if it does not tell), `noise` (`kind`,
        `num_train_steps` and the schedule's other arguments), `prediction` (noise, x0 or v), and
        `sampler` (`clip_denoised` and, unless the network brings its own, `variance`).

    Raises:
        FileNotFoundError, CheckpointError: as `load_diffusers`.
    """
    unet = _abstract_unet(folder).config
    path, scheduler = scheduler_config(folder)
    size = unet["sample_size"]
    if isinstance(size, list) and size[0] == size[1]:
        size = size[0]
    try:
        return {
            "image_size": size,
            "noise": noise_of(scheduler),
            "prediction": prediction_of(scheduler),
            "sampler": sampler_of(scheduler, unet["out_channels"] == 2 * unet["in_channels"]),
        }
    except (OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def checkpoint_name(name: str) -> str:
    """conv_norm_out.scale -> conv_norm_out.weight."""
    return re.sub(r"\.(kernel|scale|table)$", ".weight", name)


def checkpoint_shapes(model: UNet2DModel) -> dict[str, Shape]:
    """Names and shapes of the state dict of a model, which may be abstract."""
    return {
        checkpoint_name(name): torch_shape(shape) if name.endswith(".kernel") else shape
        for name, shape in parameter_shapes(model).items()
    }


def _new_name(old: re.Match[str]) -> str:
    return f"{old[1]}.{_OLD_NAMES[old[2]]}."


def _abstract_unet(folder: Path, dtype: DTypeLike = jnp.float32) -> UNet2DModel:
    """The network with shapes in the place of weights."""
    path = unet_folder(folder) / "config.json"
    config = read_json(path)
    kind = config.get("_class_name", "UNet2DModel")
    if kind != "UNet2DModel":
        raise CheckpointError(f"{path} is of a {kind}; only UNet2DModel is supported")
    # null says "the default", except where None is a value.
    none = {field.name for field in fields(Architecture2D) if "None" in str(field.type)}
    config = {name: value for name, value in config.items() if value is not None or name in none}
    settings = {name for name in config if not name.startswith("_")}
    known = settings & {field.name for field in fields(Architecture2D)}
    if settings - known:
        warnings.warn(
            f"{path}: UNet2DModel has no settings {', '.join(sorted(settings - known))}: left out",
            stacklevel=2,
        )
    try:
        return abstract_model(UNet2DModel, {name: config[name] for name in known}, dtype=dtype)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
