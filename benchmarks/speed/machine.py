"""What the machine is, how fast it multiplies matrices, and how much memory a process took."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

import repaint_jax
from repaint_jax.runtime.devices import num_cores

from .rounds import Contestant

MATRIX_SIDE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}  # large enough for the full rate


def describe_machine() -> dict[str, Any]:
    """The machine and the versions, as JSON has them."""
    device = jax.local_devices()[0]
    return {
        "device": _processor() if device.platform == "cpu" else device.device_kind,
        "platform": device.platform,
        "devices": jax.local_device_count(),
        "cores": num_cores(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "code": _fingerprint(),
    }


def matrix_product(dtype: Any, products: int = 4) -> tuple[Contestant, float]:
    """Square matrix products in JAX, and how many floating-point operations they are."""
    side = MATRIX_SIDE[jax.default_backend()]
    matrix = jnp.full((side, side), 1 / side, dtype)  # a product of such is one again
    multiplied = jax.jit(partial(_power, times=products))
    return lambda: multiplied(matrix).block_until_ready(), 2.0 * side**3 * products


def _power(matrix: jax.Array, times: int) -> jax.Array:
    product = matrix
    for _ in range(times):
        product = product @ matrix
    return product


def available_memory() -> int | None:
    """Bytes that are free where JAX computes; None if the system does not tell."""
    device = jax.local_devices()[0]
    if stats := device.memory_stats():
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return _kilobytes("/proc/meminfo", "MemAvailable:")


def peak_memory() -> int | None:
    """The most bytes this process held at once where JAX computes; None if not told."""
    if stats := jax.local_devices()[0].memory_stats():
        return stats["peak_bytes_in_use"]
    # Not getrusage's figure, which a process inherits from its parent.
    return _kilobytes("/proc/self/status", "VmHWM:")


class Quiet:
    """How many cores other processes keep busy, from its making on."""

    def __init__(self, own: Callable[[], float] = time.process_time) -> None:
        """Starts to watch; `own` tells the processor seconds that are no others'."""
        self._own = own
        self._before = self._seconds()

    def others(self) -> float | None:
        """Cores that other processes kept busy meanwhile, on average; None if not told."""
        now = self._seconds()
        if self._before is None or now is None:
            return None
        wall, others = np.subtract(now, self._before)
        return max(0.0, float(others / wall))

    def _seconds(self) -> tuple[float, float] | None:
        """The clock, and the processor seconds of all others so far."""
        path = Path("/proc/stat")
        if not path.is_file():
            return None
        user, nice, system, _, _, *interrupts = map(
            int, path.read_text(encoding="utf-8").split("\n")[0].split()[1:9]
        )
        busy = (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy - self._own()


def _kilobytes(file: str, field: str) -> int | None:
    path = Path(file)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return int(text.split(field)[1].split()[0]) * 1024 if field in text else None


def _fingerprint() -> str:
    """Of the code: figures of another one are not to be mixed with these."""
    files = [*Path(__file__).parent.rglob("*.py"), *Path(repaint_jax.__file__).parent.rglob("*.py")]
    code = b"".join(path.read_bytes() for path in sorted(files))
    return hashlib.sha256(code).hexdigest()[:12]


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()
