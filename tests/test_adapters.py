"""The same exact model, told in other terms, makes the same pictures."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GOLDEN
from gaussian import as_picture, exact_denoiser, kl_to_exact

from repaint_jax import (
    NoiseSchedule,
    ResampleSchedule,
    inpaint,
    inpaint_batch,
    noise_from_denoiser,
    noise_from_v,
    noise_from_velocity,
    noise_from_x0,
)
from repaint_jax.methods import MMPS, RePaint

PRIOR = json.loads((GOLDEN / "oracle.json").read_text())["quad"]
COV = np.array(PRIOR["prior_cov"])
LINEAR, KARRAS = NoiseSchedule.linear(1000), NoiseSchedule.karras(1000)
FLOW = NoiseSchedule.from_sigmas([r / (1 - r) for r in np.linspace(0.002, 0.998, 500)])
ADAPTERS = {
    "x0": noise_from_x0,
    "v": noise_from_v,
    "denoiser": noise_from_denoiser,
    "velocity": noise_from_velocity,
}


VALUES, VECTORS = np.linalg.eigh(COV)
S = jnp.asarray(VALUES[None], jnp.float32)  # [1, D]


def along_axes(gain, x):
    """A gain [B, D] along each eigenvector of COV: every exact answer is of this form."""
    return jnp.einsum("ik,bk,jk,bjhc->bihc", VECTORS, gain, VECTORS, x, precision="highest")


def exact(kind, noise):
    """E[what this kind of model predicts | x], x_0 ~ N(0, COV), each from its own definition."""
    ac, left = noise.alphas_cumprod[:, None], 1 - noise.alphas_cumprod[:, None]
    signal, sigma, ac, left = (
        jnp.asarray(level, jnp.float32) for level in (np.sqrt(ac), np.sqrt(left), ac, left)
    )

    def x0(x, t):
        return along_axes(signal[t] * S / (ac[t] * S + left[t]), x)

    def v(x, t):
        return along_axes(signal[t] * sigma[t] * (1 - S) / (ac[t] * S + left[t]), x)

    def denoiser(y, sigma):
        return along_axes(S / (S + sigma[:, None] ** 2), y)

    def velocity(y, r):  # E[eps - x_0 | (1 - r) x_0 + r eps = y]
        r = r[:, None]
        return along_axes((r - (1 - r) * S) / ((1 - r) ** 2 * S + r**2), y)

    return {"x0": x0, "v": v, "denoiser": denoiser, "velocity": velocity}[kind]


@pytest.mark.parametrize("noise", [LINEAR, KARRAS, FLOW], ids=["linear", "karras", "flow"])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_every_kind_of_model_predicts_the_exact_noise_at_every_level(kind, noise):
    t = jnp.arange(noise.num_steps)
    x = jax.random.normal(jax.random.key(0), (noise.num_steps, 4, 1, 1))
    ours = jax.jit(ADAPTERS[kind](exact(kind, noise), noise))(x, t)
    expected = exact_denoiser(COV, noise)(x, t)
    # Near the clean picture noise is a small difference of large numbers, by 1 / sigma.
    scale = 1 + 1e-2 / np.sqrt(1 - noise.alphas_cumprod)
    assert (np.abs(ours - expected).max((1, 2, 3)) / scale).max() < 1e-4


@pytest.mark.parametrize("method", [RePaint(clip_denoised=False), MMPS(clip_denoised=False)])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_the_same_pictures_come_of_every_kind(kind, method):
    def pictures(model):
        noise = KARRAS.respace(12)
        return inpaint_batch(
            jax.random.split(jax.random.key(0), 8),
            model,
            as_picture(PRIOR["observed"]),
            as_picture(PRIOR["known"], bool)[..., 0],
            noise=noise,
            resampling=ResampleSchedule.create(noise.num_steps, 4, 2),
            method=method,
        )

    expected = pictures(exact_denoiser(COV, KARRAS))
    ours = pictures(ADAPTERS[kind](exact(kind, KARRAS), KARRAS))
    np.testing.assert_allclose(ours, expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["denoiser", "velocity"])
def test_levels_of_karras_and_of_a_flow_end_at_the_exact_conditional(kind):
    noise = {"denoiser": KARRAS, "velocity": FLOW}[kind]
    levels, draws = noise.respace(40), 5000
    pictures = inpaint_batch(
        jax.random.split(jax.random.key(0), draws),
        ADAPTERS[kind](exact(kind, noise), noise),
        as_picture(PRIOR["observed"]),
        as_picture(PRIOR["known"], bool)[..., 0],
        noise=levels,
        resampling=ResampleSchedule.create(levels.num_steps, 10, 1),
        method=MMPS(clip_denoised=False, eta=0.0, second_order=True),
    )
    drawn = np.asarray(pictures, np.float64).reshape(draws, -1)
    assert kl_to_exact(drawn.mean(0), np.cov(drawn.T), PRIOR) < 0.003


CLEAN = jax.random.uniform(jax.random.key(0), (4, 4, 3), minval=-1, maxval=1)[None]


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_learned_variance_is_passed_on(kind):
    def model(x, level):
        return jnp.concatenate([CLEAN + 0 * x, jnp.full_like(x, 0.25)], -1)

    x, t = jax.random.normal(jax.random.key(1), (3, 4, 4, 3)), jnp.array([0, 500, 999])
    output = ADAPTERS[kind](model, LINEAR)(x, t)
    assert output.shape == (3, 4, 4, 6)
    np.testing.assert_array_equal(output[..., 3:], 0.25)


@pytest.mark.parametrize("kind", ["x0", "denoiser"])
def test_a_picture_that_is_always_the_same_comes_back(kind):
    plan = ResampleSchedule.create(10, 2, 2)
    out = inpaint(
        jax.random.key(2),
        ADAPTERS[kind](lambda x, level: CLEAN + 0 * x, LINEAR),
        CLEAN[0],
        jnp.zeros((4, 4), bool),
        noise=LINEAR.respace(10),
        resampling=plan,
    )
    np.testing.assert_allclose(out, CLEAN[0], atol=1e-4)


def test_a_level_can_be_another_for_each_picture_and_is_differentiated_through():
    model = noise_from_denoiser(exact("denoiser", KARRAS), KARRAS)
    x, t = jax.random.normal(jax.random.key(0), (3, 4, 1, 1)), jnp.array([10, 500, 990])
    alone = jnp.concatenate([model(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    together = model(x, t)
    np.testing.assert_allclose(together[0], alone[0], atol=2e-4)  # roundings over little noise
    np.testing.assert_allclose(together[1:], alone[1:], rtol=1e-5)
    slope = jax.vmap(jax.jacrev(lambda x, t: model(x[None], t[None])[0]))(x, t)
    expected = jax.vmap(jax.jacrev(lambda x, t: exact_denoiser(COV, KARRAS)(x[None], t[None])[0]))
    np.testing.assert_allclose(slope, expected(x, t), atol=1e-4)


@pytest.mark.parametrize("adapter", ADAPTERS.values())
def test_adapters_refuse_a_respaced_schedule(adapter):
    with pytest.raises(ValueError, match=r"original noise schedule.*0 to 999.*has 250 steps"):
        adapter(lambda x, t: x, LINEAR.respace(250))


def test_levels_of_karras_are_those_of_the_paper():
    # Eq. 5 with N = 18, rho = 7, from .002 to 80, which is the paper's setting for 32x32 pictures.
    i = np.arange(18)
    low, high = 80 ** (1 / 7), 0.002 ** (1 / 7)
    paper = (low + i / 17 * (high - low)) ** 7
    ac = NoiseSchedule.karras(18).alphas_cumprod
    np.testing.assert_allclose(np.sqrt(1 / ac - 1), paper[::-1], rtol=1e-9)


@pytest.mark.parametrize("sigmas", [[], [1.0, 1.0], [0.0, 1.0], [2.0, 1.0], [1.0, np.inf], [[1.0]]])
def test_sigmas_must_rise_and_be_finite(sigmas):
    with pytest.raises(ValueError, match="rise from above 0, all finite"):
        NoiseSchedule.from_sigmas(sigmas)


@pytest.mark.parametrize("ends", [(0.0, 80.0, 7.0), (80.0, 0.002, 7.0), (0.002, 80.0, 0.0)])
def test_levels_of_karras_need_two_ends(ends):
    with pytest.raises(ValueError, match="0 < sigma_min < sigma_max"):
        NoiseSchedule.karras(10, *ends)
