"""The loss against NumPy, in float64, written out from the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moves import diffused

from repaint_jax import NoiseSchedule
from repaint_jax.training.loss import Forward, gaussian_kl, noise_loss

T = 1000
SHAPE = (2, 4, 4, 3)


def draws(seed=0):
    rng = np.random.default_rng(seed)
    x0 = rng.uniform(-1, 1, SHAPE)
    eps, predicted, learned = (rng.standard_normal(SHAPE) for _ in range(3))
    return x0, eps, predicted, learned


def says(*parts):
    """A model of constant output."""
    output = jnp.asarray(np.concatenate(parts, -1), jnp.float32)
    return lambda x, t: output


def loss_of(model, x0, t, eps, noise):
    x0, eps = (jnp.asarray(value, jnp.float32) for value in (x0, eps))
    return noise_loss(model, x0, jnp.full(SHAPE[0], t), eps, Forward.table(noise))


def reference(x0, t, eps, predicted, learned, beta):
    """Mean squared error + lambda T KL in bits (Improved DDPM, Eq. 15 and 16), at one t."""
    mse = np.mean((predicted - eps) ** 2)
    if t == 0:
        return mse
    ac, ac_prev = np.prod(1 - beta[: t + 1]), np.prod(1 - beta[:t])
    xt = np.sqrt(ac) * x0 + np.sqrt(1 - ac) * eps

    def posterior_mean(x0):  # DDPM, Eq. 7
        return (np.sqrt(ac_prev) * beta[t] * x0 + np.sqrt(1 - beta[t]) * (1 - ac_prev) * xt) / (
            1 - ac
        )

    posterior_var = beta[t] * (1 - ac_prev) / (1 - ac)
    share = (learned + 1) / 2
    var = np.exp(share * np.log(beta[t]) + (1 - share) * np.log(posterior_var))
    gap = posterior_mean(x0) - posterior_mean((xt - np.sqrt(1 - ac) * predicted) / np.sqrt(ac))
    nats = 0.5 * (np.log(var / posterior_var) + (posterior_var + gap**2) / var - 1)
    return mse + 0.001 * len(beta) * np.mean(nats) / np.log(2)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("t", [0, 1, 10, 500, 998])
def test_the_hybrid_loss_is_that_of_the_paper(kind, t):
    noise = getattr(NoiseSchedule, kind)(T)
    x0, eps, predicted, learned = draws(t)
    loss = loss_of(says(predicted, learned), x0, t, eps, noise)
    expected = reference(x0, t, eps, predicted, learned, noise.betas)
    np.testing.assert_allclose(loss.total, expected, rtol=2e-4)  # x0 from x_t cancels digits
    np.testing.assert_allclose(loss.mse, np.mean((predicted - eps) ** 2), rtol=1e-6)


def test_a_model_of_c_channels_has_the_simple_loss():
    x0, eps, predicted, _ = draws()
    loss = loss_of(says(predicted), x0, 300, eps, NoiseSchedule.linear(T))
    assert loss.total == loss.mse
    np.testing.assert_allclose(loss.total, np.mean((predicted - eps) ** 2), rtol=1e-6)


def test_the_model_is_shown_the_noisy_picture_and_network_time():
    noise = NoiseSchedule.linear(T).respace(50)
    x0, eps, *_ = draws()
    seen = {}

    def model(x, t):
        seen.update(x=x, t=t)
        return jnp.zeros_like(x)

    loss_of(model, x0, 20, eps, noise)
    assert seen["t"].tolist() == [noise.timesteps[20]] * 2
    np.testing.assert_allclose(seen["x"], diffused(x0, 20, eps, noise), atol=1e-6)


def test_the_variance_learns_from_the_bound_and_the_noise_does_not():
    x0, eps, predicted, learned = draws()
    noise = NoiseSchedule.linear(T)

    def gradients(t):
        def total(parts):
            output = jnp.concatenate(parts, -1)
            return loss_of(lambda *_: output, x0, t, eps, noise).total

        return jax.grad(total)(tuple(jnp.asarray(p, jnp.float32) for p in (predicted, learned)))

    for t in (0, 1, 400):
        of_noise, of_variance = gradients(t)
        squared = 2 * (predicted - eps) / predicted.size  # of the squared error alone
        np.testing.assert_allclose(of_noise, squared, rtol=1e-5)
        assert bool(jnp.any(of_variance != 0)) == (t > 0)


def test_the_best_variance_of_a_perfect_mean_is_the_posterior_one():
    """With the true noise the bound is least, and 0, where the variance is the posterior's."""
    x0, eps, *_ = draws()
    noise = NoiseSchedule.linear(T)

    def bound(share):
        return float(loss_of(says(eps, np.full(SHAPE, share)), x0, 200, eps, noise).total)

    assert bound(-1.0) == pytest.approx(0, abs=1e-7)
    assert bound(-1.5) > 0
    assert bound(-0.5) > 0


def test_the_divergence_is_the_closed_form_between_gaussians():
    rng = np.random.default_rng(0)
    m1, m2 = rng.standard_normal((2, 100))
    s1, s2 = np.exp(rng.standard_normal((2, 100)))
    expected = np.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5
    found = gaussian_kl(m1, 2 * np.log(s1), m2, 2 * np.log(s2))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert gaussian_kl(m1, s1, m1, s1).max() == 0
