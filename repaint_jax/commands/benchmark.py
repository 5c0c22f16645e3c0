"""Times this sampler beside PyTorch's: what python -m benchmarks.speed does in a clone."""

import runpy
import sys
from pathlib import Path

import repaint_jax
from repaint_jax.files import beside


def main() -> None:
    """Runs the benchmark from where it lies."""
    folder = beside("benchmarks")
    name = "benchmarks.speed"
    if folder.parent == Path(repaint_jax.__file__).parent:
        name = f"repaint_jax.{name}"
    else:
        sys.path.insert(0, str(folder.parent))
    runpy.run_module(name, run_name="__main__", alter_sys=True)
