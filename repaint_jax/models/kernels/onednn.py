"""oneDNN's convolution as a function that XLA can call on a CPU.

oneDNN comes with the extra of that name. What joins it to XLA, onednn.cc, is compiled at the first
use, which takes some seconds, and kept in the user's cache folder.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path

import jax

TARGET = "repaint_convolution"  # (x f32[B, H, W, in], kernel HWIO, bias) -> y f32[B, H', W', out]
_SOURCE = Path(__file__).with_suffix(".cc")
_left_out = False
_AVX512 = 0x20  # a bit of oneDNN's `dnnl_cpu_isa_t`


@contextmanager
def left_out() -> Iterator[None]:
    """What is traced inside has XLA's own convolutions, whose operations XLA can count."""
    global _left_out
    _left_out = True
    try:
        yield
    finally:
        _left_out = False


def wanted() -> bool:
    """Whether networks that are traced now shall have oneDNN's convolutions."""
    return not _left_out and available()


@cache
def available() -> bool:
    """Whether `TARGET` may be called on this process's CPU; the first call makes it so.

    It may where the extra is installed, the CPU knows AVX-512 (without it oneDNN is slower than XLA
    on kernels in the order HWIO) and a C++ compiler is found; `REPAINT_JAX_ONEDNN=0` forbids it.
    """
    if os.environ.get("REPAINT_JAX_ONEDNN") == "0":
        return False
    try:
        onednn = _installed("onednn-cpu-gomp", "libdnnl.so.3")
        headers = _installed("onednn-devel-cpu-gomp", "dnnl.hpp").parent
    except metadata.PackageNotFoundError:
        return False
    try:
        if not ctypes.CDLL(str(onednn)).dnnl_get_effective_cpu_isa() & _AVX512:
            return False
        function = ctypes.CDLL(str(_compiled(onednn, headers))).RepaintConvolution
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        warnings.warn(
            "convolutions run without oneDNN, which needs g++ 10 or newer (or another compiler in "
            f"CXX) and a writable cache folder: {told.strip().splitlines()[-1]}; "
            "REPAINT_JAX_ONEDNN=0 silences this",
            stacklevel=2,
        )
        return False
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(function), platform="cpu")
    return True


def _installed(package: str, name: str) -> Path:
    """The file of that name nearest to the package's root."""
    files = [file for file in metadata.files(package) or () if file.name == name]
    if not files:
        raise metadata.PackageNotFoundError(package)
    return Path(str(min(files, key=lambda file: len(file.parts)).locate())).resolve()


def _compiled(onednn: Path, headers: Path) -> Path:
    """The library of onednn.cc, from the cache if it is there."""
    command = [
        *shlex.split(os.environ.get("CXX", "g++")),
        *("-std=c++20", "-O2", "-DNDEBUG", "-fPIC", "-shared"),
        *("-isystem", str(headers), "-isystem", jax.ffi.include_dir()),
        *(str(_SOURCE), str(onednn), f"-Wl,-rpath,{onednn.parent}"),
    ]
    made_of = repr((command, jax.lib.__version__)).encode() + _SOURCE.read_bytes()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "repaint_jax"
    library = folder / f"onednn-{hashlib.sha256(made_of).hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            output = Path(scratch, library.name)
            subprocess.run(
                [*command, "-o", str(output)], check=True, capture_output=True, text=True
            )
            output.replace(library)  # whole or not at all, whoever else compiles
    return library
