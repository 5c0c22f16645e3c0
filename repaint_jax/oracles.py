"""Priors whose best denoiser and whose posterior given known pixels are known exactly.

A mixture of normal distributions that share one covariance S = U diag(l) U^T,

    x_0 ~ sum_k w_k N(m_k, S),

stays one when it is noised, and when some of its pixels are given. With a = sqrt(ac_t) and
s^2 = 1 - ac_t the noise that a perfect network predicts is

    eps(x, t) = s (a^2 S + s^2 I)^-1 (x - a sum_k r_k m_k),    r_k the share of component k in x,

and given the known pixels y, the hole h is a mixture of

    N(m_k,h + S_hy S_yy^-1 (y - m_k,y),  S_hh - S_hy S_yy^-1 S_yh),    w_k N(y; m_k,y, S_yy).

With one component that is a normal distribution. What a method draws is held against it: by the KL
divergence where both are normal, else by the sliced Wasserstein distance and the modes' weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from repaint_jax.adapters import levels
from repaint_jax.denoisers import Denoiser
from repaint_jax.schedules import NoiseSchedule

__all__ = [
    "ORACLES",
    "Figure",
    "Mixture",
    "Oracle",
    "kl_divergence",
    "kl_of_draws",
    "mode_error",
    "sliced_distance",
]


@dataclass(frozen=True, eq=False)
class Mixture:
    """Normal distributions of one covariance, in float64.

    Attributes:
        weights: float64[K], which sum to 1.
        means: float64[K, D].
        cov: float64[D, D], of each component.
    """

    weights: np.ndarray
    means: np.ndarray
    cov: np.ndarray

    @classmethod
    def normal(cls, cov: np.ndarray, mean: np.ndarray | float = 0.0) -> Mixture:
        """One component."""
        cov = np.asarray(cov, np.float64)
        return cls(np.ones(1), np.broadcast_to(mean, (1, len(cov))).astype(np.float64), cov)

    @property
    def mean(self) -> np.ndarray:
        """float64[D], of the whole mixture."""
        return self.weights @ self.means

    def given(self, observed: np.ndarray, known: np.ndarray) -> Mixture:
        """The hole's distribution, a mixture over the pixels that are not `known`.

        Args:
            observed: float[D], the values of the known pixels; the others do not matter.
            known: bool[D].
        """
        gap = observed[known] - self.means[:, known]  # [K, known]
        inverse = np.linalg.inv(self.cov[np.ix_(known, known)])
        gain = self.cov[np.ix_(~known, known)] @ inverse
        log_weights = np.log(self.weights) - np.einsum("ki,ij,kj->k", gap, inverse, gap) / 2
        weights = np.exp(log_weights - log_weights.max())
        return Mixture(
            weights / weights.sum(),
            self.means[:, ~known] + gap @ gain.T,
            self.cov[np.ix_(~known, ~known)] - gain @ self.cov[np.ix_(known, ~known)],
        )

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Independent draws, float64[count, D]."""
        chosen = rng.choice(len(self.weights), count, p=self.weights)
        spread = np.linalg.cholesky(self.cov)
        return self.means[chosen] + rng.normal(size=(count, len(spread))) @ spread.T

    def shares(self, x: np.ndarray) -> np.ndarray:
        """The probabilities that draws x [N, D] are of each component, float64[N, K]."""
        whiten = np.linalg.inv(np.linalg.cholesky(self.cov)).T
        x, means = np.asarray(x, np.float64) @ whiten, self.means @ whiten
        # Less |x|^2 / 2, which all components share.
        log_shares = np.log(self.weights) + x @ means.T - (means**2).sum(1) / 2
        shares = np.exp(log_shares - log_shares.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)

    def denoiser(self, noise: NoiseSchedule) -> Denoiser:
        """The best noise predictor, for pictures [B, H, W, C] of D = H W C values.

        Args:
            noise: the original (not respaced) noise schedule.
        """
        variances, basis = np.linalg.eigh(self.cov)
        arrays = (np.log(self.weights), self.means @ basis, variances, basis)
        return Partial(_noise, *levels(noise), *(jnp.asarray(a, jnp.float32) for a in arrays))


def _noise(
    signal: jax.Array,
    sigma: jax.Array,
    log_weights: jax.Array,
    means: jax.Array,
    variances: jax.Array,
    basis: jax.Array,
    x: jax.Array,
    t: jax.Array,
) -> jax.Array:
    """`Mixture.denoiser`; means and variances in the covariance's own basis."""

    def one(x: jax.Array, t: jax.Array) -> jax.Array:
        a, s = signal[t], sigma[t]
        precision = 1 / (a**2 * variances + s**2)
        gap = jnp.dot(x, basis, precision="highest")[None] - a * means  # [K, D]
        shares = jax.nn.softmax(log_weights - (precision[None] * gap**2).sum(1) / 2)
        eps = s * precision * (shares @ gap)
        return jnp.dot(basis, eps, precision="highest")

    return jax.vmap(one)(x.reshape(len(x), -1), t).reshape(x.shape)


@dataclass(frozen=True, eq=False)
class Oracle:
    """A prior, what is known of one picture of it, and so what the hole must be.

    Attributes:
        prior: of the picture's D = H W values.
        observed: float64[H, W], of which the known pixels count.
        known: bool[H, W].
    """

    prior: Mixture
    observed: np.ndarray
    known: np.ndarray

    @classmethod
    def column(cls, prior: Mixture, observed: list[float], known: list[int]) -> Oracle:
        """Of pixels one below the other, [D, 1]."""
        return cls(prior, np.array(observed, np.float64)[:, None], np.array(known, bool)[:, None])

    @property
    def image(self) -> np.ndarray:
        """f32[H, W, 1], as `inpaint` takes it."""
        return self.observed[..., None].astype(np.float32)

    @property
    def is_normal(self) -> bool:
        """Whether the posterior is one normal distribution."""
        return len(self.prior.weights) == 1

    @cached_property
    def posterior(self) -> Mixture:
        """Of the hole's pixels, in the order of `hole`."""
        return self.prior.given(self.observed.ravel(), self.known.ravel())

    def hole(self, pictures: np.ndarray) -> np.ndarray:
        """The values in the holes of pictures [N, H, W, 1], float64[N, hole]."""
        return np.asarray(pictures, np.float64)[:, ~self.known, 0]


def pair() -> Oracle:
    """Two pixels with a correlation of .9, of which one is known."""
    return Oracle.column(Mixture.normal(np.array([[1, 0.9], [0.9, 1]])), [1, 0], [1, 0])


def quad() -> Oracle:
    """Four smooth pixels, of which the ends are known."""
    prior = Mixture.normal(_smooth(np.arange(4), 1.0, 0.4, 0.02))
    return Oracle.column(prior, [0.6, 0, 0, -0.3], [1, 0, 0, 1])


def chain() -> Oracle:
    """Eight pixels of a Markov chain, of which three are known."""
    steps = np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
    prior = Mixture.normal(0.5 * 0.8**steps)
    return Oracle.column(prior, [0.7, 0, 0, 0, -0.5, 0, 0, 0.2], [1, 0, 0, 0, 1, 0, 0, 1])


def field() -> Oracle:
    """64 pixels of a smooth field, 8x8, of which the left half is known."""
    place = np.arange(8) + 1j * np.arange(8)[:, None]
    prior = Mixture.normal(_smooth(place.ravel(), 3.0, 0.4, 0.02))
    return Oracle(prior, prior.draw(np.random.default_rng(0), 1).reshape(8, 8), _left_half(8))


def fork() -> Oracle:
    """Two pixels in two modes, between which the known one leaves odds of 3 to 7."""
    means = np.array([[-0.2, -0.8], [0.2, 0.8]])
    prior = Mixture(np.ones(2) / 2, means, np.array([[0.16, 0.06], [0.06, 0.09]]))
    # Where the known pixel's likelihoods are as 3 to 7.
    value = np.log(7 / 3) * 0.16 / 0.4
    return Oracle.column(prior, [value, 0], [1, 0])


def modes(dim: int) -> Oracle:
    """25 modes in D pixels as of Cardoso et al. 2023, Sec. 5 (MCGDiff), in units of 16.

    Their means are (i, j, i, j, ...) / 2, for i and j in -2, ..., 2; the weights are drawn, the
    deviation is 1/16. The first pixel is known: it tells i, and leaves j open.
    """
    i, j = np.divmod(np.arange(25), 5) - np.array([[2], [2]])
    means = np.tile(np.stack([i, j], 1) / 2, (1, dim // 2))
    weights = np.random.default_rng(1).chisquare(1, 25) + 0.2
    prior = Mixture(weights / weights.sum(), means, np.eye(dim) / 256)
    return Oracle.column(prior, [0.53] + [0] * (dim - 1), [1] + [0] * (dim - 1))


def rotated() -> Oracle:
    """A soft bar at twelve angles on 16x16 pixels, of which the left half is known.

    It is empty but for noise, so that the bar lies somewhere in the other.
    """
    y, x = np.mgrid[:16, :16] - 7.5
    angles = np.arange(12) * np.pi / 6
    along = x * np.cos(angles)[:, None, None] + y * np.sin(angles)[:, None, None]
    across = y * np.cos(angles)[:, None, None] - x * np.sin(angles)[:, None, None]
    bar = np.exp(-((along - 4) ** 2) / 18 - across**2 / 4)
    weights = 1 + np.arange(12) % 5
    prior = Mixture(weights / weights.sum(), (1.6 * bar - 0.8).reshape(12, -1), np.eye(256) * 0.04)
    noise = 0.2 * np.random.default_rng(0).normal(size=256)
    return Oracle(prior, (prior.means[0] + noise).reshape(16, 16), _left_half(16))


# By name, the normal ones first.
ORACLES: dict[str, Callable[[], Oracle]] = {
    "pair": pair,
    "quad": quad,
    "chain": chain,
    "field": field,
    "fork": fork,
    "modes8": lambda: modes(8),
    "modes80": lambda: modes(80),
    "rotated": rotated,
}


def _smooth(place: np.ndarray, length: float, variance: float, nugget: float) -> np.ndarray:
    """The covariance variance exp(-d^2 / 2 length^2), and a nugget of white noise."""
    distance = np.abs(np.subtract.outer(place, place))
    return variance * np.exp(-((distance / length) ** 2) / 2) + nugget * np.eye(place.size)


def _left_half(side: int) -> np.ndarray:
    return np.broadcast_to(np.arange(side) < side // 2, (side, side))


class Figure(NamedTuple):
    """A measured number and the standard error of it."""

    value: float
    error: float


def kl_divergence(mean: np.ndarray, cov: np.ndarray, exact: Mixture) -> float:
    """KL(N(mean, cov) || exact) in nats; of a mixture of one component."""
    gap, dim = mean - exact.mean, len(mean)
    inverse = np.linalg.inv(exact.cov)
    log_ratio = np.linalg.slogdet(exact.cov)[1] - np.linalg.slogdet(cov)[1]
    return float(np.trace(inverse @ cov) + gap @ inverse @ gap - dim + log_ratio) / 2


def kl_of_draws(drawn: np.ndarray, exact: Mixture) -> Figure:
    """The divergence of a normal distribution with the moments of draws [N, D]."""
    count, dim = drawn.shape
    value = kl_divergence(drawn.mean(0), np.cov(drawn.T).reshape(dim, dim), exact)
    moments = dim * (dim + 3) / 2  # so many that each cost 1 / 2N when they are fitted
    value -= moments / (2 * count)
    return Figure(value, float(np.sqrt(2 * max(value, 0) / count + moments / (2 * count**2))))


def mode_error(drawn: np.ndarray, exact: Mixture) -> Figure:
    """The greatest error of a mode's share among draws [N, D]."""
    gap = exact.shares(drawn).mean(0) - exact.weights
    worst = np.abs(gap).argmax()
    weight = exact.weights[worst]
    return Figure(float(abs(gap[worst])), float(np.sqrt(weight * (1 - weight) / len(drawn))))


def sliced_distance(a: np.ndarray, b: np.ndarray, slices: int = 100) -> float:
    """The mean Wasserstein-1 distance of draws [N, D] along directions at random.

    In units of pixels' values; of as many draws each.
    """
    directions = np.random.default_rng(0).normal(size=(a.shape[1], slices))
    directions /= np.linalg.norm(directions, axis=0)
    return float(np.abs(np.sort(a @ directions, 0) - np.sort(b @ directions, 0)).mean())
