"""Updates: each part against its plain reference, and all of it on a case with an exact answer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from gaussian import exact_denoiser
from moves import diffused
from training_toys import (
    NOISE,
    Perceptron,
    TwoConvolutions,
    run_losses,
    tiny_pictures,
    tiny_trainer,
)

from repaint_jax import NoiseSchedule, RePaint, ResampleSchedule, inpaint_batch
from repaint_jax.training.step import Optimizer, Settings, Trainer, moving_average

TESTS = Path(__file__).parent


def test_the_learning_rate_rises_stays_and_falls():
    optimizer = Optimizer(learning_rate=2.0, warmup_steps=4, decay_fraction=0.5)
    rates = [float(optimizer.rate(n, 20)) for n in range(20)]
    expected = [0.5, 1.0, 1.5] + [2.0] * 8 + [2.0 * left / 10 for left in range(9, 0, -1)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    constant = Optimizer(learning_rate=1.0, warmup_steps=0, decay_fraction=0.0)
    assert [float(constant.rate(n, 5)) for n in range(5)] == [1.0] * 5


def test_the_moving_average_is_the_loop_it_says():
    rng = np.random.default_rng(0)
    params = rng.standard_normal((50, 3))
    ema = expected = rng.standard_normal(3)
    ema = jnp.asarray(ema, jnp.float32)
    for n, theta in enumerate(params):
        ema = moving_average(ema, jnp.asarray(theta, jnp.float32), jnp.int32(n), 0.8)
        d = min(0.8, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * theta
    np.testing.assert_allclose(ema, expected, rtol=1e-5, atol=1e-6)


def test_micro_batches_give_the_same_gradient():
    whole, params = run_losses(tiny_trainer())
    cut, others = run_losses(tiny_trainer(micro_batches=4))
    np.testing.assert_allclose(cut, whole, rtol=1e-5)
    # Adam divides by the gradient's size, so that rounding of a small one shows: not to 1e-6.
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(others), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_two_devices_give_the_losses_of_one():
    code = (
        "import json, jax; from training_toys import *;"
        "losses, _ = run_losses(tiny_trainer(micro_batches=2));"
        "print(json.dumps([jax.device_count(), losses]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=TESTS,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    devices, losses = json.loads(done.stdout)
    assert devices == 2
    np.testing.assert_allclose(losses, run_losses(tiny_trainer())[0], rtol=1e-5)


def perceptron_trainer(**settings):
    settings = {"num_steps": 20, "batch_size": 8, "flip": False} | settings
    return Trainer(Perceptron(2, 16, nnx.Rngs(0)), NOISE.respace(50), Settings(**settings))


def test_many_updates_in_one_call_are_the_same_as_one_by_one():
    pictures = np.random.default_rng(0).standard_normal((100, 2, 1, 1)).astype(np.float32)
    trainer = perceptron_trainer()
    pictures = trainer.replicated(pictures)
    together, metrics = trainer.run(trainer.init(), pictures, 6)
    state, losses = trainer.init(), []
    for _ in range(6):
        state, row = trainer.run(state, pictures, 1)
        losses.append(row.loss[0])
    np.testing.assert_allclose(metrics.loss, losses, rtol=1e-6)
    assert int(state.step) == int(together.step) == 6
    same = jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-6), state.ema, together.ema)
    assert all(jax.tree.leaves(same))


def test_batches_may_be_given_and_half_of_the_pictures_are_mirrored():
    pictures = tiny_pictures(4)
    losses = {}
    for flip in (False, True):
        trainer = tiny_trainer(flip=flip)
        for name, batch in (("given", pictures), ("mirrored", pictures[:, :, ::-1])):
            batches = trainer.replicated(np.ascontiguousarray(batch[None]))
            _, metrics = trainer.run(trainer.init(), batches, 1)
            losses[name, flip] = float(metrics.loss[0])
    assert losses["given", False] != losses["mirrored", False]
    assert losses["given", True] not in (losses["given", False], losses["mirrored", False])


def test_dropout_is_random_but_repeatable():
    trainer = tiny_trainer(TwoConvolutions(dropout=0.5), dropout=True)
    losses, _ = run_losses(trainer)
    again, _ = run_losses(trainer)
    without, _ = run_losses(tiny_trainer())
    assert losses == again != without


@pytest.fixture(scope="module")
def gaussian_pair():
    """A network trained on x0 ~ N(0, [[1, .9], [.9, 1]]), and the exact one."""
    cov = np.array([[1.0, 0.9], [0.9, 1.0]])
    pairs = np.random.default_rng(0).multivariate_normal([0, 0], cov, 200_000)
    noise = NoiseSchedule.linear(1000).respace(50)
    optimizer = Optimizer(learning_rate=3e-3, warmup_steps=100, decay_fraction=0.7)
    settings = Settings(num_steps=4000, batch_size=512, flip=False, ema=0.995, optimizer=optimizer)
    trainer = Trainer(Perceptron(2, 64, nnx.Rngs(0)), noise, settings)
    pictures = trainer.replicated(pairs.astype(np.float32)[:, :, None, None])
    state, _ = trainer.run(trainer.init(), pictures, settings.num_steps)
    return trainer.model(state.ema), noise, cov


def test_the_network_learns_the_exact_noise_of_a_gaussian(gaussian_pair):
    model, noise, cov = gaussian_pair
    rng = np.random.default_rng(1)
    x0 = rng.multivariate_normal([0, 0], cov, 2000)[:, :, None, None]
    exact = exact_denoiser(cov, NoiseSchedule.linear(1000))
    errors = []
    for t in range(0, 50, 7):
        x = jnp.asarray(diffused(x0, t, rng.standard_normal(x0.shape), noise), jnp.float32)
        time = jnp.full(len(x), noise.timesteps[t])
        errors.append(np.mean((model(x, time) - exact(x, time)) ** 2))
    assert np.sqrt(np.mean(errors)) < 0.05  # of noise with deviation 1


def test_inpainting_with_the_network_comes_to_the_exact_conditional(gaussian_pair):
    model, noise, _ = gaussian_pair
    count = 4000
    filled = inpaint_batch(
        jax.random.split(jax.random.key(0), count),
        model,
        jnp.array([1.0, 0.0]).reshape(2, 1, 1),
        jnp.array([[True], [False]]),
        noise=noise,
        resampling=ResampleSchedule.create(50, jump_length=5, num_resamples=10),
        method=RePaint(clip_denoised=False),
    )
    hole = np.asarray(filled)[:, 1, 0, 0]
    # The exact network gives .845 with this schedule (oracle.json), the limit of it is .9.
    assert np.mean(hole) == pytest.approx(0.845, abs=0.05)
    assert np.mean(hole) == pytest.approx(0.9, abs=0.1)
    assert np.var(hole) == pytest.approx(0.19, abs=0.06)
