"""Methods beside azula's (PyTorch, MIT licence), step by step, with the same noise.

Its samplers work on any schedule and denoiser; here on ours, of a Gaussian, whose best denoiser is
linear. Where azula and a paper differ, the test says by what.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_reference import torch

from repaint_jax import NoiseSchedule, ResampleSchedule
from repaint_jax.methods import DPS, MMPS, Observation, PiGDM, RePaint
from repaint_jax.methods.base import State
from repaint_jax.methods.repaint import Draws
from repaint_jax.oracles import Mixture

pytest.importorskip("azula")
from azula.denoise import Denoiser, DiracPosterior
from azula.guidance import DPSSampler, MMPSDenoiser, PGDMSampler, RePaintSampler
from azula.noise import Schedule
from azula.sample import DDIMSampler, DDPMSampler

# PyTorch's of a function that azula decorates.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

SIZE, KNOWN = 6, np.array([True, False, True, False, False, True])
OBSERVED = np.array([0.9, 0.0, -0.4, 0.0, 0.0, 0.7], np.float32)
_PLACE = np.arange(SIZE)
PRIOR = Mixture.normal(
    0.4 * np.exp(-0.3 * np.abs(_PLACE[:, None] - _PLACE)) + 0.05 * np.eye(SIZE), 0.1 * _PLACE
)
NOISE = NoiseSchedule.linear(1000).respace(12)
WALK = ResampleSchedule.create(12, 1, 1)
OBSERVATION = Observation(jnp.asarray(OBSERVED).reshape(SIZE, 1, 1), KNOWN.reshape(SIZE, 1, 1))
MODEL = PRIOR.denoiser(NoiseSchedule.linear(1000))
Y = torch.from_numpy(OBSERVED[KNOWN])


def measure(x):
    return x[..., torch.from_numpy(KNOWN)]


def spread(y):
    """M^T y."""
    x = torch.zeros(*y.shape[:-1], SIZE, dtype=y.dtype)
    x[..., torch.from_numpy(KNOWN)] = y
    return x


class Levels(Schedule):
    """Level t of ours, of which -1 is the clean picture."""

    def __call__(self, t):
        ac = torch.tensor(NOISE.alpha_cumprod_at(int(t)), dtype=torch.float32)
        return ac.sqrt(), (1 - ac).sqrt()


class Exact(Denoiser):
    """The mean of x_0 given x_t."""

    schedule = Levels()

    def forward(self, x, t):
        a, s = (float(level) for level in self.schedule(t))
        gain = a * PRIOR.cov @ np.linalg.inv(a * a * PRIOR.cov + s * s * np.eye(SIZE))
        mean = torch.tensor(PRIOR.mean, dtype=torch.float32)
        return DiracPosterior(mean=mean + (x - a * mean) @ torch.from_numpy(gain.T).float())


def draws(seed=0):
    """x_T, and two pictures of noise for each step."""
    start, *rest = np.random.default_rng(seed).normal(size=(1 + 2 * 12, SIZE)).astype(np.float32)
    return start, np.reshape(rest, (12, 2, SIZE))


def theirs(sampler, monkeypatch, *, per_step=1):
    """x after each step."""
    start, noises = draws()
    x, after = torch.from_numpy(start), []
    for t, z in zip(range(11, -1, -1), noises, strict=True):
        given = iter([*torch.from_numpy(z[:per_step]), *torch.zeros(2, SIZE)])
        monkeypatch.setattr(torch, "randn_like", lambda *_, given=given: next(given))
        x = sampler.step(x, torch.tensor(t), torch.tensor(t - 1)).detach()
        after.append(x.numpy())
    return np.stack(after)


def ours(method, monkeypatch):
    """x after each step."""
    table = method.tabulate(NOISE, WALK)
    start, noises = draws()
    state = State(jnp.asarray(start).reshape(SIZE, 1, 1), jnp.zeros((SIZE, 1, 1)))
    after = []
    for i, z in enumerate(noises):
        given = jnp.asarray(z).reshape(2, SIZE, 1, 1)
        monkeypatch.setattr(jax.random, "normal", lambda *_, given=given: given)
        at = jax.tree.map(lambda numbers, i=i: numbers[i], table)
        state = method.step(MODEL, state, OBSERVATION, at, None)
        after.append(np.asarray(state.x).ravel())
    return np.stack(after)


# In float32, through 12 levels.
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=3e-4)


def test_the_denoisers_agree():
    x = np.random.default_rng(1).normal(size=SIZE).astype(np.float32)
    table = DPS().tabulate(NOISE, WALK)
    for i, t in enumerate(range(11, -1, -1)):
        at = jax.tree.map(lambda numbers, i=i: numbers[i], table)
        x0, _ = at.predict(MODEL, jnp.asarray(x).reshape(SIZE, 1, 1))
        close(np.ravel(x0), Exact()(torch.from_numpy(x), torch.tensor(t)).mean.numpy())


def test_dps_is_azulas(monkeypatch):
    expected = theirs(DPSSampler(Exact(), Y, measure, zeta=0.1), monkeypatch)
    close(ours(DPS(clip_denoised=False, zeta=0.1), monkeypatch), expected)
    plain = theirs(DDPMSampler(Exact()), monkeypatch)
    assert np.abs(expected - plain).max() > 0.1


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_mmps_is_azulas_when_solved_to_the_end(monkeypatch, eta):
    known = int(KNOWN.sum())
    noiseless = MMPSDenoiser(
        Exact(), Y, measure, cov_y=torch.zeros_like, solver="cg", iterations=known
    )
    expected = theirs(DDIMSampler(noiseless, eta=eta), monkeypatch)
    method = MMPS(clip_denoised=False, eta=eta, iterations=known)
    close(ours(method, monkeypatch), expected)
    close(expected[-1][KNOWN], OBSERVED[KNOWN], atol=1e-3)


def test_mmps_of_one_iteration_is_azulas_but_for_the_known_pixels(monkeypatch):
    # Its mean of the known pixels is as near to them as an iteration comes; ours is put down.
    denoiser = MMPSDenoiser(Exact(), Y, measure, cov_y=torch.zeros_like, solver="cg", iterations=1)
    x = np.random.default_rng(2).normal(size=SIZE).astype(np.float32)
    method = MMPS(iterations=1)
    at = jax.tree.map(lambda numbers: numbers[5], method.tabulate(NOISE, WALK))
    found = method.conditional_mean(
        MODEL, jnp.asarray(x).reshape(SIZE, 1, 1), OBSERVATION, at.level
    )
    close(np.ravel(found), denoiser(torch.from_numpy(x), torch.tensor(6)).mean.numpy())


@pytest.mark.parametrize("eta", [0.0, 1.0])
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

    sampler = AsInThePaper(Exact(), Y, measure, spread, eta=eta)
    expected = theirs(sampler, monkeypatch)
    close(ours(PiGDM(clip_denoised=False, eta=eta), monkeypatch), expected)


def test_repaint_is_azulas_without_resampling(monkeypatch):
    y, mask = torch.from_numpy(OBSERVED), torch.from_numpy(KNOWN)
    sampler = RePaintSampler(Exact(), y, mask, iterations=1, eta=1.0)
    expected = theirs(sampler, monkeypatch, per_step=2)
    table = RePaint(clip_denoised=False).tabulate(NOISE, WALK)
    start, noises = draws()
    x = jnp.asarray(start).reshape(SIZE, 1, 1)
    for i, (z, expected_x) in enumerate(zip(noises, expected, strict=True)):
        at = jax.tree.map(lambda numbers, i=i: numbers[i], table)
        pictures = jnp.asarray(z).reshape(2, SIZE, 1, 1)
        given = Draws(pictures[0], pictures[1], jnp.zeros_like(x))
        x = RePaint(clip_denoised=False).move(MODEL, x, OBSERVATION, at, given).x
        close(np.ravel(x), expected_x)
