"""A quasi-Newton MMPS: what one level tells of the prior's covariance serves at all others.

The conditional mean is MMPS's (mmps.py), with C = Cov[x_0 | x_t]. Where the prior is near a normal
distribution of covariance S,

    C^-1 = S^-1 + (a / s)^2 I:

S is the same at every level, and each call tells of it a pair (g, w) with S g = w:

    the model's change since the level before    g = change of (a / s) eps,    w = change of D
    a product w = C M^T p                        g = M^T p - (a / s)^2 w

Of such pairs S is made as W (G^T W)^-1 W^T, Nystroem's approximation, and as `floor` across them. A
step asks for one product, along that p which solves M C M^T p = y - M D with the C so made, goes as
far as the product says, and closes what is left with the C that knows it, too. Where a solution
takes conjugate gradients twenty products at each level, this takes some twenty in all. The last
levels, by which S is known, ask for none.

The step to the next level has no fresh noise and is of third order: with l = log(a / s), x_0 / s is
integrated over e^l along the parabola through its last three values (exponential Adams-Bashforth).
It needs levels even in l: respace("logsnr20").
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap

from repaint_jax.denoisers import Denoiser, clipped
from repaint_jax.methods.base import (
    GRADIENT_COST,
    Level,
    Observation,
    State,
    check_gradient_share,
    early_steps,
    method,
    static,
)
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.schedules import NoiseSchedule

__all__ = ["QuasiNewton"]

ORDER = 3
# Between levels nearer to each other in l, a change tells little, and drives better pairs out.
APART = 0.25


class Step(NamedTuple):
    """The numbers of one step, or of N steps as arrays [N]."""

    level: Level
    ahead: np.ndarray  # [N, 3], shares of the last three x_0, newest first, in what to go to
    tells: np.ndarray  # bool, whether the change since the step before is learnt
    early: np.ndarray  # bool, whether it asks for a product


class Pairs(NamedTuple):
    """What is known of S, newest first; f32[memory, H W C] each."""

    g: jax.Array
    w: jax.Array

    def learn(self, g: jax.Array, w: jax.Array) -> Pairs:
        """With one more, which falls out the oldest."""
        new = (g.ravel(), w.ravel())
        return Pairs(*(jnp.roll(old, 1, 0).at[0].set(a) for old, a in zip(self, new, strict=True)))


class Progress(NamedTuple):
    """The state."""

    x: jax.Array
    x0: jax.Array
    before: jax.Array  # f32[2, H, W, C], the x_0 of the levels before, newest first
    predicted: jax.Array  # f32[2, H, W, C], (a / s) eps and D of the level before
    pairs: Pairs


class Covariance(NamedTuple):
    """C = rest I + Z^T diag(share) Z."""

    rows: jax.Array  # Z, f32[memory, H W C]
    share: jax.Array
    rest: jax.Array

    @classmethod
    def of(cls, pairs: Pairs, snr: jax.Array, floor: jax.Array | float) -> Covariance:
        """That of x_0 at the level with (a / s)^2 = snr."""
        g, w = pairs
        size = (g * w).sum(1)
        # To length 1 in S; without what no covariance has, or hardly one.
        fits = size > 0.01 * jnp.sqrt((g * g).sum(1) * (w * w).sum(1))
        scale = jnp.where(fits, jax.lax.rsqrt(jnp.where(fits, size, 1)), 0)
        g, w = g * scale[:, None], w * scale[:, None]
        gram = _dot(g, w.T)
        gram = (gram + gram.T) / 2
        length, turn = _eigh(gram)
        kept = length > 1e-5 * length[-1]  # float32 tells no more
        inverse = jnp.where(kept, jax.lax.rsqrt(jnp.where(kept, length, 1)), 0)
        rows = _dot((turn * inverse[None]).T, w)
        variance, turn = _eigh(_dot(rows, rows.T))  # those of S
        above = variance > floor
        rest = floor / (1 + snr * floor)
        share = (variance / (1 + snr * variance) - rest) / jnp.where(above, variance, 1)
        return cls(_dot(turn.T, rows), jnp.where(above, jnp.maximum(share, 0), 0), rest)

    def times(self, v: jax.Array) -> jax.Array:
        """C v, f32[H W C]."""
        return self.rest * v + _dot(self.rows.T, self.share * _dot(self.rows, v))

    def solve(self, residual: jax.Array, known: jax.Array) -> jax.Array:
        """P with M C M^T p = residual, f32[H W C], both 0 in the hole; by Woodbury's identity."""
        rows = jnp.where(known[None], self.rows, 0) * jnp.sqrt(self.share)[:, None]
        inner = self.rest * jnp.eye(len(rows)) + _dot(rows, rows.T)
        left = residual - _dot(rows.T, _solve(inner, _dot(rows, residual)))
        return left / self.rest


@method
class QuasiNewton:
    """The conditional mean with a covariance that is learnt on the way; no fresh noise.

    Attributes:
        clip_denoised: clip the predicted clean picture to [-1, 1].
        floor: the prior's variance in directions of which nothing is known yet, or nearly none.
        gradient_share: which share of the levels, from the noisiest, asks for a product.
        memory: pairs that are kept, two a step: the memory of twice as many pictures.
    """

    clip_denoised: bool = static(default=True)
    floor: float = 0.01
    gradient_share: float = 0.8
    memory: int = static(default=24)

    def __post_init__(self) -> None:
        check_gradient_share(self)

    def tabulate(self, noise: NoiseSchedule, resampling: ResampleSchedule) -> Step:
        """The numbers of each step."""
        follows = np.append(0, np.diff(resampling.t) == -1)
        ahead = _adams_bashforth(noise, resampling.t, follows)
        far = np.append(False, np.abs(np.diff(noise.log_snr[resampling.t])) >= APART)
        return Step(Level.of(noise, resampling), ahead, far, early_steps(self, resampling))

    def init(self, key: jax.Array, observation: Observation, at: Step) -> Progress:
        """Pure noise."""
        x, x0 = State.noise(key, observation, at.level)
        nothing, none = jnp.zeros((2, *x.shape)), jnp.zeros((min(self.memory, 2 * x.size), x.size))
        return Progress(x, x0, nothing, nothing, Pairs(none, none))

    def step(
        self, model: Denoiser, state: Progress, observation: Observation, at: Step, key: jax.Array
    ) -> Progress:
        """The conditional mean, and from there to the next level."""
        level = at.level
        x0, predicted, pairs = self.conditional_mean(model, state, observation, at)
        x0 = clipped(observation.put_down(x0), self.clip_denoised)
        last = jnp.concatenate([x0[None], state.before])
        ahead = jnp.tensordot(at.ahead, last, 1, precision="highest")
        x = level.toward(ahead, level.noise_in(state.x, ahead), jnp.zeros(()))
        z_jump = jax.random.normal(key, x.shape)
        return Progress(level.renoise(x, z_jump), x0, last[:-1], predicted, pairs)

    def conditional_mean(
        self, model: Denoiser, state: Progress, observation: Observation, at: Step
    ) -> tuple[jax.Array, jax.Array, Pairs]:
        """E[x_0 | x_t, y] f32[H, W, C]; the prediction, and the pairs with what this told."""
        level, shape = at.level, state.x.shape
        snr = (level.signal / level.sigma) ** 2
        known = jnp.broadcast_to(observation.known, shape).ravel()

        def left(x0: jax.Array) -> jax.Array:
            return jnp.where(known, observation.image.ravel() - x0, 0)

        def changed(d: jax.Array, eps: jax.Array) -> tuple[jax.Array, Pairs]:
            predicted = jnp.stack([level.signal / level.sigma * eps, d])
            learnt = state.pairs.learn(*(predicted - state.predicted))
            kept = (jnp.where(at.tells, *each) for each in zip(learnt, state.pairs, strict=True))
            return predicted, Pairs(*kept)

        def along_a_product() -> tuple[jax.Array, jax.Array, Pairs]:
            d, eps, pull = level.predict_and_pull(model, state.x)
            predicted, pairs = changed(d, eps)
            residual = left(d.ravel())
            along = Covariance.of(pairs, snr, self.floor).solve(residual, known)
            along = along * jax.lax.rsqrt(jnp.maximum(_dot(along, along), 1e-30))
            moved = level.sigma**2 / level.signal * pull(along.reshape(shape)).ravel()
            bend = _dot(along, moved)
            length = jnp.where(bend > 0, _dot(along, residual) / jnp.where(bend > 0, bend, 1), 0)
            pairs = pairs.learn(along - snr * moved, moved)
            return d.ravel() + length * moved, predicted, pairs

        def without() -> tuple[jax.Array, jax.Array, Pairs]:
            d, eps = level.predict(model, state.x)
            return d.ravel(), *changed(d, eps)

        x0, predicted, pairs = jax.lax.cond(at.early, along_a_product, without)
        covariance = Covariance.of(pairs, snr, self.floor)
        x0 = x0 + covariance.times(covariance.solve(left(x0), known))
        return x0.reshape(shape), predicted, pairs

    def cost(self, resampling: ResampleSchedule) -> np.ndarray:
        """A gradient a step, then a call."""
        return np.where(early_steps(self, resampling), GRADIENT_COST, 1.0)


def _adams_bashforth(noise: NoiseSchedule, t: np.ndarray, follows: np.ndarray) -> np.ndarray:
    """f32[N, 3]: the last x_0's shares in the mean of their parabola over e^l, l from t to t - 1.

    Fewer of them at the beginning, after a jump, and at the end, where l goes to infinity.
    """
    log_snr = noise.log_snr
    points, weights = np.polynomial.legendre.leggauss(20)
    shares, count = np.zeros((t.size, ORDER), np.float32), 0
    for i, now in enumerate(t):
        count = min(count + 1, ORDER) if follows[i] else 1
        if now == 0:
            shares[i, 0] = 1
            continue
        begin, end = log_snr[now], log_snr[now - 1]
        at = (begin + end) / 2 + (end - begin) / 2 * points
        mass = weights * np.exp(at - end)
        nodes = log_snr[now : now + count]
        for j in range(count):
            others = np.delete(nodes, j)
            lagrange = np.prod((at[:, None] - others) / (nodes[j] - others), axis=1)
            shares[i, j] = (mass * lagrange).sum() / mass.sum()
    return shares


# Picture by picture. LAPACK's calls for a batch wait, each in a thread of XLA's pool, for threads
# of that pool: as many of them at once as there are threads, two on two cores, wait for ever.
@sequential_vmap
def _eigh(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    return tuple(jnp.linalg.eigh(a))


@sequential_vmap
def _solve(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.linalg.solve(a, b)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, precision="highest")
