"""How far each method's draws are from the exact posterior, at how many network calls.

python -m benchmarks.posterior
python -m benchmarks.posterior --priors=pair,fork --methods=repaint,mmps --calls=60,240 --seconds=60

The priors (repaint_jax/oracles.py) have exact denoisers, and the hole's distribution given the
known pixels is known exactly. Where it is normal, the figure is the KL divergence of the draws'
moments in nats, less its bias; else the greatest error of a mode's share, and the sliced
Wasserstein distance in units of that of as many exact draws. Figures have their standard errors in
brackets: more --seconds, less of it.

Every method gets as many levels as its calls allow; a gradient counts. Writes rows.jsonl (a line a
figure), results.json, table.md and posterior.png. Killed at any moment, the same command goes on
with the figures that are not there yet; one with more draws or seconds replaces them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from matplotlib.figure import Figure as Plot

from repaint_jax import NoiseSchedule, ResampleSchedule, Sampler, inpaint_batch
from repaint_jax.denoisers import Denoiser
from repaint_jax.files import (
    append_line,
    expanded,
    read_lines,
    replacing,
    workdir_errors,
    write_text,
)
from repaint_jax.inpainting.naming import named_method
from repaint_jax.oracles import (
    ORACLES,
    Oracle,
    kl_of_draws,
    mode_error,
    sliced_distance,
)
from repaint_jax.runtime.console import Bar

TRAINED = NoiseSchedule.linear(1000)
BATCH, LARGE = 4000, 1000  # pictures at once, those of many pixels and modes


class Contestant(NamedTuple):
    """A method as its configuration names it, and how its levels are spread."""

    method: str
    levels: str = ""  # "" evenly in t, "logsnr" in the signal to noise ratio, "late" as below

    def spread(self, steps: int) -> str:
        """So many levels as `respace` takes them; "late" has more than half in the last quarter."""
        if self.levels == "late":
            each = max(round(steps / 7), 1)
            return f"{steps - 3 * each},{each},{each},{each}"
        return f"{self.levels}{steps}"


CONTESTANTS = {
    "repaint": Contestant("repaint"),
    "quasi_newton": Contestant("quasi_newton", "logsnr"),
    "mmps": Contestant("mmps(eta=0,second_order=True)", "logsnr"),
    "mmps-3": Contestant("mmps(eta=0,second_order=True,iterations=3)", "logsnr"),
    "mmps-churn": Contestant("mmps"),
    "mmps-fresh": Contestant("mmps(churn=0.05,second_order=True)", "logsnr"),
    "hybrid": Contestant("hybrid(gradient_share=0.6,late_churn=0.5)"),
    "hybrid-late": Contestant("hybrid", "late"),
    "implicit": Contestant("implicit(eta=0)"),
    "ding": Contestant("ding"),
    "ddnm": Contestant("ddnm"),
    "lanpaint": Contestant("lanpaint"),
    "pigdm": Contestant("pigdm"),
    "dps": Contestant("dps"),
    "daps": Contestant("daps"),
    "mcgdiff": Contestant("mcgdiff", "logsnr"),
    "mcgdiff-64": Contestant("mcgdiff(particles=64)", "logsnr"),
}
# RePaint's T/j/r with no more calls than these.
WALKS = {
    10: (10, 1, 1), 20: (20, 1, 1), 60: (20, 5, 3), 100: (50, 10, 2), 240: (80, 10, 3),
    600: (100, 10, 6), 1000: (100, 10, 10), 2410: (250, 10, 10), 8000: (250, 10, 34),
}  # fmt: skip

_METHODS = flags.DEFINE_list("methods", list(CONTESTANTS), f"Some of {', '.join(CONTESTANTS)}.")
_PRIORS = flags.DEFINE_list("priors", list(ORACLES), f"Some of {', '.join(ORACLES)}.")
_CALLS = flags.DEFINE_list(
    "calls", ["20", "60", "240", "2410"], f"Call equivalents: some of {', '.join(map(str, WALKS))}."
)
_DRAWS = flags.DEFINE_integer("draws", 200_000, "Draws of each, at most.", lower_bound=LARGE)
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Of drawing for each, about; a batch at least.")
_WORKDIR = flags.DEFINE_string("workdir", "out/posterior", "Folder for the results.")


def main(argv: Sequence[str]) -> None:
    """Measures what is asked for and not there yet, and tells all that is there."""
    if len(argv) > 1:
        sys.exit(f"error: {argv[1]!r} is no flag; flags look like --calls=60,240")
    try:
        wanted = list(asked())
        with workdir_errors(workdir := expanded(_WORKDIR.value)):
            measure_all(wanted, workdir / "rows.jsonl")
            rows = measured(workdir / "rows.jsonl")
            write_text(workdir / "results.json", json.dumps(list(rows.values()), indent=1))
            write_text(workdir / "table.md", text := table(rows.values()))
            plot(rows.values(), workdir / "posterior.png")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(f"\nstopped; finished figures are in {_WORKDIR.value}", file=sys.stderr)
        sys.exit(130)
    print(text)


def asked() -> Iterator[tuple[str, str, int]]:
    """What the flags ask for: a prior, a method, and the calls it may take."""
    for flag, given, known in [
        ("methods", _METHODS.value, list(CONTESTANTS)),
        ("priors", _PRIORS.value, list(ORACLES)),
        ("calls", _CALLS.value, list(map(str, WALKS))),
    ]:
        if wrong := [name for name in given if name not in known]:
            raise ValueError(f"--{flag}: some of {', '.join(known)}, not {wrong[0]}")
    for calls in map(int, _CALLS.value):
        for prior in _PRIORS.value:
            for name in _METHODS.value:
                if sampler_of(name, calls):
                    yield prior, name, calls


def sampler_of(name: str, calls: int) -> Sampler | None:
    """The method at no more than so many calls; None where there is no such walk."""
    contestant = CONTESTANTS[name]
    method = named_method(contestant.method, clip_denoised=False)  # which breaks the linear theory
    if name == "repaint":
        walk = ResampleSchedule.create(*WALKS[calls])
        return Sampler(TRAINED.respace(walk.num_steps), walk, method)
    each = method.cost(ResampleSchedule.create(1000, 1, 1)).mean()
    steps = int(calls / each + 0.5) if name == "ding" else int(calls / each)
    if not 2 <= steps <= TRAINED.num_steps:
        return None
    noise = TRAINED.respace(contestant.spread(steps))
    return Sampler(noise, ResampleSchedule.create(steps, 1, 1), method)


def measure_all(wanted: Sequence[tuple[str, str, int]], path: Path) -> None:
    """Measures one after the other, each written when it is done."""
    effort = {"at_most": _DRAWS.value, "seconds": _SECONDS.value}
    done = measured(path)
    todo = [
        key for key in wanted if key not in done or any(done[key][k] < v for k, v in effort.items())
    ]
    with Bar(total=len(todo), unit="figure", desc="measuring") as bar:
        for key in todo:
            prior, name, calls = key
            bar.set_postfix_str(f"{prior}, {name}, {calls} calls", refresh=False)
            figures = measure(prior, name, calls)
            row = {"prior": prior, "method": name, "budget": calls, **figures, **effort}
            append_line(path, row)
            bar.update()


def measured(path: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    """The rows so far, the later ones in the place of the earlier."""
    rows = read_lines([path] if path.is_file() else [])
    return {(row["prior"], row["method"], row["budget"]): row for row in rows}


def measure(prior: str, name: str, calls: int) -> dict[str, Any]:
    """Draws, and holds the draws against the exact posterior."""
    oracle, model = exact(prior)
    sampler = sampler_of(name, calls)
    assert sampler is not None
    drawn = draw(oracle, model, sampler)
    row = {
        "calls": sampler.total_calls,
        "draws": len(drawn),
        "finite": bool(np.isfinite(drawn).all()),
    }
    if not row["finite"]:
        return row
    if oracle.is_normal:
        return {**row, "kl": kl_of_draws(drawn, oracle.posterior)}
    some = batch_of(oracle)  # of every method as many, since the more, the farther in these units
    exact_draws = oracle.posterior.draw(np.random.default_rng(1), 2 * some)
    return {
        **row,
        "modes": mode_error(drawn, oracle.posterior),
        "sliced": sliced_distance(drawn[:some], exact_draws[:some]),
        "sliced_exact": sliced_distance(exact_draws[some:], exact_draws[:some]),
    }


@cache
def exact(prior: str) -> tuple[Oracle, Denoiser]:
    """A prior and its denoiser."""
    oracle = ORACLES[prior]()
    return oracle, oracle.prior.denoiser(TRAINED)


def batch_of(oracle: Oracle) -> int:
    """How many pictures are drawn at once."""
    return LARGE if oracle.prior.means.size > 200 else BATCH


def draw(oracle: Oracle, model: Denoiser, sampler: Sampler) -> np.ndarray:
    """As many draws as there is time for, float64[N, hole]."""
    size = batch_of(oracle)
    drawn: list[np.ndarray] = []
    began = time.monotonic()
    for batch in range(-(-_DRAWS.value // size)):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), batch), size)
        pictures = inpaint_batch(
            keys, model, jnp.asarray(oracle.image), jnp.asarray(oracle.known), **sampler.arguments
        )
        drawn.append(oracle.hole(np.asarray(pictures)))
        if time.monotonic() - began > _SECONDS.value:
            break
    return np.concatenate(drawn)


def table(rows: Iterable[dict[str, Any]]) -> str:
    """A line for a method at some calls, a column for a prior; errors in brackets."""
    cells: dict[tuple[int, str], dict[str, Any]] = {}
    for row in rows:
        cells.setdefault((row["budget"], row["method"]), {})[row["prior"]] = row
    order = list(CONTESTANTS)
    keys = sorted(cells, key=lambda key: (key[0], order.index(key[1])))
    head = ["method", "calls", *ORACLES]
    lines = [head, ["---"] * len(head)]
    for key in keys:
        found = cells[key]
        calls = next(iter(found.values()))["calls"]
        texts = (figure_text(found[prior]) if prior in found else "" for prior in ORACLES)
        lines.append([key[1], f"{calls:.0f}", *texts])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure_text(row: dict[str, Any]) -> str:
    """KL, or the modes' error and the sliced distance over that of exact draws."""
    if not row["finite"]:
        return "diverges"
    value, error = row.get("kl") or row["modes"]
    text = f"{short(value)} ({short(error)})"
    return text if "kl" in row else f"{text}, {row['sliced'] / row['sliced_exact']:.1f}x"


def short(value: float) -> str:
    """Four decimals below one, without the zero before the point; three digits above."""
    if abs(value) >= 1:
        return f"{value:.3g}"
    return f"{value:.4f}".replace("0.", ".", 1)


def plot(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """A panel for a prior, calls across, the error up, or its standard error if that is more."""
    rows = [row for row in rows if row["finite"]]
    figure = Plot(figsize=(13, 6.5), layout="constrained")
    colours = {
        name: f"C{i % 10}" if name != "repaint" else "black" for i, name in enumerate(CONTESTANTS)
    }
    for axes, prior in zip(figure.subplots(2, 4).flat, ORACLES, strict=True):
        for i, name in enumerate(CONTESTANTS):
            line = sorted(
                (row["calls"], *(row.get("kl") or row["modes"]))
                for row in rows
                if (row["prior"], row["method"]) == (prior, name)
            )
            if line:
                calls, value, error = np.array(line).T
                style = "-" if i < 10 else "--"
                axes.plot(
                    calls, np.maximum(value, error), style, marker=".", color=colours[name],
                    label=name, linewidth=1.2,
                )  # fmt: skip
        axes.set(xscale="log", yscale="log", title=prior, xlabel="call equivalents")
        axes.set_ylabel("KL, nats" if ORACLES[prior]().is_normal else "error of a mode's share")
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=80)


if __name__ == "__main__":
    app.run(main)
