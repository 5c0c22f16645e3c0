"""RePaint's pictures stay what they were before methods had a seam: golden/repaint_pixels.npz.

On the machine that made them every pixel is equal to the bit; another processor may round a product
otherwise, so that here the last digits of float32 are left open.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN

from repaint_jax import NoiseSchedule, RePaint, ResampleSchedule, inpaint_batch

SHAPE = (6, 4, 3)
SETTINGS = [
    {"num_steps": steps, "walk": walk, "learned": learned, **options}
    for (steps, walk), learned, options in itertools.product(
        [(20, (5, 3)), (50, (10, 2)), (7, (1, 4))],
        [False, True],
        [
            {},
            {"eta": 0.0},
            {"eta": 0.5, "clip_denoised": False},
            {"variance": "fixed_large"},
        ],
    )
]


def model(learned):
    """Neither linear nor the same for each channel; a variance in as many channels if `learned`."""

    def predict(x, t):
        level = (t.astype(jnp.float32) / 1000)[:, None, None, None]
        mixed = x + 0.1 * jnp.roll(x, 1, -1) * level
        eps = mixed * (0.3 + 0.6 * level) + 0.05
        return jnp.concatenate([eps, jnp.clip(mixed, -1, 1)], -1) if learned else eps

    return predict


def sample(num_steps, walk, learned, **options):
    rng = np.random.default_rng(0)
    return inpaint_batch(
        jax.random.split(jax.random.key(7), 3),
        model(learned),
        rng.uniform(-1, 1, SHAPE).astype("f4"),
        rng.random(SHAPE[:2]) < 0.5,
        noise=NoiseSchedule.linear(1000).respace(num_steps),
        resampling=ResampleSchedule.create(num_steps, *walk),
        method=RePaint(**options),
    )


@pytest.mark.parametrize("index", range(len(SETTINGS)))
def test_repaint_draws_the_pixels_it_always_drew(index):
    with np.load(GOLDEN / "repaint_pixels.npz") as before:
        np.testing.assert_allclose(sample(**SETTINGS[index]), before[str(index)], atol=2e-5)
