"""How near each method comes to the exact conditional of a Gaussian prior, at which cost."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN
from gaussian import as_picture, exact_denoiser

from benchmarks import particles
from repaint_jax import NoiseSchedule, ResampleSchedule, inpaint, inpaint_batch
from repaint_jax.methods import (
    DAPS,
    DDNM,
    DPS,
    METHODS,
    MMPS,
    DInG,
    Hybrid,
    Implicit,
    LanPaint,
    Level,
    MCGDiff,
    Observation,
    PiGDM,
    QuasiNewton,
    RePaint,
    method,
)
from repaint_jax.methods.base import GRADIENT_FREE
from repaint_jax.methods.quasi_newton import Covariance, Pairs
from repaint_jax.oracles import ORACLES, kl_divergence, kl_of_draws, mode_error

TRAINED = NoiseSchedule.linear(1000)
DRAWS = 10_000


def drawn(method, steps, name, resamples=1, draws=DRAWS):
    """The holes that a method draws, and the calls that it takes."""
    oracle = ORACLES[name]()
    noise = TRAINED.respace(steps)
    walk = ResampleSchedule.create(noise.num_steps, 10, resamples)
    pictures = inpaint_batch(
        jax.random.split(jax.random.key(0), draws),
        oracle.prior.denoiser(TRAINED),
        jnp.asarray(oracle.image),
        jnp.asarray(oracle.known),
        noise=noise,
        resampling=walk,
        method=method,
    )
    return oracle.hole(pictures), method.cost(walk).sum()


def distance(method, steps, name, resamples=1, draws=DRAWS):
    """KL to the exact conditional in nats, less its bias by so many draws; and the calls."""
    holes, calls = drawn(method, steps, name, resamples, draws)
    return kl_of_draws(holes, ORACLES[name]().posterior).value, calls


EXACT = {"clip_denoised": False}  # clipping breaks the linear theory
SECOND = MMPS(**EXACT, eta=0.0, second_order=True)
# Method, steps, call equivalents, and the distances from pair and quad.
TABLE = [
    (SECOND, "logsnr20", 60, 0.0004, 0.0005),
    (SECOND, "logsnr80", 240, 0.0001, 0.0000),
    (MMPS(**EXACT, eta=0.0, second_order=True, iterations=3), "logsnr14", 98, 0.0008, 0.0014),
    (MMPS(**EXACT, eta=0.0), 33, 99, 0.0088, 0.0207),
    (MMPS(**EXACT), 33, 99, 0.0120, 0.0292),
    (MMPS(**EXACT, eta=1.0), 33, 99, 0.0296, 0.0659),
    (Implicit(**EXACT, eta=0.0, calls=2), 50, 100, 0.0079, 0.0089),
    (LanPaint(**EXACT), 20, 100, 0.0059, 0.0212),
    (DInG(**EXACT), 50, 99, 0.0159, 0.0128),
    (DDNM(**EXACT), 100, 100, 0.0159, 0.0480),
    (Hybrid(**EXACT, gradient_share=0.6, late_churn=0.5), 30, 66, 0.0290, 0.0229),
    (Hybrid(**EXACT), "30,8,8,7", 99, 0.0006, 0.0038),
    (PiGDM(**EXACT), 33, 99, 0.0650, 0.0812),
    (DAPS(**EXACT), 20, 100, 0.7706, 0.6720),
]


@pytest.mark.parametrize(("method", "steps", "calls", "pair", "quad"), TABLE)
def test_methods_come_as_near_as_the_guide_says(method, steps, calls, pair, quad):
    for name, expected in (("pair", pair), ("quad", quad)):
        kl, cost = distance(method, steps, name)
        assert cost == calls
        # Where the mean is off by d deviations, KL is d^2 / 2 and its error d / sqrt(draws); the
        # figures themselves are of 20,000 draws.
        error = (2 * expected / DRAWS) ** 0.5
        assert kl == pytest.approx(expected, abs=4 * error + 0.0003), (name, kl)


def test_mmps_at_60_calls_is_nearer_than_repaint_at_2410():
    kl, cost = zip(*(distance(SECOND, "logsnr20", name) for name in ("pair", "quad")), strict=True)
    assert max(kl) <= 0.0010
    assert cost == (60, 60)
    priors = json.loads((GOLDEN / "oracle.json").read_text())
    repaint = [row["kl_to_exact"] for prior in priors.values() for row in prior["sampler"]
               if row["model_calls"] == 2410]  # fmt: skip
    assert min(repaint) > 0.0025


@pytest.mark.parametrize("name", ["pair", "quad"])
@pytest.mark.parametrize("t", [0, 200, 900])
def test_conjugate_gradients_end_at_the_exact_conditional_mean(name, t):
    oracle = ORACLES[name]()
    cov, y, known = oracle.prior.cov, oracle.observed.ravel(), oracle.known.ravel()
    x = np.random.default_rng(t).normal(size=len(y))
    a2 = TRAINED.alphas_cumprod[t]
    # x_0 given x_t, then given y, by the formula for conditional normal distributions.
    gain = np.sqrt(a2) * cov @ np.linalg.inv(a2 * cov + (1 - a2) * np.eye(len(y)))
    mean, left = gain @ x, cov - np.sqrt(a2) * gain @ cov
    mean = mean + left[:, known] @ np.linalg.solve(left[np.ix_(known, known)], (y - mean)[known])

    at = jax.tree.map(
        lambda numbers: numbers[0],
        Level.between(TRAINED, np.array([t]), np.array([t - 1])),
    )
    method = MMPS(**EXACT, iterations=int(known.sum()))
    model = exact_denoiser(cov, TRAINED)
    observation = Observation(as_picture(y), as_picture(known, bool))
    ours = method.conditional_mean(model, as_picture(x), observation, at).ravel()
    scale = np.abs(mean).max() + 1
    np.testing.assert_allclose(ours, mean, atol=2e-3 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pair", "quad", "chain"])
def test_quasi_newton_at_60_calls_is_within_a_thousandth(name):
    kl, cost = distance(QuasiNewton(**EXACT), "logsnr23", name, draws=5000)
    assert cost == 59
    assert kl < 0.0010 + 4 * (0.0010 / DRAWS) ** 0.5


@method
class Begin(QuasiNewton):
    """Stays in the noise that a walk begins with."""

    def step(self, model, state, observation, at, key):
        return state


def solved_exactly(oracle, spread):
    """What QuasiNewton's steps make of noise where each conditional mean is exact: A z + b."""
    noise, exact = TRAINED.respace(spread), oracle.posterior
    table = QuasiNewton().tabulate(noise, ResampleSchedule.create(noise.num_steps, 1, 1))
    size = len(exact.cov)
    x, last = np.eye(size, size + 1), []  # A, and b in the last column
    for t, ahead in zip(range(noise.num_steps)[::-1], table.ahead.astype(float), strict=True):
        a, s = np.sqrt(noise.alphas_cumprod[t]), np.sqrt(1 - noise.alphas_cumprod[t])
        gain = a * exact.cov @ np.linalg.inv(a * a * exact.cov + s * s * np.eye(size))
        x0 = gain @ x
        x0[:, -1] += exact.mean - a * gain @ exact.mean
        last = [x0, *last[:2]]
        x0 = sum(share * each for share, each in zip(ahead, last, strict=False))
        if t:
            after = np.sqrt(noise.alphas_cumprod[t - 1])
            x = after * x0 + np.sqrt(1 - after**2) * (x - a * x0) / s
    return x0[:, :-1], x0[:, -1]


@pytest.mark.slow
def test_quasi_newton_fills_half_of_a_smooth_field():
    """Its distance from its own steps with exact means, of which the moments are known exactly.

    Drawn alone, thousandths of a nat would take a hundred thousand pictures.
    """
    oracle, spread, draws = ORACLES["field"](), "logsnr23", 1000
    filled, calls = drawn(QuasiNewton(**EXACT), spread, "field", draws=draws)
    begun, _ = drawn(Begin(), spread, "field", draws=draws)
    a, b = solved_exactly(oracle, spread)
    exact = begun @ a.T + b
    off, exact = filled - exact, exact - exact.mean(0)
    mean, off = b + off.mean(0), off - off.mean(0)
    both = exact.T @ off
    cov = a @ a.T + (both + both.T + off.T @ off) / (draws - 1)
    assert calls == 59
    assert kl_divergence(mean, cov, oracle.posterior) < 0.0010


def test_a_covariance_of_exact_pairs_gives_the_exact_conditional_mean():
    """As many pairs as there are pixels say all of S, whatever the floor."""
    oracle = ORACLES["chain"]()
    cov, known = oracle.prior.cov, oracle.known.ravel()
    g, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))
    learnt = Covariance.of(Pairs(jnp.float32(g), jnp.float32(g @ cov)), jnp.float32(3.0), 1e-4)
    exact = np.linalg.inv(np.linalg.inv(cov) + 3 * np.eye(8))
    residual = np.where(known, np.arange(8.0), 0)
    expected = exact[:, known] @ np.linalg.solve(exact[np.ix_(known, known)], residual[known])
    moved = learnt.times(learnt.solve(jnp.float32(residual), jnp.asarray(known)))
    np.testing.assert_allclose(moved, expected, atol=0.02)


@pytest.mark.slow
def test_sequential_monte_carlo_finds_the_shares_of_the_modes():
    """Where replacing the known pixels, however often, does not."""
    exact = ORACLES["fork"]().posterior
    holes, calls = drawn(MCGDiff(**EXACT), "logsnr150", "fork", draws=4000)
    smc = mode_error(holes, exact)
    assert calls == 2400
    assert smc.value < 0.01 + 3 * smc.error
    holes, calls = drawn(RePaint(**EXACT), 250, "fork", 10, draws=2000)
    assert calls == 2410
    assert mode_error(holes, exact).value > 0.04


@pytest.mark.slow
def test_all_of_many_particles_have_the_shares_of_the_modes():
    many = particles.population_error("fork", particles=256, levels=150, runs=100)
    assert many.error < 0.01
    assert many.value < 0.005 + 3 * many.error
    few = particles.population_error("fork", particles=2, levels=150, runs=4000)
    assert few.value > 0.03


def test_mmps_finds_the_shares_of_two_modes():
    holes, calls = drawn(SECOND, "logsnr80", "fork")
    error = mode_error(holes, ORACLES["fork"]().posterior)
    assert calls == 240
    assert error.value < 0.02 + 3 * error.error


@pytest.mark.slow
def test_mmps_with_fresh_noise_finds_the_shares_of_25_modes():
    fresh = MMPS(**EXACT, churn=0.05, second_order=True)
    holes, calls = drawn(fresh, "logsnr80", "modes8")
    error = mode_error(holes, ORACLES["modes8"]().posterior)
    assert calls == 240
    assert error.value < 0.02 + 3 * error.error
    holes, _ = drawn(SECOND, "logsnr80", "modes8")
    assert mode_error(holes, ORACLES["modes8"]().posterior).value > 0.1


def test_dps_is_near_at_the_many_steps_it_is_meant_for():
    kl, cost = distance(DPS(**EXACT), 1000, "pair", draws=2000)
    assert cost == 3000
    assert kl == pytest.approx(0.029, abs=0.01)


def outside(x, t):
    """A model that JAX cannot look into."""
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(lambda x, t: np.asarray(x), shape, x, t, vmap_method="expand_dims")


@pytest.mark.parametrize("name", METHODS)
def test_a_model_without_a_gradient_is_taken_or_refused_with_those_that_take_it(name):
    image, known = jnp.zeros((4, 4, 1)), jnp.arange(16).reshape(4, 4) < 8
    noise = TRAINED.respace(3)
    walk = {"noise": noise, "resampling": ResampleSchedule.create(3, num_resamples=1)}

    def filled():
        return inpaint(jax.random.key(0), outside, image, known, method=METHODS[name](), **walk)

    if name in GRADIENT_FREE:
        assert filled().shape == image.shape
        return
    with pytest.raises(ValueError, match=r"needs no gradient, repaint, .*ding") as raised:
        filled()
    assert "\n" not in str(raised.value)


def test_repaint_is_what_the_guide_compares_with():
    for name, expected in (("pair", 0.0285), ("quad", 0.0155)):
        kl, cost = distance(RePaint(**EXACT), 100, name, resamples=3)
        assert cost == 280
        assert kl == pytest.approx(expected, rel=0.1, abs=0.001)
