"""What the measured seconds say: times a call, ratios, shares; as a table and a plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from repaint_jax.files import replacing
from repaint_jax.resampling import ResampleSchedule

from .rounds import Spread, ratio

LABELS = {
    "sampler": "this sampler",
    "progress": "this sampler, with progress",
    "forward": "the bare network",
    "diffusers": "diffusers' RePaintPipeline",
    "torch": "the bare network in PyTorch",
    "diffusers_compiled": "diffusers' RePaintPipeline, torch.compile",
    "torch_compiled": "the bare network in PyTorch, torch.compile",
}
_PEERS = {"sampler": "diffusers", "progress": "diffusers", "forward": "torch"}
_COLOURS = ("#3b6ea5", "#d1495b", "#8a8a8a")  # ours, PyTorch eager, PyTorch compiled
_QUIET = 0.1  # cores: more work of others than this shows in the figures
PAPER_CALLS = ResampleSchedule.create(250, 10, 10).num_model_calls


def summary(row: dict[str, Any]) -> dict[str, Any]:
    """The figures of a measured row.

    Args:
        row: `calls` a round, `batch`, `flops` of a call a picture, `seconds` of every round by
            contestant, `first_seconds` of the first, and `matrix`, rates in FLOP/s.

    Returns:
        `ms_per_call` (a batch) and `compile_seconds` by contestant; `overhead` of the trajectory
        over the bare network, 0 = none; `times_as_fast` as each peer; `fastest_peer` of each of
        ours, by the median; `share_of_matrix_rate` of the bare network;
        `paper_seconds_per_picture`, the paper's schedule extrapolated.
        All but the last three are spreads (least, median, greatest) over the rounds.
    """
    seconds, calls = row["seconds"], row["calls"]
    per_call = {name: Spread.of([s / calls for s in rounds]) for name, rounds in seconds.items()}
    best = max(row["matrix"].values())
    return {
        "ms_per_call": {name: _scaled(spread, 1000) for name, spread in per_call.items()},
        "compile_seconds": {
            name: max(0.0, first - calls * per_call[name].median)
            for name, first in row["first_seconds"].items()
        },
        "overhead": {
            name: Spread(*(value - 1 for value in ratio(seconds[name], seconds["forward"])))
            for name in ("sampler", "progress")
        },
        "times_as_fast": {
            f"{ours} / {peer + kind}": ratio(seconds[peer + kind], seconds[ours])
            for ours, peer in _PEERS.items()
            for kind in ("", "_compiled")
            if peer + kind in seconds
        },
        "fastest_peer": {
            ours: min(there, key=lambda name: per_call[name].median)
            for ours, peer in _PEERS.items()
            if (there := [name for name in (peer, peer + "_compiled") if name in seconds])
        },
        "share_of_matrix_rate": row["flops"] * row["batch"] / per_call["forward"].median / best,
        "paper_seconds_per_picture": PAPER_CALLS * per_call["sampler"].median / row["batch"],
    }


def _scaled(spread: Spread, factor: float) -> Spread:
    return Spread(*(factor * value for value in spread))


def title(row: dict[str, Any]) -> str:
    """What was measured."""
    size = row["size"]
    return f"{row['network']} {size}x{size}, batch {row['batch']}, {row['dtype']}"


def told(row: dict[str, Any]) -> str:
    """A row as Markdown: a table of the contestants, and what follows from it."""
    if "skipped" in row:
        return f"### {title(row)}\n\nskipped: {row['skipped']}\n"
    figures = summary(row)
    lines = [
        f"### {title(row)}",
        "",
        f"{row['weights'] / 1e6:.1f} M weights, {row['flops'] / 1e9:.1f} GFLOP a picture and call; "
        f"{row['rounds']} rounds of {row['calls']} calls; median (least to greatest)",
        "",
        *_table(row, figures),
        "",
        *(f"* {finding}" for finding in _findings(row, figures)),
    ]
    return "\n".join(lines) + "\n"


def _table(row: dict[str, Any], figures: dict[str, Any]) -> Iterator[str]:
    yield "| | ms a call | ms a call a picture | s to compile |"
    yield "|---|---|---|---|"
    for name, label in LABELS.items():
        if name in figures["ms_per_call"]:
            low, median, high = figures["ms_per_call"][name]
            yield (
                f"| {label} | {median:.1f} ({low:.1f} to {high:.1f}) | "
                f"{median / row['batch']:.1f} | {figures['compile_seconds'][name]:.1f} |"
            )


def _findings(row: dict[str, Any], figures: dict[str, Any]) -> Iterator[str]:
    for name, spread in figures["times_as_fast"].items():
        ours, peer = name.split(" / ")
        which = ", its fastest peer" if figures["fastest_peer"][ours] == peer else ""
        yield f"{LABELS[ours]} is {_times(spread)} as fast as {LABELS[peer]}{which}"
    for name, spread in figures["overhead"].items():
        yield f"{LABELS[name]}, over the bare network: {_percent(spread)}"
    rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in row["matrix"].items())
    yield (
        f"the bare network at {figures['share_of_matrix_rate']:.0%} of the machine's matrix "
        f"products (best rates, GFLOP/s: {rates})"
    )
    memory = ", ".join(
        f"{name} {'not known' if held is None else f'{held / 1e9:.2f} GB'}"
        for name, held in row["peak_memory"].items()
    )
    yield f"peak memory of a process alone: {memory}"
    yield (
        f"the paper's {PAPER_CALLS} calls: {figures['paper_seconds_per_picture']:.0f} s a picture "
        f"(extrapolated from {row['calls']} calls)"
    )
    yield from (f"left out, {LABELS[name]}: {why}" for name, why in row["left_out"].items())
    if (others := row["cores_busy_elsewhere"] or 0) > _QUIET:
        yield f"**not quiet**: other processes kept {others:.1f} cores busy meanwhile"


def _times(spread: Spread) -> str:
    return f"{spread.median:.2f} times ({spread.low:.2f} to {spread.high:.2f})"


def _percent(spread: Spread) -> str:
    return f"{spread.median:+.1%} ({spread.low:+.1%} to {spread.high:+.1%})"


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Bars of milliseconds a call and picture, a panel a row, with the spread as error bars."""
    figure = Figure(figsize=(9, 0.6 + 2.4 * len(rows)), layout="constrained")
    for axes, row in zip(figure.subplots(len(rows), squeeze=False)[:, 0], rows, strict=True):
        times = summary(row)["ms_per_call"]
        names = [name for name in LABELS if name in times][::-1]
        spreads = [_scaled(times[name], 1 / row["batch"]) for name in names]
        axes.barh(
            range(len(names)),
            [spread.median for spread in spreads],
            xerr=[
                [spread.median - spread.low for spread in spreads],
                [spread.high - spread.median for spread in spreads],
            ],
            color=[_COLOURS[_kind(name)] for name in names],
        )
        axes.set_yticks(range(len(names)), [LABELS[name] for name in names])
        axes.set_xlabel("ms a network call and picture")
        axes.set_title(title(row))
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _kind(name: str) -> int:
    """0 is ours, 1 PyTorch eager, 2 PyTorch compiled."""
    return 0 if name in _PEERS else 2 if name.endswith("_compiled") else 1
