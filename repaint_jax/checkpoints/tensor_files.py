"""Files of named tensors, torch's or safetensors, and where in them a network is.

A training saves its weights under many roofs: `state_dict` or `ema` in a dict of more, `module.` of
DataParallel, `_orig_mod.` of torch.compile, `model.` of Lightning. A network is found by a tensor
that all of its kind have, its anchor: whatever stands before that name stands before all others.
"""

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from repaint_jax.checkpoints.parameters import CheckpointError, Shape, stored_shapes
from repaint_jax.checkpoints.torch_file import read_torch_file
from repaint_jax.files import replacing

# Put by wrappers of layers into the middle of names.
_WRAPPERS = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


class Tensors(NamedTuple):
    """The tensors of a file: their shapes by name, and what reads one of them, once."""

    shapes: dict[str, Shape]
    read: Callable[[str], np.ndarray]

    def renamed(self, names: dict[str, str]) -> "Tensors":
        """Only these: new names, and what each is called here."""
        shapes = {name: self.shapes[old] for name, old in names.items()}
        return Tensors(shapes, lambda name: self.read(names[name]))


def open_tensors(path: Path) -> Tensors:
    """The tensors of a file, with the path to each in nested dicts as its name, dots between.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is damaged or of another format.
    """
    if not is_safetensors(path):
        arrays = read_torch_file(path)
        return Tensors({name: array.shape for name, array in arrays.items()}, arrays.pop)

    def tensor(name: str) -> np.ndarray:
        # Opened anew, as what was read of a file stays in memory while it is open.
        with safe_open(path, framework="numpy") as file:
            return file.get_tensor(name)

    try:
        with safe_open(path, framework="numpy") as file:
            return Tensors(stored_shapes(file), tensor)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: damaged, or not a safetensors file ({error}): copy or download it again"
        ) from error


def is_safetensors(path: Path) -> bool:
    """Whether a file is of safetensors, by its beginning or, for want of one, its name."""
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint file at {path}")
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" or (path.suffix == ".safetensors" and start[:2] != b"PK")


def find_network(tensors: Tensors, anchor: str) -> tuple[Tensors, str]:
    """The tensors of the network that has one called `anchor`, and what stands before their names.

    Where there are several, averaged weights (EMA) are preferred. All tensors as they are, and "",
    if there is no such network.

    Raises:
        CheckpointError: there are several, and not one of them is averaged.
    """
    names = [_WRAPPERS.sub("", name) for name in tensors.shapes]
    prefix = _chosen(prefixes(names, anchor))
    return beginning_with(tensors, prefix), prefix


def extract(path: str | Path, new_path: str | Path, prefix: str) -> None:
    """Copies the tensors whose names begin with `prefix` to a safetensors file, without it.

    Raises:
        FileNotFoundError, CheckpointError: as `open_tensors`; or no name begins so.
    """
    inside = beginning_with(open_tensors(Path(path)), prefix)
    if not inside.shapes:
        raise CheckpointError(f"{path}: no tensor's name begins with {prefix!r}")
    arrays = {name: np.ascontiguousarray(inside.read(name)) for name in inside.shapes}
    with replacing(new_path) as temporary:
        save_file(arrays, temporary)


def beginning_with(tensors: Tensors, prefix: str) -> Tensors:
    """Those tensors, without the prefix and the names of wrappers."""
    names = {_WRAPPERS.sub("", name): name for name in tensors.shapes}
    return tensors.renamed(
        {name[len(prefix) :]: old for name, old in names.items() if name.startswith(prefix)}
    )


def prefixes(names: Collection[str], anchor: str) -> list[str]:
    """What stands before `anchor` wherever it is the end of a name."""
    return [name.removesuffix(anchor) for name in names if f".{name}".endswith(f".{anchor}")]


def _chosen(found: list[str]) -> str:
    # EMA keeps the network in training beside the average.
    averaged = [prefix for prefix in found if re.search(r"(^|[._])ema([._]|$)", prefix)]
    averaged = [prefix for prefix in averaged if "online_model." not in prefix]
    one = averaged if averaged else found
    if len(one) > 1:
        listed = ", ".join(repr(prefix) for prefix in sorted(one, key=len)[:8])
        example = min(one, key=lambda prefix: (-len(prefix), prefix))
        raise CheckpointError(
            f"it holds {len(one)} networks, whose tensors' names begin with {listed}; keep the one "
            f"you want: repaint_jax.checkpoints.extract(path, new_path, {example!r})"
        )
    return one[0] if one else ""
