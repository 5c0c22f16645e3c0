"""A benchmark: its rows in turn, each written when it is done, so that a killed one goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from repaint_jax.files import workdir_errors, write_text

from . import BenchmarkError
from .machine import (
    Quiet,
    available_memory,
    describe_machine,
    matrix_product,
)
from .networks import flops_of, shapes_of, unet_config
from .ours import Workload
from .results import plot, summary, title, told
from .rounds import Contestant, alternate, seconds_of
from .workers import Worker, WorkerError

# Of the largest value: TF32 on a GPU, and 16 bits through some sixty layers, agree no better.
_AGREEMENT = {"float32": 5e-3, "bfloat16": 5e-2}


@dataclass(frozen=True)
class Request:
    """What is measured.

    Attributes:
        networks: some of "adm", "ddpm" and "faces".
        sizes: sides of the pictures.
        batches: pictures at once.
        widths: channels a level; the published ones if None.
        dtypes: some of "float32" and "bfloat16".
        schedule: T, j and r of a round's trajectory.
        rounds: rounds of each, alternating.
        peers: some of "eager" and "compiled".
        max_seconds: rows that would take longer are skipped.
    """

    networks: tuple[str, ...]
    sizes: tuple[int, ...]
    batches: tuple[int, ...]
    widths: tuple[int, ...] | None
    dtypes: tuple[str, ...]
    schedule: tuple[int, int, int]
    rounds: int
    peers: tuple[str, ...]
    max_seconds: float

    def workload(self, network: str, size: int, batch: int, dtype: str) -> Workload:
        """A round of one row.

        Raises:
            BenchmarkError: there is no such network.
        """
        try:
            config = unet_config(network, size, self.widths)
        except ValueError as error:
            raise BenchmarkError(error) from error
        return Workload(network, config, size, batch, dtype, self.schedule)

    def workloads(self) -> Iterator[Workload]:
        """All rows, of each network the quickest first."""
        for network, size in product(self.networks, sorted(self.sizes)):
            for batch, dtype in product(sorted(self.batches), self.dtypes):
                yield self.workload(network, size, batch, dtype)

    def key(self, work: Workload, versions: Mapping[str, Any]) -> dict[str, Any]:
        """What tells a row from another, as JSON has it; `versions` of the peers among it."""
        key = {name: getattr(self, name) for name in ("schedule", "rounds", "peers")}
        key |= {name: getattr(work, name) for name in ("network", "size", "batch", "dtype")}
        key |= {"widths": work.config["block_out_channels"], **versions}
        return json.loads(json.dumps(key))


def run_benchmark(
    request: Request, workdir: Path, alone: Callable[[str, Workload], Sequence[str]]
) -> None:
    """Measures the rows that `workdir` lacks; writes benchmark.json, benchmark.md, benchmark.png.

    Args:
        request: what to measure.
        workdir: the folder.
        alone: the command of a process that serves "jax", "eager" or "compiled" alone, as
            `serve_row` does.

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
    rates = {dtype: quick_rate(dtype) for dtype in request.dtypes}
    for dtype, rate in rates.items():
        print(f"matrix products in {dtype} at {rate / 1e9:.0f} GFLOP/s")
    for work in works:
        key = request.key(work, versions)
        found = next((row for row in rows if row["key"] == key), None)
        if found is None or "skipped" in found:
            rows = [row for row in rows if row["key"] != key]
            rows.append(found := {"key": key, **measured(request, work, rates[work.dtype], alone)})
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
        write_text(workdir / f"benchmark.{suffix}", text + "\n")
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
        "network": work.network, "rounds": request.rounds,
        "size": work.size, "batch": work.batch, "dtype": work.dtype, "calls": work.calls,
        "weights": sum(shape.size for shape in jax.tree.leaves(shapes)),
        "flops": flops_of(graph, shapes, work.size),
    }  # fmt: skip
    seconds = expected_seconds(row, rate, contestants=3 + 2 * len(request.peers))
    if seconds > request.max_seconds:
        why = f"it would take about {seconds / 60:.0f} minutes; --max_seconds={seconds:.0f}"
        return {**row, "skipped": f"{why} measures it, or fewer --rounds or a shorter --schedule"}
    with ExitStack() as stack:
        workers = {"jax": stack.enter_context(closing(Worker(alone("jax", work))))}
        needed = workers["jax"]("memory") * (1 + len(request.peers))
        if (free := available_memory()) is not None and needed > free:
            why = (
                f"it needs about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
            )
            return {**row, "skipped": why}
        for mode in request.peers:
            workers[mode] = stack.enter_context(closing(Worker(alone(mode, work))))
        check_equal(workers, work.dtype)
        return {**row, **timed(workers, request.rounds, title(row))}


def expected_seconds(row: dict[str, Any], rate: float, contestants: int) -> float:
    """How long a row takes if everything runs at half of the matrix rate."""
    calls = row["calls"] * (row["rounds"] + 1) * contestants
    return calls * row["batch"] * row["flops"] / (0.5 * rate)


def timed(workers: Mapping[str, Worker], rounds: int, label: str) -> dict[str, Any]:
    """The seconds of every round, after each contestant's first, which compiles."""
    contestants = {
        name: partial(worker, name) for worker in workers.values() for name in worker("names")
    }
    products = {f"matrix {name}": partial(worker, "product") for name, worker in workers.items()}
    turns = (len(contestants) + len(products)) * (rounds + 1)
    with tqdm(total=turns, desc=label, unit="turn") as bar:
        first, left_out = warmed_up(contestants, bar)
        first["forward"] += workers["jax"]("compile_seconds")
        memory = {name: worker("peak_memory") for name, worker in workers.items()}
        turn = {name: contestants[name] for name in first} | products
        flops = {name: product() for name, product in products.items()}
        seconds: dict[str, list[float]] = {name: [] for name in turn}
        quiet = Quiet(
            lambda: time.process_time() + sum(w.processor_seconds for w in workers.values())
        )
        for name, taken in alternate(turn, rounds):
            seconds[name].append(taken)
            bar.update()
        others = quiet.others()
    return {
        "first_seconds": first,
        "seconds": {name: seconds[name] for name in first},
        "matrix": {
            name: flops[f"matrix {name}"] / min(seconds[f"matrix {name}"]) for name in workers
        },
        "peak_memory": memory,
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
        except WorkerError as error:  # torch.compile needs a C++ compiler, and fails in many ways
            if not name.endswith("_compiled"):
                raise
            left_out[name] = str(error)
        bar.update()
    return first, left_out


def check_equal(workers: Mapping[str, Worker], dtype: str) -> None:
    """Raises BenchmarkError unless all networks predict the same."""
    with TemporaryDirectory() as folder:
        outputs = {}
        for name, worker in workers.items():
            if name != "compiled":  # the same as eager, and minutes to compile once more
                path = Path(folder, f"{name}.npy")
                worker("predict", str(path))
                outputs[name] = np.load(path)
    for name, output in outputs.items():
        difference = float(np.abs(outputs["jax"] - output).max() / np.abs(output).max())
        if not difference < _AGREEMENT[dtype]:
            raise BenchmarkError(
                f"the networks of jax and {name} differ by {difference:.1e} of the largest value, "
                "so that their times cannot be compared; expected less than "
                f"{_AGREEMENT[dtype]:.0e}"
            )


def _torch_peers() -> Any:
    """The peers' module, which needs PyTorch."""
    try:
        from . import peers
    except ImportError as error:
        raise BenchmarkError(
            f"{error.name} is not installed: pip install -r requirements-parity.txt, or leave the "
            "peers out, --peers=none"
        ) from error
    return peers
