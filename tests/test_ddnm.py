"""DDNM against its equations, with the exact denoiser of a Gaussian prior."""

import json

import numpy as np
import pytest
from conftest import GOLDEN
from gaussian import kl_to_exact, propagated

from repaint_jax import NoiseSchedule, ResampleSchedule
from repaint_jax.methods.ddnm import DDNM

TRAINED = NoiseSchedule.linear(1000)
PRIORS = json.loads((GOLDEN / "oracle.json").read_text())


def by_its_equations(prior, noise, plan, eta):
    """Mean and covariance after Algorithm 1, from the paper's equations alone, in float64."""
    s, y = np.array(prior["prior_cov"]), np.array(prior["observed"])
    one, keep = np.eye(len(s)), np.diag(prior["known"]).astype(float)
    mean, cov = np.zeros(len(s)), one
    for t, t_next in zip(plan.t, plan.t_next, strict=True):
        ac, ac_prev, ac_next = map(noise.alpha_cumprod_at, (t, t - 1, t_next))
        x0 = np.sqrt(ac) * s @ np.linalg.inv(ac * s + (1 - ac) * one)  # E[x_0 | x_t]
        eps = (one - np.sqrt(ac) * x0) / np.sqrt(1 - ac)
        rectified = (one - keep) @ x0  # and keep @ y
        move = np.sqrt(ac_prev) * rectified + np.sqrt((1 - ac_prev) * (1 - eta**2)) * eps
        mean = move @ mean + np.sqrt(ac_prev) * keep @ y
        cov = move @ cov @ move.T + (1 - ac_prev) * eta**2 * one
        up = ac_next / ac_prev
        mean, cov = np.sqrt(up) * mean, up * cov + (1 - up) * one
    return mean, cov


@pytest.mark.parametrize("name", ["pair", "quad"])
@pytest.mark.parametrize(
    ("walk", "eta"), [((50, 10, 1), 0.85), ((20, 5, 3), 0.85), ((30, 1, 1), 0)]
)
def test_the_output_has_exactly_the_distribution_of_algorithm_1(name, walk, eta):
    noise, plan = TRAINED.respace(walk[0]), ResampleSchedule.create(*walk)
    method = DDNM(clip_denoised=False, eta=eta)
    mean, cov = propagated(method, 2, PRIORS[name], noise, plan, TRAINED)
    expected_mean, expected_cov = by_its_equations(PRIORS[name], noise, plan, eta)
    # The last step but one of float32: x_0 is a difference of numbers up to 160 times as large.
    np.testing.assert_allclose(mean, expected_mean, atol=2e-4)
    np.testing.assert_allclose(cov, expected_cov, atol=2e-4)


@pytest.mark.parametrize(("name", "distance"), [("pair", 0.0152), ("quad", 0.0447)])
def test_it_comes_as_near_to_the_exact_conditional_as_its_equations_say(name, distance):
    noise, plan = TRAINED.respace(100), ResampleSchedule.create(100, num_resamples=1)
    mean, cov = propagated(DDNM(clip_denoised=False), 2, PRIORS[name], noise, plan, TRAINED)
    assert kl_to_exact(mean, cov, PRIORS[name]) == pytest.approx(distance, abs=5e-4)
