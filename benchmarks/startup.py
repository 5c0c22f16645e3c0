"""Times the start of scripts/inpaint.py: from the command to the end of its first network call.

python -m benchmarks.startup
python -m benchmarks.startup --config=configs/fashion_mnist.py --rounds=9

Each round starts it with an empty compilation cache and then with the cache that this left. What it
imports, reads and compiles by itself is told besides by `python -X importtime` and in metrics.json.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

_CONFIG = flags.DEFINE_string("config", "configs/celeba.py", "What scripts/inpaint.py runs.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Pairs of starts.")

SCRIPT = Path(__file__).parents[1] / "scripts" / "inpaint.py"


def main(argv: list[str]) -> None:
    """Starts, and prints medians and spread."""
    del argv
    rows = []
    for _ in range(_ROUNDS.value):
        with tempfile.TemporaryDirectory() as folder:
            rows.append([seconds_to_first_call(folder) for _ in range(2)])
    first, second = np.moveaxis(np.array(rows), 1, 0)  # [rounds, 2]: by the clock, of all cores
    for name, seconds in (
        ("first start, s", first),
        ("second start, s", second),
        ("second / first", second / first),
    ):
        low, median, high = np.percentile(seconds, (0, 50, 100), axis=0)
        print(
            f"{name:16} {median[0]:6.2f} by the clock (from {low[0]:.2f} to {high[0]:.2f}), "
            f"{median[1]:6.2f} of processor time (from {low[1]:.2f} to {high[1]:.2f})"
        )


def seconds_to_first_call(folder: str) -> tuple[float, float]:
    """Seconds until the progress bar counts a call, with the cache in `folder`.

    By the clock, and of processor time, which other programs on the machine disturb less.
    """
    command = [sys.executable, str(SCRIPT), f"--config={_CONFIG.value}", f"--workdir={folder}/out"]
    cache = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with subprocess.Popen(
        command, env={**os.environ, **cache}, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr is not None
        seen = ""
        while "sampling" not in seen:
            character = run.stderr.read(1)
            if not character:
                sys.exit(seen.strip())
            seen += character
        seconds = time.perf_counter() - started
        run.kill()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    app.run(main)
