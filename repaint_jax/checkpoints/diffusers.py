"""Loads diffusers' `UNet2DModel`: a folder that `save_pretrained` wrote, or a model of the hub.

A folder holds the network, `config.json` and `diffusion_pytorch_model.safetensors` (or `.bin`), at
its top or in `unet/`; and `scheduler_config.json`, beside it or in `scheduler/`. The scheduler's
settings tell the noise schedule of the training, what the network predicts and how to sample.
"""

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from safetensors import SafetensorError, safe_open

from repaint_jax.checkpoints.parameters import (
    CheckpointError,
    Shape,
    abstract_model,
    check_shapes,
    fill,
    from_torch,
    parameter_shapes,
    stored_shapes,
    torch_shape,
)
from repaint_jax.checkpoints.torch_file import read_torch_file
from repaint_jax.denoisers import Denoiser, noise_predictor
from repaint_jax.models.diffusers.blocks import Architecture2D
from repaint_jax.models.diffusers.unet import UNet2DModel
from repaint_jax.runtime.files import expanded
from repaint_jax.schedules import NoiseSchedule, described_schedule

_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_SCHEDULER = "scheduler_config.json"
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
# Early versions of diffusers had other names for the projections of attention.
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAME = re.compile(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.")
_PREDICTIONS = {"epsilon": "noise", "sample": "x0", "v_prediction": "v"}
_VARIANCES = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",
    "fixed_large": "fixed_large",
    "fixed_large_log": "fixed_large",
    "learned_range": None,  # the network brings it
}


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
    path = _weights(folder)
    shapes, tensor = _opened(path)
    stored = {_OLD_NAME.sub(_new_name, name): name for name in shapes}
    try:
        check_shapes(checkpoint_shapes(model), {name: shapes[old] for name, old in stored.items()})
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error

    def parameter(name: str) -> np.ndarray:
        array = tensor(stored[checkpoint_name(name)])
        return from_torch(array) if name.endswith(".kernel") else array

    return fill(model, parameter)


def diffusers_about(folder: Path) -> dict[str, Any]:
    """What a folder says of the training and the sampling, in the words of the native format.

    Returns:
        `image_size` (None if it does not tell), `noise` (`kind`, `num_train_steps` and the
        schedule's other arguments), `prediction` (noise, x0 or v), and `sampler` (`clip_denoised`
        and, unless the network brings its own, `variance`).

    Raises:
        FileNotFoundError, CheckpointError: as `load_diffusers`.
    """
    unet = _abstract_unet(folder).config
    path, scheduler = _scheduler_config(folder)
    size = unet["sample_size"]
    height, width = size if isinstance(size, list) else (size, size)
    try:
        return {
            "image_size": height if height == width else None,
            "noise": _noise(scheduler),
            "prediction": _prediction(scheduler),
            "sampler": _sampler(scheduler, unet["out_channels"] == 2 * unet["in_channels"]),
        }
    except (OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def diffusers_folder(name: str | Path) -> Path:
    """The folder of that name, or the hub's model of that name, downloaded; errors as above."""
    folder = expanded(name)
    if folder.is_dir():
        return folder
    if isinstance(name, str) and is_hub_name(name):
        return _downloaded(name)
    raise FileNotFoundError(
        f"there is no folder {folder}; give a folder that diffusers' save_pretrained wrote, or "
        "the name of a model of the hub, owner/name"
    )


def is_hub_name(name: str) -> bool:
    """Whether this can be a model of the hub, as google/ddpm-cifar10-32, and not a file."""
    files = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
    return _HUB_NAME.fullmatch(name) is not None and not name.endswith(files)


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


def _downloaded(name: str) -> Path:
    """The files of a model of the hub, in the hub's cache; safetensors rather than torch's."""
    elsewhere = f"or download https://huggingface.co/{name} elsewhere and give its folder"
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(
            f"{name} is no folder; to fetch the hub's model of that name, "
            f"pip install 'repaint-jax[hub]', {elsewhere}"
        ) from error
    for weights in _WEIGHTS:
        files = [f"{place}{file}" for place in ("", "unet/") for file in ("config.json", weights)]
        files += [_SCHEDULER, f"scheduler/{_SCHEDULER}"]
        try:
            folder = Path(snapshot_download(name, allow_patterns=files))
        except Exception as error:  # the hub, the network and the disk fail in many ways
            reason = str(error).strip().split("\n")[0]
            raise CheckpointError(
                f"{name} is no folder, and the hub's model of that name could not be fetched "
                f"({reason}): mend the name or the connection, {elsewhere}"
            ) from error
        if (_unet_folder(folder) / weights).is_file():
            break
    return folder


def _unet_folder(folder: Path) -> Path:
    return folder / "unet" if (folder / "unet").is_dir() else folder


def _weights(folder: Path) -> Path:
    folder = _unet_folder(folder)
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"no weights in {folder}; expected {' or '.join(_WEIGHTS)}, in one piece: save the model "
        "again with diffusers' save_pretrained, or download it again"
    )


def _abstract_unet(folder: Path, dtype: DTypeLike = jnp.float32) -> UNet2DModel:
    """The network with shapes in the place of weights."""
    path = _unet_folder(folder) / "config.json"
    config = _read_json(path)
    kind = config.get("_class_name", "UNet2DModel")
    if kind != "UNet2DModel":
        raise CheckpointError(f"{path} is of a {kind}; only UNet2DModel is supported")
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


def _scheduler_config(folder: Path) -> tuple[Path, dict[str, Any]]:
    places = (folder / "scheduler", folder, folder.parent / "scheduler")
    found = [place / _SCHEDULER for place in places if (place / _SCHEDULER).is_file()]
    if not found:
        raise FileNotFoundError(
            f"no {_SCHEDULER} in {folder} or in its folder scheduler, where the noise schedule of "
            "the training is written; put the one of the model's pipeline there"
        )
    return found[0], _read_json(found[0])


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}; expected a folder that diffusers' save_pretrained wrote"
        )
    try:
        content = json.loads(path.read_text())
    except (RecursionError, ValueError) as error:
        raise CheckpointError(f"{path} is no JSON ({error}): download or copy it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no settings: download or copy it again")
    return content


def _noise(scheduler: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `described_schedule`."""
    if scheduler.get("rescale_betas_zero_snr"):
        raise ValueError(
            "rescale_betas_zero_snr is not supported: without any signal at the last step, its "
            "noise does not tell the picture"
        )
    betas = scheduler.get("trained_betas")
    kind = scheduler.get("beta_schedule")
    steps = scheduler.get("num_train_timesteps", 1000)
    ends = {
        "beta_start": scheduler.get("beta_start", 1e-4),
        "beta_end": scheduler.get("beta_end", 0.02),
    }
    if betas is not None:
        noise = {"kind": "trained_betas", "num_train_steps": len(betas), "betas": betas}
    elif kind == "squaredcos_cap_v2":
        noise = {"kind": "cosine", "num_train_steps": steps}
    elif kind in ("linear", "scaled_linear", "sigmoid"):
        noise = {"kind": kind, "num_train_steps": steps, **ends}
    else:
        raise ValueError(
            "beta_schedule must be one of linear, scaled_linear, squaredcos_cap_v2 and sigmoid; "
            f"got {kind!r}"
        )
    described_schedule(**noise)  # raises if the numbers are no schedule
    return noise


def _prediction(scheduler: dict[str, Any]) -> str:
    early = "epsilon" if scheduler.get("predict_epsilon", True) else "sample"
    prediction = scheduler.get("prediction_type", early)
    if prediction not in _PREDICTIONS:
        raise ValueError(
            f"prediction_type must be one of {', '.join(_PREDICTIONS)}; got {prediction!r}"
        )
    return _PREDICTIONS[prediction]


def _sampler(scheduler: dict[str, Any], learned: bool) -> dict[str, Any]:
    """How to draw; `learned` if the network has channels for a variance."""
    clip = scheduler.get("clip_sample", True)
    if scheduler.get("thresholding"):
        raise ValueError("thresholding is not supported; set it to false to clip to [-1, 1]")
    if clip and scheduler.get("clip_sample_range", 1.0) != 1:
        raise ValueError(
            "clip_sample_range must be 1, for pictures in [-1, 1]; got "
            f"{scheduler['clip_sample_range']}: set clip_sample to false to clip nothing"
        )
    kind = scheduler.get("variance_type", "learned_range" if learned else "fixed_small")
    if kind not in _VARIANCES:
        raise ValueError(f"variance_type must be one of {', '.join(_VARIANCES)}; got {kind!r}")
    if learned != (kind == "learned_range"):
        raise ValueError(
            f"variance_type {kind!r} does not fit the network, whose out_channels are "
            f"{'twice its' if learned else 'not twice its'} in_channels"
        )
    variance = {} if learned else {"variance": _VARIANCES[kind]}
    return {"clip_denoised": bool(clip), **variance}


def _opened(path: Path) -> tuple[dict[str, Shape], Callable[[str], np.ndarray]]:
    """Shapes of a file's tensors by name, and what reads one of them, once."""
    if path.suffix == ".bin":
        tensors = read_torch_file(path)
        return {name: array.shape for name, array in tensors.items()}, tensors.pop

    def tensor(name: str) -> np.ndarray:
        # Opened anew, as what was read of a file stays in memory while it is open.
        with safe_open(path, framework="numpy") as file:
            return file.get_tensor(name)

    try:
        with safe_open(path, framework="numpy") as file:
            return stored_shapes(file), tensor
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: damaged, or not a safetensors file ({error}): copy or download it again"
        ) from error
