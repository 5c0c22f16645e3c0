"""Where the files of a diffusers folder are, and the hub that has such folders."""

import json
import re
from pathlib import Path
from typing import Any

from repaint_jax.checkpoints.parameters import CheckpointError
from repaint_jax.checkpoints.tensor_files import Tensors, open_tensors
from repaint_jax.files import expanded

_WEIGHTS = re.compile(
    r"diffusion_pytorch_model(?:\.(?P<variant>\w+))?"
    r"(?:-\d+-of-(?P<count>\d+))?\.(?P<kind>safetensors|bin)"
)
# Of the hub, the first of these that is there.
_PATTERNS = (
    ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model-*-of-*.safetensors"),
    ("diffusion_pytorch_model.bin", "diffusion_pytorch_model-*-of-*.bin"),
    ("diffusion_pytorch_model.*.safetensors",),
    ("diffusion_pytorch_model.*.bin",),
)
_SCHEDULER = "scheduler_config.json"
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def diffusers_folder(name: str | Path) -> Path:
    """The folder of that name, or the hub's model of that name, downloaded.

    Raises:
        FileNotFoundError: it is neither.
        CheckpointError: the hub's model cannot be had.
    """
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
    for weights in _PATTERNS:
        files = [f"{place}{file}" for place in ("", "unet/") for file in ("config.json", *weights)]
        files += [_SCHEDULER, f"scheduler/{_SCHEDULER}"]
        try:
            folder = Path(snapshot_download(name, allow_patterns=files))
        except Exception as error:  # the hub, the network and the disk fail in many ways
            reason = str(error).strip().split("\n")[0]
            raise CheckpointError(
                f"{name} is no folder, and the hub's model of that name could not be fetched "
                f"({reason}): mend the name or the connection, {elsewhere}"
            ) from error
        if any(map(_WEIGHTS.fullmatch, _names(unet_folder(folder)))):
            break
    return folder


def unet_folder(folder: Path) -> Path:
    """Where the network is."""
    return folder / "unet" if (folder / "unet").is_dir() else folder


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def open_weights(folder: Path) -> Tensors:
    """The tensors of a network, which may lie in several files; full precision is preferred.

    Raises:
        FileNotFoundError: there are none, or not all of several files.
        CheckpointError: a file is damaged.
    """
    found: dict[tuple[Any, ...], list[Path]] = {}
    for match in filter(None, map(_WEIGHTS.fullmatch, _names(folder))):
        variant, count, kind = match["variant"], match["count"], match["kind"]
        preference = (variant is not None, kind == "bin", int(count or 1), variant or "")
        found.setdefault(preference, []).append(folder / match[0])
    if not found:
        raise FileNotFoundError(
            f"no weights in {folder}; expected diffusion_pytorch_model.safetensors or .bin, as "
            "diffusers' save_pretrained writes it: save the model again, or download it again"
        )
    preference = min(found)
    files, count = found[preference], preference[2]
    if len(files) != count:
        raise FileNotFoundError(
            f"{folder} has {len(files)} of the {count} files of its weights, "
            f"{', '.join(file.name for file in files)}: copy or download the others, too"
        )
    parts = [open_tensors(file) for file in files]
    shapes = {name: shape for part in parts for name, shape in part.shapes.items()}
    readers = {name: part.read for part in parts for name in part.shapes}
    return Tensors(shapes, lambda name: readers[name](name))


def scheduler_config(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The scheduler's file and its settings; one that is null is left out.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is damaged.
    """
    places = (folder / "scheduler", folder, folder.parent / "scheduler")
    found = [place / _SCHEDULER for place in places if (place / _SCHEDULER).is_file()]
    if not found:
        raise FileNotFoundError(
            f"no {_SCHEDULER} in {folder} or in its folder scheduler, where the noise schedule of "
            "the training is written; put the one of the model's pipeline there"
        )
    settings = read_json(found[0])
    return found[0], {name: value for name, value in settings.items() if value is not None}


def read_json(path: Path) -> dict[str, Any]:
    """The settings in a file; errors as `scheduler_config`."""
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}; expected a folder that diffusers' save_pretrained wrote"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (RecursionError, ValueError) as error:
        raise CheckpointError(f"{path} is no JSON ({error}): download or copy it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no settings: download or copy it again")
    return content
