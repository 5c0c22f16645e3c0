"""Methods beside azula's (PyTorch, MIT licence), step by step, with the same noise.

Its samplers work on any schedule and denoiser; here on ours, of a Gaussian, whose best denoiser is
linear. Where azula and a paper differ, the test says by what. No package has DInG, LanPaint's
dynamics, implicit known pixels or the hybrid.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from method_scene import (
    KNOWN,
    MODEL,
    NOISE,
    NOTHING_KNOWN,
    OBSERVATION,
    OBSERVED,
    PRIOR,
    SIZE,
    STEPS,
    TRAINED,
    WALK,
    as_picture,
    close,
    draws,
    gain,
    ours,
    pixels,
    row,
)
from torch_reference import torch

from repaint_jax import ResampleSchedule, trajectory
from repaint_jax.methods import DAPS, DDNM, DPS, MMPS, MCGDiff, PiGDM, QuasiNewton, RePaint
from repaint_jax.methods.base import State
from repaint_jax.methods.quasi_newton import Pairs
from repaint_jax.methods.repaint import Draws

pytest.importorskip("azula")
from azula.denoise import Denoiser, DiracPosterior
from azula.guidance import (
    DiffPIRDenoiser,
    DPSSampler,
    MMPSDenoiser,
    PGDMSampler,
    RePaintSampler,
    TDSSampler,
)
from azula.noise import Schedule
from azula.sample import DDIMSampler, DDPMSampler, EulerSampler, xEABSampler

# PyTorch's of a function that azula decorates.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

Y = torch.from_numpy(OBSERVED[KNOWN])
EXACT = {"clip_denoised": False}  # clipping breaks the linear theory
START, NOISES = draws()


def measure(x):
    return x[..., torch.from_numpy(KNOWN)]


def spread(y):
    """M^T y."""
    x = torch.zeros(*y.shape[:-1], SIZE, dtype=y.dtype)
    x[..., torch.from_numpy(KNOWN)] = y
    return x


class Levels(Schedule):
    """Levels t of ours, of which -1 is the clean picture."""

    def __init__(self, noise=NOISE):
        super().__init__()
        self.noise = noise

    def __call__(self, t):
        ac = torch.as_tensor(self.noise.alpha_cumprod_at(t.numpy().round().astype(int)))
        return ac.sqrt().float(), (1 - ac).sqrt().float()


class Exact(Denoiser):
    """The mean of x_0 given x_t."""

    def __init__(self, noise=NOISE):
        super().__init__()
        self.schedule = Levels(noise)

    def forward(self, x, t):
        a, s = (float(level) for level in self.schedule(t))
        mean = torch.tensor(PRIOR.mean, dtype=torch.float32)
        return DiracPosterior(mean=mean + (x - a * mean) @ torch.from_numpy(gain(a, s).T).float())


def theirs(sampler, monkeypatch, noises=NOISES[:, :1]):
    """x after each step, of which `noises` [12, N, 6] are the draws."""
    x, after = torch.from_numpy(START), []
    for t, z in zip(range(STEPS - 1, -1, -1), noises, strict=True):
        given = iter([*torch.from_numpy(z), *torch.zeros(2, SIZE)])
        monkeypatch.setattr(torch, "randn_like", lambda *_, given=given: next(given))
        x = sampler.step(x, torch.tensor(t), torch.tensor(t - 1)).detach()
        after.append(x.numpy())
    return np.stack(after)


def x_of(states):
    return pixels([state.x for state in states])


def noiseless(iterations):
    return MMPSDenoiser(
        Exact(), Y, measure, cov_y=torch.zeros_like, solver="cg", iterations=iterations
    )


def test_the_denoisers_agree():
    x = np.random.default_rng(1).normal(size=SIZE).astype(np.float32)
    table = DPS().tabulate(NOISE, WALK)
    for i, t in enumerate(range(STEPS - 1, -1, -1)):
        x0, _ = row(table, i).predict(MODEL, as_picture(x))
        close(np.ravel(x0), Exact()(torch.from_numpy(x), torch.tensor(t)).mean.numpy())


def test_dps_is_azulas(monkeypatch):
    expected = theirs(DPSSampler(Exact(), Y, measure, zeta=0.1), monkeypatch)
    close(x_of(ours(DPS(**EXACT, zeta=0.1), monkeypatch, NOISES, START)), expected)
    plain = theirs(DDPMSampler(Exact()), monkeypatch)
    assert np.abs(expected - plain).max() > 0.1


# Of DDIM's eta, which Song et al. 2021 (Eq. 16) multiply the deviation of the noise by, azula 0.11
# makes a factor of the variance.
ETAS = pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])


@ETAS
def test_mmps_is_azulas_when_solved_to_the_end(monkeypatch, eta):
    known = int(KNOWN.sum())
    expected = theirs(DDIMSampler(noiseless(known), eta=eta**2), monkeypatch)
    method = MMPS(**EXACT, eta=eta, iterations=known)
    close(x_of(ours(method, monkeypatch, NOISES, START)), expected)
    close(expected[-1][KNOWN], OBSERVED[KNOWN], atol=1e-3)


@pytest.mark.parametrize("iterations", [1, 2])
def test_mmps_of_few_iterations_is_azulas_but_for_the_known_pixels(iterations):
    # Its mean of the known pixels is as near to them as an iteration comes; ours is put down.
    x = np.random.default_rng(2).normal(size=SIZE).astype(np.float32)
    method = MMPS(iterations=iterations)
    at = row(method.tabulate(NOISE, WALK), 5).level
    found = method.conditional_mean(MODEL, as_picture(x), OBSERVATION, at)
    expected = noiseless(iterations)(torch.from_numpy(x), torch.tensor(6)).mean.numpy()
    close(np.ravel(found), expected)
    assert np.abs(expected - OBSERVED)[KNOWN].max() > 1e-3


@ETAS
def test_pigdm_is_azulas_but_for_its_weight(monkeypatch, eta):
    # Song et al. 2023, Algorithm 1, adds sqrt(alpha_t) g; azula 0.11 sqrt(alpha_t alpha_s) g,
    # alpha_s that of the next level.
    class AsInThePaper(PGDMSampler):
        def step(self, x, t, s):
            z = torch.randn_like(x)
            with monkeypatch.context() as patch:
                patch.setattr(torch, "randn_like", lambda *_: z)
                guided = super().step(x, t, s)
                plain = DDIMSampler.step(self, x, t, s)
            return plain + (guided - plain) / self.denoiser.schedule(s)[0]

    sampler = AsInThePaper(Exact(), Y, measure, spread, eta=eta**2)
    expected = theirs(sampler, monkeypatch)
    close(x_of(ours(PiGDM(**EXACT, eta=eta), monkeypatch, NOISES, START)), expected)


def test_repaint_is_azulas_without_resampling(monkeypatch):
    y, mask = torch.from_numpy(OBSERVED), torch.from_numpy(KNOWN)
    sampler = RePaintSampler(Exact(), y, mask, iterations=1, eta=1.0)
    noises = np.concatenate([NOISES, np.zeros_like(NOISES[:, :1])], 1)
    expected = theirs(sampler, monkeypatch, noises)
    close(x_of(ours(RePaint(**EXACT), monkeypatch, noises, START)), expected)


def test_repaint_is_azulas_with_resampling(monkeypatch):
    # azula goes down a level, and up and down again before it goes on: jumps of length 1.
    resamples = 3
    levels = range(STEPS - 1, -1, -1)
    down = [time for t in levels for time in [*[t, t - 1] * (resamples - 1), t]]
    table = RePaint(**EXACT).tabulate(NOISE, ResampleSchedule.from_times([*down, -1]))
    noises = np.random.default_rng(4).normal(size=(STEPS, 3 * resamples, SIZE))
    noises = noises.astype(np.float32)
    y, mask = torch.from_numpy(OBSERVED), torch.from_numpy(KNOWN)
    sampler = RePaintSampler(Exact(), y, mask, iterations=resamples, eta=1.0)
    expected = theirs(sampler, monkeypatch, noises)
    x = as_picture(START)
    for i, z in enumerate(noises.reshape(-1, 3, SIZE, 1, 1)):
        x = RePaint(**EXACT).move(MODEL, x, OBSERVATION, row(table, i), Draws(*z)).x
        if i % resamples == resamples - 1:
            close(np.ravel(x), expected[i // resamples])


@ETAS
def test_ddnm_is_azulas_diffpir_but_for_the_noise_of_the_known_pixels(monkeypatch, eta):
    # With nearly no noise of y, DiffPIR (Zhu et al. 2023) has y for the known pixels of x_0, as
    # DDNM. It goes on with the noise (x - a x_0) / s of that x_0, DDNM with the network's.
    diffpir = DiffPIRDenoiser(Exact(), Y, measure, var_y=1e-9, iterations=3)
    table = DDNM().tabulate(NOISE, WALK)
    for i, t in enumerate(range(STEPS - 1, -1, -1)):
        at, x, z = row(table, i), as_picture(START), NOISES[i, 0]
        share = at.ancestral(1.0)
        sampler = DDIMSampler(diffpir, eta=eta**2)
        monkeypatch.setattr(torch, "randn_like", lambda *_, z=z: torch.from_numpy(z))
        expected = sampler.step(torch.from_numpy(START), torch.tensor(t), torch.tensor(t - 1))
        monkeypatch.setattr(jax.random, "normal", lambda _, s, i=i: NOISES[i].reshape(s))
        method = DDNM(**EXACT, eta=eta * share)
        found = np.ravel(method.step(MODEL, State(x, x), OBSERVATION, at, None).x)
        _, eps = at.predict(MODEL, x)
        other = at.noise_in(x, OBSERVATION.put_down(x))
        kept = at.next_sigma * np.sqrt(1 - (eta * share) ** 2)
        close(found, expected.numpy() + np.where(KNOWN, kept * np.ravel(eps - other), 0), atol=1e-3)


def test_daps_goes_down_as_azulas_ode_solver(monkeypatch):
    # No package has DAPS: its draw of x_0 given y, and the noise after, are written out here.
    method, calls = DAPS(**EXACT, spread=0.7), 5
    start, noises = draws(per_step=3)
    states = ours(method, monkeypatch, noises, start)
    sampler, x = EulerSampler(Exact()), torch.from_numpy(start)
    for t, (z_clean, z, _), state in zip(range(STEPS - 1, -1, -1), noises, states, strict=True):
        stops = np.unique(np.linspace(t, -1, calls + 1).round().astype(int))[::-1]
        for here, there in itertools.pairwise(stops):
            x = sampler.step(x, torch.tensor(here), torch.tensor(there))
        close(np.ravel(state.x0), x.numpy(), atol=2e-3)  # it begins from x_t up to 160 times as far
        a, s = map(float, sampler.denoiser.schedule(torch.tensor(t)))
        clean = np.where(KNOWN, OBSERVED, x.numpy() + 0.7 * s / a * z_clean)
        a, s = map(float, sampler.denoiser.schedule(torch.tensor(t - 1)))
        x = torch.from_numpy((a * clean + s * z).astype(np.float32))
        close(np.ravel(state.x), x.numpy(), atol=2e-3)


EVEN = TRAINED.respace(f"logsnr{STEPS}")


# NumPy's of how diffusers reads a tensor.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_mmps_of_second_order_is_diffusers_dpm_solver_where_nothing_is_known(monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(
        trained_betas=TRAINED.betas,
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(timesteps=EVEN.timesteps[::-1].tolist())
    method = MMPS(**EXACT, eta=0.0, second_order=True)
    states = ours(method, monkeypatch, NOISES, START, noise=EVEN, observation=NOTHING_KNOWN)
    x = torch.from_numpy(START)
    for t, state in zip(scheduler.timesteps, states, strict=True):
        eps = MODEL(as_picture(x)[None], jnp.asarray([int(t)]))
        x = scheduler.step(torch.from_numpy(np.array(eps).ravel()), t, x).prev_sample
        close(np.ravel(state.x), x.numpy())
    first = ours(MMPS(**EXACT, eta=0.0), monkeypatch, NOISES, START, noise=EVEN,
                 observation=NOTHING_KNOWN)  # fmt: skip
    assert np.abs(first[-1].x - states[-1].x).max() > 0.01


def test_quasi_newton_is_azulas_solver_of_third_order_where_nothing_is_known(monkeypatch):
    states = ours(
        QuasiNewton(**EXACT), monkeypatch, NOISES[:, :1], START,
        noise=EVEN, observation=NOTHING_KNOWN,
    )  # fmt: skip
    # Down to t = 0; from there azula's coefficients are infinite.
    sampler = xEABSampler(
        Exact(EVEN), order=3, start=STEPS - 1, stop=0, steps=STEPS - 1, silent=True
    )
    close(np.ravel(states[-2].x), sampler(torch.from_numpy(START)).numpy())


# In the most noise, roundings are divided by the least variance, on some processors by more.
@pytest.mark.parametrize(
    ("i", "share", "atol"), [(0, 1.0, 1.5e-2), (6, 1.0, 1e-5), (10, 1.0, 1e-5), (10, 0.0, 5e-5)]
)
def test_quasi_newton_that_knows_the_prior_has_azulas_mean_of_mmps(i, share, atol):
    start, noises = draws(seed=3)
    method = QuasiNewton(floor=1e-4, gradient_share=share)
    table = method.tabulate(NOISE, WALK)
    state = method.init(jax.random.key(0), OBSERVATION, row(table, i))
    basis, _ = np.linalg.qr(noises[:SIZE, 0])
    told = Pairs(*(old.at[:SIZE].set(new) for old, new in
                   zip(state.pairs, (basis, basis @ PRIOR.cov), strict=True)))  # fmt: skip
    state = state._replace(x=as_picture(start), pairs=told)
    at = row(table, i)._replace(tells=False)
    found, _, _ = method.conditional_mean(MODEL, state, OBSERVATION, at)
    denoiser = noiseless(int(KNOWN.sum()))
    expected = denoiser(torch.from_numpy(start), torch.tensor(STEPS - 1 - i)).mean.numpy()
    close(np.ravel(found), expected, atol=atol)


@pytest.mark.slow
def test_mcgdiff_draws_what_azulas_twisted_particles_draw():
    """Two kinds of sequential Monte Carlo that in the limit are exact for the same few steps."""
    runs, particles, steps = 8, 10_000, 24
    levels = TRAINED.respace(f"logsnr{steps}")
    walk = ResampleSchedule.create(steps, 1, 1)
    method = MCGDiff(**EXACT, particles=particles)
    keys = jax.random.split(jax.random.key(0), runs)
    image, known = OBSERVATION.image, OBSERVATION.known
    *_, (_, state) = trajectory(
        keys, MODEL, image, known, noise=levels, resampling=walk, method=method
    )
    weights = np.asarray(jax.nn.softmax(state.log_weights, axis=1))
    mine = [moments(p.reshape(particles, SIZE), w) for p, w in
            zip(np.asarray(state.particles), weights, strict=True)]  # fmt: skip

    def twist(x0, sigma):
        return torch.distributions.Normal(measure(x0), sigma).log_prob(Y)

    torch.manual_seed(0)
    sampler = TDSSampler(Exact(levels), twist, start=steps - 1, stop=-1, steps=steps, silent=True)
    even = np.full(particles, 1 / particles)
    other = [moments(sampler(torch.randn(particles, SIZE)).numpy(), even) for _ in range(runs)]
    errors = [np.std(each, 0, ddof=1) / np.sqrt(runs) for each in (mine, other)]
    error = np.hypot(*errors)
    assert error.max() < 0.025
    gap = np.abs(np.mean(mine, 0) - np.mean(other, 0))
    np.testing.assert_array_less(gap, 4 * error)
    # So few steps are not the prior's, and the variances tell: neither is near by chance.
    exact = PRIOR.given(OBSERVED, KNOWN).cov.diagonal()
    assert (exact - np.mean(mine, 0)[[3, 7, 11]] > 0.03).all()


def moments(x, weights):
    """Means and covariances of the hole."""
    x = x[:, ~KNOWN]
    mean = weights @ x
    return np.append(mean, ((x - mean).T * weights) @ (x - mean))
