"""The exact denoiser of a Gaussian prior: an oracle that needs no network and no data.

For x_0 ~ N(0, S) the best noise prediction is linear, eps = sqrt(1 - ac) (ac S + (1 - ac) I)^-1 x,
so that everything RePaint does to it stays Gaussian and can be known exactly.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from repaint_jax import NoiseSchedule


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
