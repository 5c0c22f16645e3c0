"""The exact denoiser of a Gaussian prior: an oracle that needs no network and no data.

For x_0 ~ N(0, S) the best noise prediction is linear, eps = sqrt(1 - ac) (ac S + (1 - ac) I)^-1 x,
so that everything RePaint does to it stays Gaussian and can be known exactly.
"""

import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from repaint_jax import NoiseSchedule
from repaint_jax.methods import Observation, State


def exact_denoiser(prior_cov: np.ndarray, noise: NoiseSchedule):
    """`model(x[B, D, 1, 1], t)` for pictures of D pixels, one value each."""
    ac = noise.alphas_cumprod[:, None, None]
    noisy_cov = ac * prior_cov + (1 - ac) * np.eye(len(prior_cov))
    return Partial(_linear, jnp.asarray(np.sqrt(1 - ac) * np.linalg.inv(noisy_cov), jnp.float32))


def _linear(matrices: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    return jnp.einsum("bij,bjhc->bihc", matrices[t], x, precision="highest")


def oracle_cases(folder):
    """(name, prior, sampler row) for each row of oracle.json."""
    priors = json.loads((folder / "oracle.json").read_text())
    return [(name, prior, row) for name, prior in priors.items() for row in prior["sampler"]]


def exact_output(prior_cov, observed, known, noise, plan):
    """Mean [D] and covariance [D, D] of what Algorithm 1 makes with the exact denoiser, in float64.

    Written from the paper's equations alone: every move is affine in x and adds Gaussian noise.
    """
    one, keep = np.eye(len(prior_cov)), np.diag(known).astype(float)
    mean, cov = np.zeros(len(prior_cov)), one
    for t, t_next in zip(plan.t, plan.t_next, strict=True):
        ac, ac_prev, ac_next = map(noise.alpha_cumprod_at, (t, t - 1, t_next))
        beta = noise.betas[t]
        # E[x_0 | x_t] of a Gaussian, then DDPM's posterior (Ho et al. 2020, Eq. 7).
        denoise = np.sqrt(ac) * prior_cov @ np.linalg.inv(ac * prior_cov + (1 - ac) * one)
        from_x0 = np.sqrt(ac_prev) * beta / (1 - ac)
        from_x = np.sqrt(1 - beta) * (1 - ac_prev) / (1 - ac)
        move = (one - keep) @ (from_x0 * denoise + from_x * one)
        spread = (one - keep) * beta * (1 - ac_prev) / (1 - ac) + keep * (1 - ac_prev)
        mean = move @ mean + np.sqrt(ac_prev) * keep @ observed
        cov = move @ cov @ move.T + spread
        up = ac_next / ac_prev
        mean, cov = np.sqrt(up) * mean, up * cov + (1 - up) * one
    return mean, cov


def as_picture(values, dtype=jnp.float32):
    """Pixels in a column of one value each, [D, 1, 1]."""
    return jnp.asarray(values, dtype)[:, None, None]


def propagated(method, num_draws, prior, noise, plan, trained):
    """Mean [D] and covariance [D, D] of what a method makes with the exact denoiser.

    Carried through the method's own steps, which must be affine: in x, and in their `num_draws`
    normal draws a pixel, which must come from one call of `jax.random.normal`.
    """
    model = exact_denoiser(np.array(prior["prior_cov"]), trained)
    observation = Observation(as_picture(prior["observed"]), as_picture(prior["known"], bool))
    dim = len(prior["observed"])

    def step_of(x, z, row):
        x = as_picture(x)
        return method.step(model, State(x, x), observation, row, z).x.ravel()

    def advance(carry, row):
        mean, cov = carry
        silence = jnp.zeros(num_draws * dim)
        from_x, from_z = jax.jacobian(step_of, (0, 1))(mean, silence, row)
        return (step_of(mean, silence, row), from_x @ cov @ from_x.T + from_z @ from_z.T), None

    # The draws themselves are handed over where a key belongs.
    with mock.patch("jax.random.normal", lambda z, shape: z.reshape(shape)):
        start = (jnp.zeros(dim), jnp.eye(dim))
        rows = method.tabulate(noise, plan)
        return jax.jit(lambda: jax.lax.scan(advance, start, rows)[0])()


def kl_to_exact(mean, cov, prior):
    """KL(N(mean, cov) || the exact conditional) over the hole, in nats."""
    hole = ~np.array(prior["known"], bool)
    gap = np.asarray(mean, np.float64)[hole] - np.array(prior["exact_mean"])
    ours = np.asarray(cov, np.float64)[np.ix_(hole, hole)]
    exact = np.array(prior["exact_cov"])  # of the hole
    inverse = np.linalg.inv(exact)
    log_ratio = np.linalg.slogdet(exact)[1] - np.linalg.slogdet(ours)[1]
    return 0.5 * (np.trace(inverse @ ours) + gap @ inverse @ gap - len(gap) + log_ratio)
