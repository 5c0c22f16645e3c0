"""Writes files as torch.save does, opcode by opcode, so that tests need no torch."""

import struct
import zipfile
from pathlib import Path

import numpy as np

KINDS = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "bool": "BoolStorage",
}


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value: int) -> bytes:
    return b"I%d\n" % value


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def call(function: str, *arguments: bytes) -> bytes:
    module, name = function.rsplit(".", 1)
    return f"c{module}\n{name}\n".encode() + tuple_of(*arguments) + b"R"


def dict_of(items: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def tensor(kind, key, length, shape, strides, offset=0) -> bytes:
    storage = tuple_of(
        text("storage"),
        f"ctorch\n{kind}\n".encode(),
        text(key),
        text("cpu"),
        integer(length),
    )
    return call(
        "torch._utils._rebuild_tensor_v2",
        storage + b"Q",
        integer(offset),
        tuple_of(*map(integer, shape)),
        tuple_of(*map(integer, strides)),
        b"\x89",
        call("collections.OrderedDict"),
    )


def write_zip(
    path: Path,
    content: bytes,
    storages: dict[str, bytes],
    *,
    byteorder: str | None = "little",
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
        if byteorder:
            archive.writestr("archive/byteorder", byteorder)
        for key, raw in storages.items():
            archive.writestr(f"archive/data/{key}", raw)
    return path


def state_dict(arrays: dict[str, np.ndarray], storages: dict[str, bytes]) -> bytes:
    """Puts the arrays' bytes among `storages`."""
    items = {}
    for name, array in arrays.items():
        array = np.array(array, order="C")
        strides = [stride // array.itemsize for stride in array.strides]
        key = str(len(storages))
        items[name] = tensor(KINDS[array.dtype.name], key, array.size, array.shape, strides)
        storages[key] = array.tobytes()
    return dict_of(items)


def write_state_dict(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    storages: dict[str, bytes] = {}
    return write_zip(path, state_dict(arrays, storages), storages)
