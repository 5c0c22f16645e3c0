"""The oracles are right: by automatic differentiation, by rejection, by brute force."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repaint_jax import NoiseSchedule
from repaint_jax.oracles import (
    ORACLES,
    Mixture,
    kl_divergence,
    kl_of_draws,
    mode_error,
    sliced_distance,
)

NOISE = NoiseSchedule.linear(1000)
SMALL = [name for name in ORACLES if name not in ("modes80", "rotated")]


def log_density(prior, ac, x):
    """Of the noised prior, from the definition."""
    cov = ac * prior.cov + (1 - ac) * np.eye(len(prior.cov))
    logs = [
        jnp.log(weight)
        + jax.scipy.stats.multivariate_normal.logpdf(x, np.sqrt(ac) * mean, jnp.asarray(cov))
        for weight, mean in zip(prior.weights, prior.means, strict=True)
    ]
    return jax.scipy.special.logsumexp(jnp.stack(logs))


@pytest.mark.parametrize("t", [0, 300, 700])
@pytest.mark.parametrize("name", ["quad", "field", "fork", "modes8"])
def test_the_noise_is_the_gradient_of_the_log_density(name, t):
    oracle = ORACLES[name]()
    ac = NOISE.alphas_cumprod[t]
    rng = np.random.default_rng(t)
    x = np.sqrt(ac) * oracle.prior.draw(rng, 3)
    x = x + np.sqrt(1 - ac) * rng.normal(size=x.shape)
    score = jax.vmap(jax.grad(lambda x: log_density(oracle.prior, ac, x)))(jnp.float32(x))
    pictures = jnp.float32(x).reshape(3, *oracle.image.shape)
    noise = oracle.prior.denoiser(NOISE)(pictures, jnp.full(3, t)).reshape(x.shape)
    # float32: where the noise is least its precision is 1e4, and x has seven digits.
    np.testing.assert_allclose(noise, -np.sqrt(1 - ac) * score, rtol=0.01, atol=2e-3)


@pytest.mark.parametrize("name", ["pair", "fork"])
def test_the_posterior_is_what_is_left_where_the_known_pixel_is_right(name):
    oracle = ORACLES[name]()
    drawn = oracle.prior.draw(np.random.default_rng(0), 4_000_000)
    near = np.abs(drawn[:, 0] - oracle.observed[0, 0]) < 0.01
    left, exact = drawn[near][:, 1:], oracle.posterior
    assert len(left) > 5000
    error = mode_error(left, exact)
    assert error.value < 4 * error.error + 0.01  # the window's own width
    assert left.mean() == pytest.approx(exact.mean[0], abs=4 * left.std() / len(left) ** 0.5 + 0.01)
    assert sliced_distance(left, exact.draw(np.random.default_rng(1), len(left))) < 0.03


@pytest.mark.parametrize("name", SMALL)
def test_prior_and_posterior_agree_by_bayes_rule(name):
    """log p(hole | known) - log p(hole, known) is the same for any hole."""
    oracle = ORACLES[name]()
    known = oracle.known.ravel()
    holes = oracle.posterior.draw(np.random.default_rng(0), 4)

    def density(mixture, x):
        gap = x - mixture.means
        square = np.einsum("ki,ij,kj->k", gap, np.linalg.inv(mixture.cov), gap)
        return np.log(np.sum(mixture.weights * np.exp(-(square - square.min()) / 2))) - (
            square.min() / 2
        )

    constants = []
    for hole in holes:
        whole = oracle.observed.ravel().copy()
        whole[~known] = hole
        constants.append(density(oracle.posterior, hole) - density(oracle.prior, whole))
    np.testing.assert_allclose(constants, constants[0], atol=1e-6)


def test_pair_and_quad_are_those_of_the_reference(golden):
    for name, given in json.loads((golden / "oracle.json").read_text()).items():
        oracle = ORACLES[name]()
        np.testing.assert_allclose(oracle.prior.cov, given["prior_cov"], atol=1e-12)
        np.testing.assert_allclose(oracle.posterior.mean, given["exact_mean"], atol=1e-12)
        np.testing.assert_allclose(oracle.posterior.cov, given["exact_cov"], atol=1e-12)
        for row in given["sampler"]:
            hole = ~oracle.known.ravel()
            kl = kl_divergence(
                np.array(row["mean"])[hole], np.array(row["cov"])[np.ix_(hole, hole)],
                oracle.posterior,
            )  # fmt: skip
            assert kl == pytest.approx(row["kl_to_exact"], abs=1e-9)


def test_the_fork_is_left_open_at_three_to_seven_and_the_bar_at_several_angles():
    np.testing.assert_allclose(ORACLES["fork"]().posterior.weights, [0.3, 0.7])
    assert (ORACLES["rotated"]().posterior.weights > 0.05).sum() >= 3
    for dim in (8, 80):
        assert (ORACLES[f"modes{dim}"]().posterior.weights > 0.02).sum() >= 4


@pytest.mark.parametrize("name", ORACLES)
def test_exact_draws_have_no_error_but_their_own(name):
    exact = ORACLES[name]().posterior
    drawn, others = (exact.draw(np.random.default_rng(seed), 20_000) for seed in (0, 1))
    if len(exact.weights) == 1:
        kl = kl_of_draws(drawn, exact)
        assert abs(kl.value) < 4 * kl.error
        return
    figure = mode_error(drawn, exact)
    assert figure.value < 4 * figure.error
    assert sliced_distance(drawn, others) < 0.02


def test_figures_tell_a_wrong_mean_a_wrong_spread_and_wrong_shares():
    exact = ORACLES["pair"]().posterior
    variance = exact.cov[0, 0]
    assert kl_divergence(exact.mean + 0.1, exact.cov, exact) == pytest.approx(0.005 / variance)
    assert kl_divergence(exact.mean, 2 * exact.cov, exact) == pytest.approx((1 - np.log(2)) / 2)
    drawn = exact.draw(np.random.default_rng(0), 100_000)
    assert kl_of_draws(drawn + 0.1, exact).value == pytest.approx(0.005 / variance, rel=0.1)

    fork = ORACLES["fork"]().posterior
    wrong = Mixture(np.array([0.4, 0.6]), fork.means, fork.cov).draw(
        np.random.default_rng(0), 100_000
    )
    assert mode_error(wrong, fork).value == pytest.approx(0.1, abs=0.01)
    # A tenth of all has to go from one mode to the other.
    distance = sliced_distance(wrong, fork.draw(np.random.default_rng(1), 100_000))
    assert distance == pytest.approx(0.1 * abs(fork.means[1, 0] - fork.means[0, 0]), abs=0.01)
    shifted = fork.draw(np.random.default_rng(1), 50_000) + 0.05
    same = sliced_distance(shifted, fork.draw(np.random.default_rng(2), 50_000))
    assert same == pytest.approx(0.05, abs=0.01)


@pytest.mark.slow
def test_the_benchmark_measures_goes_on_and_refuses_in_a_line(tmp_path):
    def run(*flags):
        command = [sys.executable, "-m", "benchmarks.posterior", f"--workdir={tmp_path}", *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    asked = ("--priors=pair,fork", "--methods=mmps,ddnm", "--calls=20", "--seconds=0")
    done = run(*asked)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "results.json").read_text())
    assert {(row["prior"], row["method"]) for row in rows} == {
        (prior, name) for prior in ("pair", "fork") for name in ("mmps", "ddnm")
    }
    (kl,) = (row["kl"][0] for row in rows if (row["prior"], row["method"]) == ("pair", "mmps"))
    assert 0 < kl < 0.02  # 18 calls, 6 levels
    assert "| mmps | 18 |" in done.stdout
    assert (tmp_path / "posterior.png").read_bytes().startswith(b"\x89PNG")

    lines = (tmp_path / "rows.jsonl").read_text()
    assert run(*asked).returncode == 0
    assert (tmp_path / "rows.jsonl").read_text() == lines
    wrong = run("--priors=pear")
    assert wrong.returncode == 1
    assert wrong.stderr.strip().splitlines()[-1].startswith("error: --priors: some of pair, quad")
