"""From the model's output to the reverse step's distribution, against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN
from moves import reverse_distribution

from repaint_jax import NoiseSchedule
from repaint_jax.denoisers import Reverse, predict_x0, split_output

TRAINED = NoiseSchedule.linear(1000)
NOISE = TRAINED.respace(250)
REFERENCE = np.load(GOLDEN / "reverse_linear_250.npz")


def reference(name, row):
    return np.moveaxis(REFERENCE[name][row], 0, -1)


def numbers_at(t, eta=1.0):
    return jax.tree.map(lambda numbers: numbers[t], Reverse.table(NOISE, eta))


@pytest.mark.parametrize("row", range(len(REFERENCE["t_index"])))
@pytest.mark.parametrize("clip", [True, False])
def test_mean_variance_and_x0_equal_guided_diffusions(row, clip):
    at = numbers_at(REFERENCE["t_index"][row])
    x = jnp.asarray(reference("x", row), jnp.float32)
    output = jnp.asarray(reference("model_out", row), jnp.float32)
    mean, log_variance = reverse_distribution(output, x, at, clip=clip, variance="fixed_small")
    suffix = f"clip{int(clip)}"
    x0 = predict_x0(x, split_output(output, x)[0], at, clip)
    for ours, name in (
        (x0, "pred_xstart"),
        (mean, "mean"),
        (log_variance, "log_variance"),
        (jnp.exp(log_variance), "variance"),
    ):
        expected = reference(f"{name}_{suffix}", row)
        # Without clipping x_0 reaches 160 at the noisiest step: the error is relative to that.
        np.testing.assert_allclose(ours, expected, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("row", range(len(REFERENCE["t_index"])))
def test_eta_zero_is_ddim(row):
    t = REFERENCE["t_index"][row]
    at = numbers_at(t, eta=0.0)
    x, x0 = reference("x", row), reference("pred_xstart_clip1", row)

    def ddim(ac_prev, one_minus_ac_prev):  # Song et al., Eq. 12 with sigma = 0
        ac = NOISE.alphas_cumprod[t]
        direction = (x - np.sqrt(ac) * x0) / np.sqrt(1 - ac)
        return np.sqrt(ac_prev) * x0 + np.sqrt(one_minus_ac_prev) * direction

    ac_prev = NOISE.alpha_cumprod_at(t - 1)
    output = jnp.asarray(reference("model_out", row), jnp.float32)
    mean, _ = reverse_distribution(
        output, jnp.asarray(x, jnp.float32), at, clip=True, variance="fixed_small"
    )
    assert at.eta == 0
    np.testing.assert_allclose(mean, ddim(ac_prev, 1 - ac_prev), atol=1e-5)
    # The reference rounds ac' to float32 before it takes 1 - ac', which costs it 6e-5 at t = 1;
    # with that rounding the same equation gives its numbers.
    rounded = np.float32(ac_prev)
    np.testing.assert_allclose(
        ddim(float(rounded), float(1 - rounded)), reference("ddim_eta0_sample", row), atol=1e-6
    )


@pytest.mark.parametrize("t", [1, 100, 249])
def test_eta_between_is_ddims_equations_12_and_16(t):
    eta = 0.5
    x, eps = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    ac, ac_prev = NOISE.alphas_cumprod[t], NOISE.alphas_cumprod[t - 1]
    sigma = eta * np.sqrt((1 - ac_prev) / (1 - ac) * (1 - ac / ac_prev))
    x0 = (x - np.sqrt(1 - ac) * eps) / np.sqrt(ac)
    expected = np.sqrt(ac_prev) * x0 + np.sqrt(1 - ac_prev - sigma**2) * eps
    at = numbers_at(t, eta)
    mean, log_variance = reverse_distribution(eps, x, at, clip=False, variance="fixed_small")
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(at.eta * np.exp(0.5 * log_variance), sigma, rtol=1e-5)


def test_fixed_variances_are_the_posteriors_and_beta():
    x = jnp.zeros((2, 2, 3))
    for t in (1, 100, 249):
        small, large = (
            jnp.exp(reverse_distribution(x, x, numbers_at(t), clip=True, variance=v)[1])
            for v in ("fixed_small", "fixed_large")
        )
        ac = NOISE.alphas_cumprod
        posterior = NOISE.betas[t] * (1 - ac[t - 1]) / (1 - ac[t])
        np.testing.assert_allclose(small, posterior, rtol=1e-5)
        np.testing.assert_allclose(large, NOISE.betas[t], rtol=1e-5)


def test_the_last_step_draws_no_noise():
    table = Reverse.table(NOISE)
    assert table.eta.tolist() == [0.0] + [1.0] * 249
    assert np.isfinite(table.log_variance_small).all()
    assert np.isfinite(Reverse.table(NoiseSchedule.from_betas([0.5])).log_variance_small).all()
