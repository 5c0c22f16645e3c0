"""How far a population of particles is from the shares of a mixture's modes, all of them counted.

python -m benchmarks.particles --prior=modes8 --particles=256 --levels=500 --runs=1500

`benchmarks.posterior` takes one particle of each run, as one picture is what a user asks for. Here
all count, with their weights: what many particles come to is told with a hundredth of the runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from repaint_jax import NoiseSchedule, ResampleSchedule, trajectory
from repaint_jax.methods import MCGDiff
from repaint_jax.oracles import ORACLES, Figure

TRAINED = NoiseSchedule.linear(1000)
MIXTURES = [name for name, oracle in ORACLES.items() if not oracle().is_normal]

_PRIOR = flags.DEFINE_enum("prior", "modes8", MIXTURES, "The mixture.")
_PARTICLES = flags.DEFINE_integer("particles", 256, "Of each run.", lower_bound=2)
_LEVELS = flags.DEFINE_integer("levels", 500, "Even in log-SNR.", lower_bound=2)
_RUNS = flags.DEFINE_integer("runs", 1500, "For the mean and its error.", lower_bound=2)


def main(argv: Sequence[str]) -> None:
    """Prints the figure."""
    if len(argv) > 1:
        sys.exit(f"error: {argv[1]!r} is no flag; flags look like --runs=100")
    try:
        error = population_error(_PRIOR.value, _PARTICLES.value, _LEVELS.value, _RUNS.value)
    except ValueError as problem:
        sys.exit(f"error: --levels: {problem}")
    calls = _PARTICLES.value * _LEVELS.value
    print(f"{_PRIOR.value}, {calls} calls a run: {error.value:.4f} ({error.error:.4f})")


def population_error(prior: str, particles: int, levels: int, runs: int) -> Figure:
    """The greatest error of a mode's share in the mean of the runs; its standard error."""
    oracle = ORACLES[prior]()
    noise = TRAINED.respace(f"logsnr{levels}")
    *_, (_, state) = trajectory(
        jax.random.split(jax.random.key(0), runs),
        oracle.prior.denoiser(TRAINED),
        jnp.asarray(oracle.image),
        jnp.asarray(oracle.known),
        noise=noise,
        resampling=ResampleSchedule.create(levels, 1, 1),
        method=MCGDiff(clip_denoised=False, particles=particles),
    )
    holes = oracle.hole(np.asarray(state.particles).reshape(runs * particles, *state.x.shape[1:]))
    shares = oracle.posterior.shares(holes).reshape(runs, particles, -1)
    weights = np.asarray(jax.nn.softmax(state.log_weights, axis=1))
    each = np.einsum("rp,rpk->rk", weights, shares)
    off = np.abs(each.mean(0) - oracle.posterior.weights)
    worst = off.argmax()
    return Figure(float(off[worst]), float(each[:, worst].std(ddof=1) / np.sqrt(runs)))


if __name__ == "__main__":
    app.run(main)
