"""A benchmark: its rows in turn, each written when it is done, so that a killed one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from benchmarks.speed import BenchmarkError
from benchmarks.speed.machine import (
    Quiet,
    available_memory,
    describe_machine,
    matrix_product,
    peak_memory,
    printed_by,
)
from benchmarks.speed.networks import flops_of, shapes_of, unet_config
from benchmarks.speed.ours import Ours, Workload
from benchmarks.speed.report import plot, summary, title, told
from benchmarks.speed.rounds import Contestant, alternate, seconds_of
from repaint_jax.runtime.files import replacing, workdir_errors

# Of the largest value: TF32 on a GPU, and 16 bits through some sixty layers, agree no better.
_AGREEMENT = {"float32": 5e-3, "bfloat16": 5e-2}


@dataclass(frozen=True)
class Request:
    """What is measured.

    Attributes:
        network: "adm" or "ddpm".
        sizes: sides of the pictures.
        batches: pictures at once.
        widths: channels a level; the published ones if None.
        dtype: "float32" or "bfloat16".
        schedule: T, j and r of a round's trajectory.
        rounds: rounds of each, alternating.
        peers: some of "eager" and "compiled".
        max_seconds: rows that would take longer are skipped.
    """

    network: str
    sizes: tuple[int, ...]
    batches: tuple[int, ...]
    widths: tuple[int, ...] | None
    dtype: str
    schedule: tuple[int, int, int]
    rounds: int
    peers: tuple[str, ...]
    max_seconds: float

    def workload(self, size: int, batch: int) -> Workload:
        """A round at one size and batch.

        Raises:
            BenchmarkError: there is no such network.
        """
        try:
            config = unet_config(self.network, size, self.widths)
        except ValueError as error:
            raise BenchmarkError(error) from error
        return Workload(config, size, batch, self.dtype, self.schedule)

    def workloads(self) -> Iterator[Workload]:
        """All rows, the quickest first."""
        for size in sorted(self.sizes):
            for batch in sorted(self.batches):
                yield self.workload(size, batch)

    def key(self, work: Workload, versions: Mapping[str, Any]) -> dict[str, Any]:
        """What tells a row from another, as JSON has it; `versions` of the peers among it."""
        key = {name: getattr(self, name) for name in ("network", "schedule", "rounds", "peers")}
        key |= {"size": work.size, "batch": work.batch, "dtype": work.dtype}
        key |= {"widths": work.config["block_out_channels"], **versions}
        return json.loads(json.dumps(key))


def run_benchmark(
    request: Request, workdir: Path, alone: Callable[[str, Workload], Sequence[str]]
) -> None:
    """Measures the rows that `workdir` lacks; writes benchmark.json, benchmark.md, benchmark.png.

    Args:
        request: what to measure.
        workdir: the folder.
        alone: the command of a process that runs "jax" or "torch" alone and prints its peak
            memory, as `run_alone` does.

    Raises:
        BenchmarkError: no such network, PyTorch is missing, or the networks do not agree.
        OSError: the folder cannot be written.
    """
    works = list(request.workloads())
    machine = describe_machine()
    versions = _torch_peers().prepare_torch() if request.peers else {}
    print("; ".join(f"{name} {value}" for name, value in (machine | versions).items()))
    path = workdir / "benchmark.json"
    rows = kept_rows(path, machine)
    rate = quick_rate(request.dtype)
    print(f"matrix products at {rate / 1e9:.0f} GFLOP/s\n")
    for work in works:
        key = request.key(work, versions)
        found = next((row for row in rows if row["key"] == key), None)
        if found is None or "skipped" in found:
            rows = [row for row in rows if row["key"] != key]
            rows.append(found := {"key": key, **measured(request, work, rate, alone)})
            with workdir_errors(workdir):
                write(workdir, machine, rows)
        else:
            print(f"kept from {path}; remove it to measure again")
        print(told(found))
    print(f"written: {path}, and the same as .md and .png")


def kept_rows(path: Path, machine: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that this machine and these versions have measured before."""
    if not path.is_file():
        return []
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        same, rows = known["machine"] == machine, known["rows"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise BenchmarkError(
            f"{path} is not of a benchmark: remove it, or choose another --workdir"
        ) from error
    if not same:
        raise BenchmarkError(
            f"{path} was measured on another machine or with other versions or other code: remove "
            "it, or choose another --workdir"
        )
    return rows


def write(workdir: Path, machine: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """The three files, each whole or not at all."""
    done = [row for row in rows if "skipped" not in row]
    figures = [row if "skipped" in row else {**row, "summary": summary(row)} for row in rows]
    texts = {
        "json": json.dumps({"machine": machine, "rows": figures}, indent=1),
        "md": "\n".join([*(f"* {name}: {value}" for name, value in machine.items()), "",
                         *map(told, rows)]),
    }  # fmt: skip
    for suffix, text in texts.items():
        with replacing(workdir / f"benchmark.{suffix}") as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    if done:
        plot(done, workdir / "benchmark.png")


def quick_rate(dtype: str) -> float:
    """A first idea of the machine's matrix rate, FLOP/s."""
    product, flops = matrix_product(dtype, products=1)
    return flops / min(seconds_of(product) for _ in range(4))


def measured(
    request: Request,
    work: Workload,
    rate: float,
    alone: Callable[[str, Workload], Sequence[str]],
) -> dict[str, Any]:
    """A row: what was measured, or why it was skipped."""
    graph, shapes = shapes_of(work.config, work.dtype)
    row: dict[str, Any] = {
        **{name: value for name, value in asdict(request).items() if name in ("network", "rounds")},
        "size": work.size, "batch": work.batch, "dtype": work.dtype, "calls": work.calls,
        "weights": sum(shape.size for shape in jax.tree.leaves(shapes)),
        "flops": flops_of(graph, shapes, work.size),
    }  # fmt: skip
    seconds = expected_seconds(row, rate, contestants=3 + 2 * len(request.peers))
    if seconds > request.max_seconds:
        why = f"it would take about {seconds / 60:.0f} minutes; --max_seconds={seconds:.0f}"
        return {**row, "skipped": f"{why} measures it, or fewer --rounds or a shorter --schedule"}
    ours = Ours(work)
    needed = ours.memory * (2 if request.peers else 1)
    if (free := available_memory()) is not None and needed > free:
        why = f"it needs about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        return {**row, "skipped": why}
    row |= timed(request, work, ours, title(row))
    names = ("jax", "torch") if request.peers else ("jax",)
    return {**row, "peak_memory": {name: printed_by(alone(name, work)) for name in names}}


def expected_seconds(row: dict[str, Any], rate: float, contestants: int) -> float:
    """How long a row takes if everything runs at half of the matrix rate."""
    calls = row["calls"] * (row["rounds"] + 1) * contestants
    return calls * row["batch"] * row["flops"] / (0.5 * rate)


def timed(request: Request, work: Workload, ours: Ours, label: str) -> dict[str, Any]:
    """The seconds of every round, after each contestant's first, which compiles."""
    model = ours.random_model()
    contestants = ours.contestants(model)
    products = {"jax": matrix_product(work.dtype)}
    if request.peers:
        torch_peers = _torch_peers()
        peers = torch_peers.Peers(work, model)
        check_equal(work, ours, model, peers)
        contestants |= peers.contestants(request.peers)
        products["torch"] = torch_peers.torch_matrix_product(work.dtype)
    turns = len(contestants) * (request.rounds + 1) + len(products) * request.rounds
    with tqdm(total=turns, desc=label, unit="turn") as bar:
        first, left_out = warmed_up(contestants, bar)
        first["forward"] += ours.compile_seconds
        turn = {name: contestants[name] for name in first}
        turn |= {f"matrix {name}": product for name, (product, _) in products.items()}
        seconds: dict[str, list[float]] = {name: [] for name in turn}
        quiet = Quiet()
        for name, taken in alternate(turn, request.rounds):
            seconds[name].append(taken)
            bar.update()
        others = quiet.others()
    return {
        "first_seconds": first,
        "seconds": {name: seconds[name] for name in first},
        "matrix": {
            name: flops / min(seconds[f"matrix {name}"]) for name, (_, flops) in products.items()
        },
        "left_out": left_out,
        "cores_busy_elsewhere": others,
    }


def warmed_up(
    contestants: Mapping[str, Contestant], bar: tqdm
) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of everyone's first round; and of the compiled peers that fail, why."""
    first, left_out = {}, {}
    for name, contestant in contestants.items():
        try:
            first[name] = seconds_of(contestant)
        except Exception as error:  # torch.compile needs a C++ compiler, and fails in many ways
            if not name.endswith("_compiled"):
                raise
            left_out[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        bar.update()
    return first, left_out


def check_equal(work: Workload, ours: Ours, model: Any, peers: Any) -> None:
    """Raises BenchmarkError unless the two networks predict the same."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((work.batch, work.size, work.size, 3), np.float32)
    mine, theirs = ours.prediction(model, x, 321), peers.prediction(x, 321)
    difference = float(np.abs(mine - theirs).max() / np.abs(theirs).max())
    if not difference < _AGREEMENT[work.dtype]:
        raise BenchmarkError(
            f"the networks differ by {difference:.1e} of the largest value, so that their times "
            f"cannot be compared; expected less than {_AGREEMENT[work.dtype]:.0e}"
        )


def run_alone(name: str, work: Workload) -> int | None:
    """Runs one trajectory of "jax" or "torch" and tells the most memory this process held."""
    ours = Ours(work)
    model = ours.random_model()
    if name == "jax":
        ours.contestants(model)["sampler"]()
        return peak_memory()
    torch_peers = _torch_peers()
    torch_peers.Peers(work, model).contestants(["eager"])["diffusers"]()
    return torch_peers.peak_memory_of_torch() or peak_memory()


def _torch_peers() -> Any:
    """The peers' module, which needs PyTorch."""
    try:
        from benchmarks.speed import peers
    except ImportError as error:
        raise BenchmarkError(
            f"{error.name} is not installed: pip install -r requirements-parity.txt, or leave the "
            "peers out, --peers=none"
        ) from error
    return peers
