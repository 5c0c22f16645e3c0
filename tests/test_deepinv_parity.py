"""Methods beside deepinv's (PyTorch, BSD licence), with the same noise.

It has DDRM, and guidances that its solver adds to the score, of x_t / a = x_0 + sigma eps with
sigma = s / a. With a guidance g = grad_{x/a} -log p(y | x), a step is DDIM's towards

    D - sigma^2 g.

Here on our schedule and the best denoiser of a Gaussian. No package has DDNM; DDRM is near to it.
"""

from importlib.util import find_spec

import jax
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

from repaint_jax.methods import DDNM, DPS, MMPS, PiGDM
from repaint_jax.methods.base import State

if find_spec("deepinv") is None:
    pytest.skip("could not import deepinv", allow_module_level=True)
from deepinv.physics import GaussianNoise, Inpainting
from deepinv.sampling import (
    DDRM,
    DDIMSolver,
    DPSDataFidelity,
    EDMDiffusionSDE,
    MomentMatchingDataFidelity,
    PiGDMDataFidelity,
    PosteriorDiffusion,
)

EXACT = {"clip_denoised": False}  # clipping breaks the linear theory
LEVELS = np.arange(STEPS - 1, -1, -1)
SIGMAS = np.sqrt(1 / NOISE.alpha_cumprod_at(LEVELS) - 1)
A = np.sqrt(NOISE.alpha_cumprod_at(LEVELS))
A_NEXT = np.append(A[1:], 1)
RATIO = np.append(SIGMAS[1:], 0) / SIGMAS  # of sigma, from a level to the next
START, NOISES = draws()


class Exact(torch.nn.Module):
    """The mean of x_0 given x_0 + sigma eps, [B, 1, 6, 1]."""

    def forward(self, x, sigma):
        mean = torch.tensor(PRIOR.mean, dtype=torch.float32)
        linear = torch.from_numpy(gain(1.0, float(sigma))).float()
        return (mean + linear @ (x.ravel() - mean)).reshape(x.shape)


def as_batch(values):
    return torch.from_numpy(np.array(values, np.float32)).reshape(1, 1, SIZE, 1)


# It divides by the noise of y where nothing is known.
_HARDLY = GaussianNoise(1e-6)
PHYSICS = Inpainting(img_size=(1, SIZE, 1), mask=as_batch(KNOWN)[0], noise_model=_HARDLY)
Y = as_batch(np.where(KNOWN, OBSERVED, 0))


def sampled(fidelity, eta, monkeypatch):
    """x after each step of DDIM with the guidance."""
    times = torch.linspace(STEPS - 1, -1, STEPS + 1, dtype=torch.float64)

    def level(t):
        ac = torch.as_tensor(NOISE.alpha_cumprod_at(int(t.round())), dtype=torch.float64)
        return ac.sqrt(), (1 - ac).sqrt()

    sde = EDMDiffusionSDE(
        sigma_t=lambda t: level(t)[1] / level(t)[0],
        scale_t=lambda t: level(t)[0],
        sigma_prime_t=lambda t: None,
        scale_prime_t=lambda t: None,
    )
    solver = DDIMSolver(timesteps=times, eta=eta)
    given = iter(NOISES[:, 0])
    monkeypatch.setattr(solver, "randn_like", lambda _: as_batch(next(given)).double())
    sampler = PosteriorDiffusion(fidelity, Exact(), sde, solver, minus_one_one=False)
    start = as_batch(START).double()
    _, after = sampler(Y, PHYSICS, x_init=start, get_trajectory=True, denoise_output=False)
    return after[1:].numpy().reshape(STEPS, SIZE)


def x_of(states):
    return pixels([state.x for state in states])


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_mmps_is_deepinvs_when_solved_to_the_end(monkeypatch, eta):
    known = int(KNOWN.sum())
    fidelity = MomentMatchingDataFidelity(cg_max_iter=known, cg_tol=0)
    expected = sampled(fidelity, eta, monkeypatch)
    # Its conjugate gradients divide by what is left and 1e-8, which counts at the end; there ours
    # puts the known pixels down.
    close(expected[-1, KNOWN], OBSERVED[KNOWN], atol=5e-3)
    expected[-1, KNOWN] = OBSERVED[KNOWN]
    method = MMPS(**EXACT, eta=eta, iterations=known)
    close(x_of(ours(method, monkeypatch, NOISES, START)), expected)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_pigdms_guidance_is_deepinvs_but_for_its_weight(monkeypatch, eta):
    # Song et al. 2023, Algorithm 1, adds a g to DDIM's step. deepinv goes to D + g / a, as the
    # guidance is derived, which adds (a' / a) (1 - c) g, c what is left of x / a - D.
    left = RATIO * np.sqrt(1 - eta**2 * (1 - RATIO**2))
    weights = A_NEXT / A * (1 - left)
    after = sampled(PiGDMDataFidelity(), eta, monkeypatch)
    method, x, added = PiGDM(**EXACT, eta=eta), START, []
    table = method.tabulate(NOISE, WALK)
    for i, expected in enumerate(after):
        monkeypatch.setattr(jax.random, "normal", lambda _, s, i=i: NOISES[i].reshape(s))
        state = State(as_picture(x), as_picture(x))
        guided, plain = (
            np.ravel(method.step(MODEL, state, observation, row(table, i), None).x)
            for observation in (OBSERVATION, NOTHING_KNOWN)
        )
        close((guided - plain) / A[i], (expected - plain) / weights[i])
        added.append(np.abs(expected - plain).max())
        x = expected
    assert max(added) > 0.1


def test_dps_is_deepinvs_but_for_its_weight(monkeypatch):
    # Chung et al. 2023, Algorithm 1, subtracts zeta grad |y - M D| from DDPM's step. deepinv makes
    # it a part of the score, so that this step's own factor comes to it.
    weight = 0.1
    expected = sampled(DPSDataFidelity(weight=weight), 1.0, monkeypatch)
    zetas = weight * A * A_NEXT * SIGMAS**2 * (1 - RATIO**2)
    methods = [DPS(**EXACT, zeta=zeta) for zeta in zetas]
    close(x_of(ours(methods, monkeypatch, NOISES, START)), expected)


def ddrm(eta, monkeypatch):
    """x_t / a at each level, and x_0 at the end."""
    # Kawar et al. 2022, Eq. 7 and 8, have noise of the variances sigma^2 and eta^2 sigma^2; deepinv
    # 0.5 halves both.
    given = iter(2**0.5 * np.stack([START, *NOISES[:, 0]]))
    monkeypatch.setattr(torch, "randn_like", lambda _: as_batch(next(given)))
    seen = []

    def model(x, sigma):
        seen.append(x.numpy().ravel())
        return Exact()(x, sigma)

    x0 = DDRM(model, sigmas=SIGMAS, eta=eta, etab=1.0, eps=0.0)(Y, PHYSICS)
    return np.stack(seen), x0.numpy().ravel()


def test_ddnm_with_fresh_noise_alone_is_ddrm(monkeypatch):
    seen, x0 = ddrm(1.0, monkeypatch)
    states = ours(DDNM(**EXACT, eta=1.0), monkeypatch, NOISES, A[0] * seen[0])
    close(x_of(states[:-1]), A[1:, None] * seen[1:])
    close(np.ravel(states[-1].x0), x0)
    # Of the last picture DDRM has the network's prediction, DDNM the known pixels themselves.
    close(np.ravel(states[-1].x), np.where(KNOWN, OBSERVED, x0))


@pytest.mark.parametrize("eta", [0.0, 0.85])
def test_ddnm_is_ddrm_but_for_the_noise_of_the_known_pixels(monkeypatch, eta):
    # That is sigma' z with DDRM, and sigma' (sqrt(1 - eta^2) eps + eta z) with DDNM.
    seen, _ = ddrm(eta, monkeypatch)
    method = DDNM(**EXACT, eta=eta)
    table = method.tabulate(NOISE, WALK)
    for i, (x, expected) in enumerate(zip(A[:, None] * seen, seen[1:], strict=False)):
        monkeypatch.setattr(jax.random, "normal", lambda _, s, i=i: NOISES[i].reshape(s))
        x, z, sigma = as_picture(x), NOISES[i, 0], SIGMAS[i + 1]
        found = np.ravel(method.step(MODEL, State(x, x), OBSERVATION, row(table, i), None).x)
        eps = np.ravel(row(table, i).predict(MODEL, x)[1])
        other = np.sqrt(1 - eta**2) * eps + eta * z - z
        close(found, A_NEXT[i] * (expected + np.where(KNOWN, sigma * other, 0)))
