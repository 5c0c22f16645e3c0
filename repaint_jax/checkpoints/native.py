"""The project's own format: one safetensors file that knows its architecture.

Its header carries one JSON string under `repaint_jax`:

    {"format": "repaint_jax", "version": 1, "architecture": "UNet", "config": {...}, "about": {...}}

`config` rebuilds the network; `about` is whatever belongs to the weights: the noise schedule they
were trained with, the licence, the data. The tensors are the network's parameters under their own
names, such as `down.1.0.norm_in.scale`.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from repaint_jax.checkpoints.checkpoint import Checkpoint
from repaint_jax.checkpoints.parameters import (
    CheckpointError,
    abstract_model,
    check_shapes,
    fill,
    named_parameters,
    parameter_shapes,
    stored_shapes,
)
from repaint_jax.files import fingerprint, replacing
from repaint_jax.models.adm.classifier import EncoderUNet
from repaint_jax.models.adm.unet import UNet
from repaint_jax.models.diffusers.unet import UNet2DModel
from repaint_jax.models.lucidrains.unet import LucidrainsUnet
from repaint_jax.schedules import NoiseSchedule, described_schedule

_VERSION = 1
_ARCHITECTURES = {
    "UNet": UNet,
    "EncoderUNet": EncoderUNet,
    "UNet2DModel": UNet2DModel,
    "LucidrainsUnet": LucidrainsUnet,
}


def save(path: str | Path, model: Any, *, dtype: DTypeLike | None = None, **about: Any) -> None:
    """Writes a model; the file appears whole or not at all.

    Args:
        path: the file, usually `.safetensors`.
        model: a network of `repaint_jax.models`.
        dtype: in which weights are stored, as float16 for half the size; None keeps float32.
        **about: facts that JSON can hold; `load_about` returns them.

    Raises:
        TypeError: for another model, or facts that JSON cannot hold.
        FloatingPointError: if a weight is too large for `dtype`.
    """
    architecture = type(model).__name__
    if _ARCHITECTURES.get(architecture) is not type(model):
        raise TypeError(f"expected one of {', '.join(_ARCHITECTURES)}; got {architecture}")
    header = {
        "format": "repaint_jax",
        "version": _VERSION,
        "architecture": architecture,
        "config": model.config,
        "about": about,
    }
    metadata = {"repaint_jax": json.dumps(header)}
    with np.errstate(over="raise"):
        tensors = {
            name: np.ascontiguousarray(variable[...], dtype)
            for name, variable in named_parameters(model).items()
        }
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors would leave the file to its owner alone
        save_file(tensors, temporary, metadata)
        temporary.chmod(mode)


def load(path: str | Path, *, dtype: DTypeLike = jnp.float32) -> Any:
    """Reads a model.

    Args:
        path: a file that `save` wrote.
        dtype: in which the model computes; its parameters are float32 whatever the file has.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is damaged, of another program or version, or does not fit.
    """
    with _opened(path) as (file, header):
        name = header["architecture"]
        if name not in _ARCHITECTURES:
            raise CheckpointError(
                f"its architecture is {name!r}; expected one of {', '.join(_ARCHITECTURES)}: "
                "a newer repaint_jax may know it"
            )
        model = abstract_model(_ARCHITECTURES[name], header["config"], dtype=dtype)
        check_shapes(parameter_shapes(model), stored_shapes(file))
        return fill(model, file.get_tensor)


def load_about(path: str | Path) -> dict[str, Any]:
    """Reads the facts that were saved with a model; errors as `load`."""
    with _opened(path) as (_, header):
        return header["about"]


def is_native(path: Path) -> bool:
    """Whether a file says that `save` wrote it."""
    try:
        with safe_open(path, framework="numpy") as file:
            return "repaint_jax" in (file.metadata() or {})
    except SafetensorError:
        return False


def read_native(path: Path, *, dtype: DTypeLike) -> Checkpoint:
    """A network and its training, of which the file tells what it was given.

    Raises:
        CheckpointError: as `load`; or nothing can be made of what it says of the training.
    """
    about = {name: fact for name, fact in load_about(path).items() if fact is not None}
    try:
        sampler = about.get("sampler", {})
        prediction = about.get("prediction", "noise")
        if prediction not in ("noise", "x0", "v"):
            raise ValueError(f"it predicts {prediction!r}")
        facts: dict[str, Any] = {
            "prediction": prediction,
            "noise": _noise(about.get("noise", {})),
            "image_size": _sides(about["image_size"]) if "image_size" in about else None,
            "clip_denoised": sampler.get("clip_denoised"),
            "variance": sampler.get("variance"),
        }
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: nothing can be made of what it says of its training, {about} ({error}): save "
            "it again with image_size=256 and noise={'kind': 'linear', 'num_train_steps': 1000}, "
            "or what is right"
        ) from error
    return Checkpoint(load(path, dtype=dtype), **facts, fingerprint=fingerprint(path))


def _noise(settings: dict[str, Any]) -> NoiseSchedule | None:
    """The schedule, where the file tells all of it."""
    if not {"kind", "num_train_steps"} <= settings.keys():
        return None
    return described_schedule(**settings)


def _sides(size: int | list[int]) -> tuple[int, int]:
    """(height, width), of a side or both."""
    height, width = (size, size) if isinstance(size, int) else size
    if [type(height), type(width)] != [int, int] or min(height, width) < 1:
        raise ValueError(f"image_size {size}")
    return height, width


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The open file and its header; a CheckpointError that leaves the block names the file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint file at {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file, _header(file.metadata())
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: damaged, or not a safetensors file ({error}): copy or download it again"
        ) from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _header(metadata: dict[str, str] | None) -> dict[str, Any]:
    try:
        header = json.loads((metadata or {})["repaint_jax"])
        format_, version = header["format"], header["version"]
        kinds = {"architecture": str, "config": dict, "about": dict}
        if not all(isinstance(header[part], kind) for part, kind in kinds.items()):
            raise TypeError(f"expected {kinds}")
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(
            "safetensors, but not written by repaint_jax's save; read_checkpoint(path) reads the "
            "formats of other programs, too"
        ) from error
    if format_ != "repaint_jax" or version != _VERSION:
        raise CheckpointError(
            f"format {format_!r}, version {version}; expected 'repaint_jax', version {_VERSION}: "
            "update repaint_jax, or save the file again with this one"
        )
    return header
