"""The foreign code that XLA calls on a CPU: oneDNN's convolutions, and normalisation.

oneDNN comes with the extra of that name. What joins it to XLA, the files *.cc, is compiled at the
first use, which takes some seconds, and kept in the user's cache folder.
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
import jax.numpy as jnp
from jax.typing import DTypeLike

CONVOLUTION = "repaint_convolution"
BY_KERNEL = "repaint_convolution_by_kernel"
NORMALIZATION = "repaint_normalization"
NORMALIZATION_GRADIENT = "repaint_normalization_gradient"
_TARGETS = {
    CONVOLUTION: "RepaintConvolution",
    BY_KERNEL: "RepaintKernelGradient",
    NORMALIZATION: "RepaintNormalization",
    NORMALIZATION_GRADIENT: "RepaintNormalizationGradient",
}
_SOURCES = sorted(Path(__file__).parent.glob("*.cc"))
_HEADERS = sorted(Path(__file__).parent.glob("*.h"))
_left_out = False
_AVX512, _BFLOAT16 = 0x27, 0xE7  # of oneDNN's `dnnl_cpu_isa_t`: AVX-512, and its BF16 beside it


@contextmanager
def left_out() -> Iterator[None]:
    """What is traced inside has XLA's own convolutions, whose operations XLA can count."""
    global _left_out
    _left_out = True
    try:
        yield
    finally:
        _left_out = False


def convolves(dtype: DTypeLike) -> bool:
    """Whether networks that are traced now shall have foreign convolutions of that dtype."""
    if _left_out or jax.default_backend() != "cpu" or not available():
        return False
    return dtype == jnp.float32 or (dtype == jnp.bfloat16 and faster_in_bfloat16())


def faster_in_bfloat16() -> bool:
    """Whether this process's CPU multiplies bfloat16 faster than float32, and oneDNN is here."""
    return available() and _instructions() & _BFLOAT16 == _BFLOAT16


def best_dtype() -> tuple[str, str]:
    """The dtype "auto" of networks, and why: bfloat16 on CPUs that are faster in it."""
    backend = jax.default_backend()
    if backend != "cpu":
        return "float32", f"on a {backend} bfloat16 is yours to choose"
    if faster_in_bfloat16():
        return "bfloat16", "this CPU multiplies it faster"
    if available():
        return "float32", "this CPU has neither AVX-512 BF16 nor AMX"
    return "float32", "convolutions run without oneDNN, see docs/performance.md"


@cache
def available() -> bool:
    """Whether the foreign code runs on this process's CPU; the first call makes it so.

    It does where the extra is installed, the CPU knows AVX-512 (without it oneDNN is slower than
    XLA on kernels in the order HWIO) and a C++ compiler is found; `REPAINT_JAX_ONEDNN=0` forbids
    it.
    """
    if os.environ.get("REPAINT_JAX_ONEDNN") == "0":
        return False
    try:
        if _instructions() & _AVX512 != _AVX512:
            return False
        library = ctypes.CDLL(str(_compiled(*_found())))
    except metadata.PackageNotFoundError:
        return False
    except (OSError, subprocess.CalledProcessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        warnings.warn(
            "convolutions run without oneDNN, which needs g++ 10 or newer (or another compiler in "
            f"CXX) and a writable cache folder: {output.strip().splitlines()[-1]}; "
            "REPAINT_JAX_ONEDNN=0 silences this",
            stacklevel=2,
        )
        return False
    for target, symbol in _TARGETS.items():
        function = jax.ffi.pycapsule(getattr(library, symbol))
        jax.ffi.register_ffi_target(target, function, platform="cpu")
    return True


@cache
def _found() -> tuple[Path, Path]:
    """The library of oneDNN and the folder of its headers."""
    library = _installed("onednn-cpu-gomp", "libdnnl.so.3")
    return library, _installed("onednn-devel-cpu-gomp", "dnnl.hpp").parent


@cache
def _instructions() -> int:
    """What oneDNN can use of this CPU, `dnnl_cpu_isa_t`."""
    return ctypes.CDLL(str(_found()[0])).dnnl_get_effective_cpu_isa()


def _installed(package: str, name: str) -> Path:
    """The file of that name nearest to the package's root."""
    files = [file for file in metadata.files(package) or () if file.name == name]
    if not files:
        raise metadata.PackageNotFoundError(package)
    return Path(str(min(files, key=lambda file: len(file.parts)).locate())).resolve()


def _compiled(onednn: Path, headers: Path) -> Path:
    """The library of the foreign code, from the cache if it is there."""
    command = [
        *shlex.split(os.environ.get("CXX", "g++")),
        *("-std=c++20", "-O3", "-DNDEBUG", "-fPIC", "-shared"),
        *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
        *("-isystem", str(headers), "-isystem", jax.ffi.include_dir()),
        *(*map(str, _SOURCES), str(onednn), f"-Wl,-rpath,{onednn.parent}"),
    ]
    code = b"".join(path.read_bytes() for path in (*_SOURCES, *_HEADERS))
    made_of = repr((command, jax.lib.__version__)).encode() + code
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
