"""What methods are compared on beside other packages': a Gaussian, its best denoiser, the noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax import NoiseSchedule, ResampleSchedule
from repaint_jax.methods import Observation
from repaint_jax.oracles import Mixture

SIZE, STEPS = 6, 12
KNOWN = np.array([True, False, True, False, False, True])
OBSERVED = np.array([0.9, 0.0, -0.4, 0.0, 0.0, 0.7], np.float32)
_PLACE = np.arange(SIZE)
PRIOR = Mixture.normal(
    0.4 * np.exp(-0.3 * np.abs(_PLACE[:, None] - _PLACE)) + 0.05 * np.eye(SIZE), 0.1 * _PLACE
)
TRAINED = NoiseSchedule.linear(1000)
NOISE = TRAINED.respace(STEPS)
WALK = ResampleSchedule.create(STEPS, 1, 1)
MODEL = PRIOR.denoiser(TRAINED)

# In float32, through 12 levels.
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=3e-4)


def as_picture(values):
    """Pixels in a column, f32[6, 1, 1]."""
    return jnp.asarray(values, jnp.float32).reshape(SIZE, 1, 1)


OBSERVATION = Observation(as_picture(OBSERVED), jnp.asarray(KNOWN).reshape(SIZE, 1, 1))
NOTHING_KNOWN = OBSERVATION._replace(known=jnp.zeros((SIZE, 1, 1), bool))


def gain(a, s):
    """E[x_0 | x_t] is the prior's mean m and `gain` @ (x_t - a m), float64[6, 6]."""
    return a * PRIOR.cov @ np.linalg.inv(a * a * PRIOR.cov + s * s * np.eye(SIZE))


def draws(per_step=2, seed=0, steps=STEPS):
    """f32[6] for x_T, and f32[steps, per_step, 6] for the steps."""
    rng = np.random.default_rng(seed)
    start = rng.normal(size=SIZE)
    noises = rng.normal(size=(steps, per_step, SIZE))
    return start.astype(np.float32), noises.astype(np.float32)


def row(table, i):
    """The numbers of step i."""
    return jax.tree.map(lambda numbers: numbers[i], table)


def ours(methods, monkeypatch, noises, start, *, noise=NOISE, walk=WALK, observation=OBSERVATION):
    """The states after the steps of a method, or of one for each step, with given noise.

    A step takes all of its noise [N, 6, 1, 1] in one draw.
    """
    if not isinstance(methods, list):
        methods = [methods] * len(noises)
    given = iter([start, *noises])
    monkeypatch.setattr(
        jax.random, "normal", lambda _, shape: jnp.asarray(next(given)).reshape(shape)
    )
    table = methods[0].tabulate(noise, walk)
    states = [methods[0].init(None, observation, row(table, 0))]
    for i, method in enumerate(methods):
        states.append(method.step(MODEL, states[-1], observation, row(table, i), None))
    return states[1:]


def pixels(pictures):
    """f32[N, 6] of pictures [6, 1, 1]."""
    return np.stack([np.ravel(picture) for picture in pictures])
