"""What JAX compiles is kept on disk, so that a second start compiles nothing."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from pathlib import Path

import jax

_LARGEST = 1 << 30  # bytes; beyond them goes what was used longest ago
_KERNELS = Path(__file__).parents[1] / "models" / "kernels"


def keep_compiled() -> None:
    """Turns JAX's persistent compilation cache on, in a folder of ~/.cache/repaint_jax/xla.

    What the user has set stands: `XDG_CACHE_HOME` in the place of ~/.cache,
    `JAX_COMPILATION_CACHE_DIR=FOLDER` in that of the whole, `JAX_ENABLE_COMPILATION_CACHE=false`
    for none. JAX finds a program by its code, its own and XLA's version and flags, and the features
    of the CPU or the accelerator, so that machines may share the folder. Of how our own kernels are
    spread over devices that code has but an address in this process's memory, which JAX is told to
    leave out; so each version of these kernels has a folder of its own.

    Warns:
        UserWarning: when the folder cannot be written; everything is compiled anew then.
    """
    if not jax.config.jax_enable_compilation_cache:  # type: ignore[attr-defined]
        return
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        folder = _cache_home() / "repaint_jax" / "xla" / _kernels()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_unfinished(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass  # it can be written
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        warnings.warn(
            f"what is compiled cannot be kept for the next start ({error}): set "
            "JAX_COMPILATION_CACHE_DIR to a folder that can be written, or "
            "JAX_ENABLE_COMPILATION_CACHE=false",
            stacklevel=2,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _LARGEST)
    jax.config.update("jax_remove_custom_partitioning_ptr_from_cache_key", True)


def _kernels() -> str:
    """Another word for each version of our own kernels."""
    digest = hashlib.blake2b(digest_size=4)
    for file in sorted(_KERNELS.glob("*.*")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _remove_unfinished(folder: Path) -> None:
    """Removes programs that a killed run left half written, which JAX would not write again."""
    for program in folder.glob("*-cache"):
        used = program.with_name(program.name.removesuffix("cache") + "atime")
        if not used.exists():  # JAX writes it last
            program.unlink(missing_ok=True)
