"""Times this sampler beside diffusers' RePaintPipeline: same network, weights and machine, one run.

python scripts/benchmark.py
python scripts/benchmark.py --size=32,64 --batches=1,4,16 --max_seconds=3600
python scripts/benchmark.py --size=256 --dtype=bfloat16 --batches=8,16    (on a GPU)

Every row (a size and a batch) runs in alternating rounds: this project's sampler, without and with
progress; diffusers' pipeline, eager and compiled; the bare network of each; and matrix products, to
see what the machine gives. Medians are told, with the least and the greatest. Before anything is
timed, the outputs of the two networks are compared. docs/performance.md says how to read it.

PyTorch and diffusers come with requirements-parity.txt; --peers=none does without. Killed at any
moment, the same command goes on with the rows that are not there yet.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from absl import app, flags, logging

from benchmarks.speed import BenchmarkError
from benchmarks.speed.ours import Workload
from benchmarks.speed.run import Request, run_alone, run_benchmark
from repaint_jax.runtime.devices import one_device_a_core
from repaint_jax.runtime.files import expanded

_NETWORK = flags.DEFINE_enum(
    "network",
    "adm",
    ["adm", "ddpm"],
    "guided-diffusion's U-Net (552.8 M weights at 256), or that of Ho et al. (113.7 M).",
)
_SIZE = flags.DEFINE_list("size", ["64"], "Sides of the pictures: 32, 64, 256.")
_WIDTHS = flags.DEFINE_list("widths", None, "Channels of each level, for any other size.")
_BATCHES = flags.DEFINE_list("batches", ["1", "4"], "Pictures at once.")
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "In which the networks compute."
)
_SCHEDULE = flags.DEFINE_string(
    "schedule", "10/5/2", "T/j/r of a round's trajectory; 10/5/2 is 15 network calls."
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of each, alternating.", lower_bound=1)
_PEERS = flags.DEFINE_list("peers", ["eager", "compiled"], "PyTorch's modes, or none.")
_MAX_SECONDS = flags.DEFINE_float("max_seconds", 900, "Skip rows that would take longer.")
_WORKDIR = flags.DEFINE_string("workdir", "out/benchmark", "Folder for the results.")
_ONLY = flags.DEFINE_enum(
    "only", None, ["jax", "torch"], "Run one trajectory alone and print its peak memory."
)


def main(argv: Sequence[str]) -> None:
    """Measures, or measures one row's memory."""
    if len(argv) > 1:
        sys.exit(f"error: {argv[1]!r} is no flag; flags look like --size=64")
    logging.set_verbosity(logging.WARNING)  # JAX tells which backends it did not find
    # JAX would take most of a GPU's memory at once and leave PyTorch none.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    one_device_a_core()
    try:
        request = build_request()
        if _ONLY.value:
            work = request.workload(request.sizes[0], request.batches[0])
            print(run_alone(_ONLY.value, work))
        else:
            run_benchmark(request, expanded(_WORKDIR.value), alone)
    except (BenchmarkError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(f"\nstopped; finished rows are in {_WORKDIR.value}", file=sys.stderr)
        sys.exit(130)


def build_request() -> Request:
    """What the flags ask for."""
    schedule = numbers("schedule", _SCHEDULE.value.split("/"))
    if len(schedule) != 3:
        raise BenchmarkError(f"--schedule: T/j/r such as 10/5/2, not {_SCHEDULE.value}")
    peers = () if _PEERS.value == ["none"] else tuple(_PEERS.value)
    if wrong := set(peers) - {"eager", "compiled"}:
        raise BenchmarkError(f"--peers: eager, compiled or none, not {min(wrong)}")
    return Request(
        network=_NETWORK.value,
        sizes=numbers("size", _SIZE.value),
        batches=numbers("batches", _BATCHES.value),
        widths=None if _WIDTHS.value is None else numbers("widths", _WIDTHS.value),
        dtype=_DTYPE.value,
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
    """This command for one row alone; of a flag given twice the last counts."""
    row = [f"--only={name}", f"--size={work.size}", f"--batches={work.batch}"]
    return [sys.executable, "-m", "benchmarks.speed", *sys.argv[1:], *row]


if __name__ == "__main__":
    app.run(main)
