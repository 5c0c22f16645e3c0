"""Reads the tensors that `torch.save` wrote, without torch and without running anything in it.

Such a file is a zip of one pickle, `data.pkl`, and one entry `data/KEY` of raw bytes per storage.
The pickle may name any Python function or class; this reader knows the few that rebuild tensors,
and puts a thing that can do nothing in the place of what any other would make. Storages are mapped,
not read: memory is taken up only as tensors are used, and given back with the last tensor of a
storage. A file cannot make the reader take much more memory than the file's own size.
"""

import io
import math
import pickle
import pickletools
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from repaint_jax.checkpoints.parameters import CheckpointError

_RESAVE = "re-save it with torch.save(model.state_dict(), path) in torch 1.6 or later"
_DEEPEST = 8  # dicts in dicts; trainings keep their weights two or three deep
_LARGEST_RATIO = 10  # compressed weights hardly shrink; what unpacks to more is a trap

_STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}


def read_torch_file(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a `.pt`, `.pth` or `.ckpt` file.

    Args:
        path: the file.

    Returns:
        Arrays by name, where {"state_dict": {"x": tensor}} gives the name "state_dict.x"; what else
        the file holds, as numbers and settings, is left out. They are read-only and mapped from
        the file where it is not compressed: the file must stay as it is while they live.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is damaged, in another format, or holds no dict of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint file at {path}")
    _check_format(path)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > _LARGEST_RATIO * path.stat().st_size:
                raise zipfile.BadZipFile(f"it would unpack to {unpacked} bytes")
            damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f"checksum of {damaged}")
            reader = _StateReader(path, archive)
            content = reader.load()
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise CheckpointError(
            f"{path} is truncated or damaged ({error}): download or copy it again, or {_RESAVE}"
        ) from error
    tensors = _tensors(content)
    if not tensors and reader.foreign:
        raise CheckpointError(
            f"{path} contains code ({reader.foreign[0]}) and is not loaded; "
            f"expected a state dict of tensors: {_RESAVE}"
        )
    if not tensors:
        raise CheckpointError(
            f"{path} holds a {type(content).__name__} without tensors; expected a state dict of "
            f"tensors: {_RESAVE}"
        )
    return tensors


def _check_format(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"PK"):
        return
    if start.startswith(b"\x80"):
        raise CheckpointError(f"{path} is in torch's legacy format, before 1.6: {_RESAVE}")
    raise CheckpointError(
        f"{path} is not a torch file, which would be a zip; it starts with {start!r}: "
        f"download it again, or {_RESAVE}"
    )


def _tensors(content: Any) -> dict[str, np.ndarray]:
    """The tensors in nested dicts by their paths, each dict visited once."""
    tensors: dict[str, np.ndarray] = {}
    seen: set[int] = set()

    def collect(value: Any, prefix: str, depth: int) -> None:
        if not isinstance(value, dict) or id(value) in seen or depth > _DEEPEST:
            return
        seen.add(id(value))
        for key, item in value.items():
            if isinstance(key, str) and isinstance(item, np.ndarray):
                tensors[prefix + key] = item
            elif isinstance(key, str):
                collect(item, f"{prefix}{key}.", depth + 1)

    collect(content, "", 1)
    return tensors


def _check_pickle(content: bytes) -> None:
    """Refuses lengths beyond the pickle's end and memo indices beyond what it can have stored.

    The unpickler itself would take memory for them before it looks.
    """
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name.endswith("PUT") and int(argument or 0) > count:
            raise pickle.UnpicklingError(f"memo index {argument}")


class _Dict(dict):
    """In the place of an OrderedDict, without the attributes (versions) that torch gives it."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Foreign:
    """In the place of what else a pickle names: takes whatever is done to it and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "_Foreign":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def add(self, item: Any) -> None:
        pass


class _StateReader(pickle.Unpickler):
    """An unpickler for which tensors are arrays and nothing else exists."""

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError(f"{path} is a zip file but not torch's: {_RESAVE}")
        content = archive.read(pickles[0])
        _check_pickle(content)
        super().__init__(io.BytesIO(content))
        self.path = path
        self.archive = archive
        self.folder = pickles[0].removesuffix("data.pkl")
        self.swapped = self._byteorder() != sys.byteorder
        self.storages: dict[str, np.ndarray] = {}
        self.foreign: list[str] = []  # what the pickle names besides tensors

    def _byteorder(self) -> str:
        record = self.folder + "byteorder"
        if record not in self.archive.namelist():
            return "little"
        return self.archive.read(record).decode()

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "collections.OrderedDict": _Dict,
            "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
            "torch._utils._rebuild_parameter": _rebuild_parameter,
        }
        if f"{module}.{name}" in known:
            return known[f"{module}.{name}"]
        if module == "torch" and name in _STORAGES:
            return name  # a plain string, which a pickle can do nothing with
        self.foreign.append(f"{module}.{name}")
        return _Foreign

    def persistent_load(self, pid: Any) -> tuple[np.ndarray, np.dtype]:
        """A storage: its bytes, and what they are."""
        _, kind, key, _, length = pid
        if not (isinstance(kind, str) and isinstance(key, str)):  # hashing could take for ever
            raise ValueError("a storage without a name")
        dtype = _STORAGES[kind]
        if key not in self.storages:
            self.storages[key] = self._storage(f"{self.folder}data/{key}", dtype.itemsize)
        if self.storages[key].nbytes != length * dtype.itemsize:
            raise ValueError(f"storage {key} has {self.storages[key].nbytes} bytes")
        return self.storages[key], dtype

    def _storage(self, entry: str, itemsize: int) -> np.ndarray:
        info = self.archive.getinfo(entry)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size == 0:
            raw = np.frombuffer(self.archive.read(entry), np.uint8)
        else:
            offset = _payload_offset(self.path, info)
            raw = np.memmap(self.path, np.uint8, "r", offset, (info.file_size,))
        return raw.view(f"u{itemsize}").byteswap().view(np.uint8) if self.swapped else raw


def _payload_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin: after a 30-byte header, its name and its extra field."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + name_length + extra_length


def _rebuild_tensor(
    storage: tuple[np.ndarray, np.dtype],
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *_: Any,
) -> np.ndarray:
    """A view of the storage; offset and strides count elements. NumPy checks the bounds."""
    raw, dtype = storage
    size = dtype.itemsize
    if math.prod(shape) * size > raw.nbytes:  # strides of 0 could make any size of one number
        raise ValueError(f"a tensor {shape} is larger than its storage of {raw.nbytes} bytes")
    return np.ndarray(shape, dtype, raw, offset * size, [size * stride for stride in strides])


def _rebuild_parameter(data: np.ndarray, *_: Any) -> np.ndarray:
    return data
