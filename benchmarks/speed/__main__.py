"""Times this sampler beside diffusers' RePaintPipeline: same network, weights and machine, one run.

python scripts/benchmark.py
python scripts/benchmark.py --network=adm --size=32,64 --batches=1,4,16 --max_seconds=3600
python scripts/benchmark.py --network=adm --size=256 --dtype=bfloat16 --batches=8    (on a GPU)

Every row (a network, a size, a batch and a dtype) runs in alternating rounds: this project's
sampler, without and with progress; diffusers' pipeline, eager and compiled; the bare network of
each; and matrix products, to see what the machine gives. This project, PyTorch and PyTorch compiled
have a process each. Medians are told, with the least and the greatest, and the ratio to the fastest
peer. Before anything is timed, the outputs of the networks are compared. docs/performance.md says
how to read it.

PyTorch and diffusers come with requirements-parity.txt; --peers=none does without. Killed at any
moment, the same command goes on with the rows that are not there yet.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from absl import app, flags, logging

from repaint_jax.files import expanded
from repaint_jax.runtime.devices import keep_roundings, one_device_a_core

from . import BenchmarkError
from .ours import Workload
from .run import Request, run_benchmark
from .serving import serve_row
from .workers import WorkerError

_NETWORKS = flags.DEFINE_list(
    "network",
    ["adm", "faces"],
    "adm, guided-diffusion's U-Net (552.8 M weights at 256); ddpm, that of Ho et al. (113.7 M); "
    "faces, that of the model of 64x64 faces.",
)
_SIZE = flags.DEFINE_list("size", ["64"], "Sides of the pictures: 32, 64, 256.")
_WIDTHS = flags.DEFINE_list("widths", None, "Channels of each level, for any other size.")
_BATCHES = flags.DEFINE_list("batches", ["1", "4"], "Pictures at once.")
_DTYPES = flags.DEFINE_list(
    "dtype", ["float32", "bfloat16"], "In which the networks compute: float32, bfloat16."
)
_SCHEDULE = flags.DEFINE_string(
    "schedule", "10/5/2", "T/j/r of a round's trajectory; 10/5/2 is 15 network calls."
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of each, alternating.", lower_bound=1)
_PEERS = flags.DEFINE_list("peers", ["eager", "compiled"], "PyTorch's modes, or none.")
_MAX_SECONDS = flags.DEFINE_float("max_seconds", 900, "Skip rows that would take longer.")
_WORKDIR = flags.DEFINE_string("workdir", "out/benchmark", "Folder for the results.")
_ONLY = flags.DEFINE_enum(
    "only", None, ["jax", "eager", "compiled"], "Be the process of one, told what to do on stdin."
)


def main(argv: Sequence[str]) -> None:
    """Measures, or is the process of one contestant."""
    if len(argv) > 1:
        sys.exit(f"error: {argv[1]!r} is no flag; flags look like --size=64")
    logging.set_verbosity(logging.WARNING)  # JAX tells which backends it did not find
    # JAX would take most of a GPU's memory at once and leave PyTorch none.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    one_device_a_core()
    keep_roundings()
    try:
        request = build_request()
        if _ONLY.value:
            with TemporaryDirectory() as folder:
                serve_row(_ONLY.value, next(request.workloads()), Path(folder))
        else:
            run_benchmark(request, expanded(_WORKDIR.value), alone)
    except (BenchmarkError, WorkerError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(f"\nstopped; finished rows are in {_WORKDIR.value}", file=sys.stderr)
        sys.exit(130)


def build_request() -> Request:
    """What the flags ask for."""
    schedule = numbers("schedule", _SCHEDULE.value.split("/"))
    if len(schedule) != 3:
        raise BenchmarkError(f"--schedule: T/j/r such as 10/5/2, not {_SCHEDULE.value}")
    for flag, given, known in [
        ("network", _NETWORKS.value, ["adm", "ddpm", "faces"]),
        ("dtype", _DTYPES.value, ["float32", "bfloat16"]),
    ]:
        if wrong := set(given) - set(known):
            raise BenchmarkError(f"--{flag}: some of {', '.join(known)}, not {min(wrong)}")
    peers = () if _PEERS.value == ["none"] else tuple(_PEERS.value)
    if wrong := set(peers) - {"eager", "compiled"}:
        raise BenchmarkError(f"--peers: eager, compiled or none, not {min(wrong)}")
    return Request(
        networks=tuple(_NETWORKS.value),
        sizes=numbers("size", _SIZE.value),
        batches=numbers("batches", _BATCHES.value),
        widths=None if _WIDTHS.value is None else numbers("widths", _WIDTHS.value),
        dtypes=tuple(_DTYPES.value),
        schedule=(schedule[0], schedule[1], schedule[2]),
        rounds=_ROUNDS.value,
        peers=peers,
        max_seconds=_MAX_SECONDS.value,
    )


def numbers(flag: str, texts: Sequence[str]) -> tuple[int, ...]:
    """Positive integers, or an error that names the flag."""
    if not texts or not all(text.isdecimal() and int(text) for text in texts):
        raise BenchmarkError(f"--{flag}: positive integers, not {','.join(texts) or 'nothing'}")
    return tuple(map(int, texts))


def alone(name: str, work: Workload) -> list[str]:
    """This command for one contestant of one row; of a flag given twice the last counts."""
    row = [f"--only={name}", f"--network={work.network}", f"--size={work.size}",
           f"--batches={work.batch}", f"--dtype={work.dtype}"]  # fmt: skip
    return [sys.executable, "-m", str(__package__), *sys.argv[1:], *row]


if __name__ == "__main__":
    app.run(main)
