"""What a method is: how a noisy picture moves one step along a walk, given what is known of it.

A method is a frozen pytree (`@method` makes one of a class): its numbers are traced, so that other
ones compile nothing anew; fields made by `static` are part of the program. It has

    tabulate(noise, resampling)                 the numbers of every step, on the host, in float64
    init(key, observation, at)                  the state in which the walk begins
    step(model, state, observation, at, key)    the state after one step, for one picture
    cost(resampling)                            what each step costs, in call equivalents
    clip_denoised                               whether predictions are clipped to [-1, 1]

The trajectory scans over `step` and knows nothing else of a method. It owns the keys, and at the
end puts the known pixels down, whatever the method did with them.

`Level` has the numbers that most methods need, and the moves that most are made of: `predict` or
`predict_and_pull`, `toward` and `renoise`; methods that need no more numbers, and begin in noise,
have `tabulate = tabulate_levels` and `init = begin_in_noise`. The letters of a step from level t
down to t - 1 are

    x_t = a x_0 + s eps,    a = sqrt(ac_t),  s = sqrt(1 - ac_t);    a', s' those of t - 1.

Where the walk goes up again, a step ends with the noise that leads from t - 1 to its next level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol, Self, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey

from repaint_jax.denoisers import Denoiser, clipped, split_output
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.schedules import MOST_LEFT, NoiseSchedule

__all__ = ["Level", "Method", "Observation", "State", "method", "static"]

# What a derivative of the network costs in forward calls: a call with a vector-Jacobian product of
# it, and each further product with the Jacobian there.
GRADIENT_COST = 3.0
PRODUCT_COST = 2.0

# The methods that never differentiate the network, by name.
GRADIENT_FREE = ("repaint", "ddnm", "ding", "implicit", "daps", "lanpaint", "mcgdiff")

Class = TypeVar("Class", bound=type)


class Observation(NamedTuple):
    """What is known of one picture.

    Attributes:
        image: f32[H, W, C] in [-1, 1]; what lies in the hole does not matter.
        known: bool[H, W, 1], True where the picture is kept.
    """

    image: jax.Array
    known: jax.Array

    def put_down(self, x: jax.Array) -> jax.Array:
        """A picture with the known pixels as they are, f32[H, W, C]."""
        return jnp.where(self.known, self.image, x)


class State(NamedTuple):
    """What the scan carries from step to step, for one picture.

    A method that carries more has a NamedTuple of its own whose first two fields are these.

    Attributes:
        x: f32[H, W, C], the noisy picture; the result after the last step.
        x0: f32[H, W, C], the clean picture that the last step predicted, to look at.
    """

    x: jax.Array
    x0: jax.Array

    @classmethod
    def noise(cls, key: jax.Array, observation: Observation, level: Level) -> State:
        """x_T ~ N(0, I), and nothing predicted yet.

        Where the noise schedule ends far from pure noise, the known pixels are those of its last
        level, the first step's: a x_0 + s z.
        """
        z = jax.random.normal(key, observation.image.shape)
        known = observation.known & (level.signal**2 > MOST_LEFT)
        x = jnp.where(known, level.signal * observation.image + level.sigma * z, z)
        return cls(x, jnp.zeros_like(x))


class Method(Protocol):
    """A sampler of pictures given their known pixels; `repaint_jax.methods` lists those here."""

    @property
    def clip_denoised(self) -> bool:
        """Whether predicted clean pictures are clipped to [-1, 1], as data of pictures lie."""
        ...

    def tabulate(self, noise: NoiseSchedule, resampling: ResampleSchedule) -> Any:
        """The numbers of the N steps of a walk: a pytree of arrays [N, ...], cast once."""
        ...

    def init(self, key: jax.Array, observation: Observation, at: Any) -> Any:
        """The state before the first step, of which `at` are the numbers: a row of `tabulate`."""
        ...

    def step(
        self, model: Denoiser, state: Any, observation: Observation, at: Any, key: jax.Array
    ) -> Any:
        """The state after a step, of which `at` are the numbers: a row of `tabulate`."""
        ...

    def cost(self, resampling: ResampleSchedule) -> np.ndarray:
        """float[N], network calls of each step; what a gradient adds counts as calls, too."""
        ...


def static(*, default: Any) -> Any:
    """A field that is part of the compiled program, such as a choice or a count."""
    return field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(static, field))
def method(cls: Class) -> Class:
    """Makes a frozen dataclass and a pytree of a class."""
    frozen: Any = dataclass(frozen=True)(cls)
    kinds = [each.name for each in fields(frozen) if each.metadata.get("static")]
    numbers = [each.name for each in fields(frozen) if not each.metadata.get("static")]

    def flatten(self: Any) -> tuple[Any, Any]:
        children = [(GetAttrKey(name), getattr(self, name)) for name in numbers]
        # With the class, which JAX 0.10's own `register_dataclass` does not compare: it takes two
        # classes with as many fields for one structure, and may run the program of the other.
        return children, (frozen, *(getattr(self, name) for name in kinds))

    def unflatten(structure: Any, children: Any) -> Any:
        made = object.__new__(frozen)
        for name, value in zip([*kinds, *numbers], [*structure[1:], *children], strict=True):
            object.__setattr__(made, name, value)
        return made

    jax.tree_util.register_pytree_with_keys(frozen, flatten, unflatten)
    return frozen


class Level(NamedTuple):
    """The numbers of one step from level t, or of N steps as arrays [N]."""

    time: Any  # int32, what the network is told of t
    signal: Any  # a
    sigma: Any  # s
    next_signal: Any  # a'
    next_sigma: Any  # s'
    jump_signal: Any  # sqrt of the share of x_{t-1} that the jump leaves: 1 without one
    jump_sigma: Any  # of the noise that it adds: 0 without one

    @classmethod
    def of(cls, noise: NoiseSchedule, resampling: ResampleSchedule) -> Self:
        """All steps of a walk, computed in float64 and cast once."""
        return cls.between(noise, resampling.t, resampling.t - 1, resampling.t_next)

    @classmethod
    def between(
        cls, noise: NoiseSchedule, t: np.ndarray, after: np.ndarray, jump: np.ndarray | None = None
    ) -> Self:
        """Steps from the levels t to any others, int[...] each, and up to `jump` if given."""
        ac, ac_after = noise.alpha_cumprod_at(t), noise.alpha_cumprod_at(after)
        left = noise.alpha_cumprod_at(after if jump is None else jump) / ac_after
        numbers = (ac, 1 - ac, ac_after, 1 - ac_after, left, 1 - left)
        return cls(
            noise.timesteps[t].astype(np.int32),
            *(np.sqrt(number).astype(np.float32) for number in numbers),
        )

    def predict(
        self, model: Denoiser, x: jax.Array, *, clip: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """x_0 and the noise in x as the model has it, f32[H, W, C] each; one network call."""
        eps, _ = split_output(model(x[None], jnp.asarray(self.time)[None]), x[None])
        x0 = (x - self.sigma * eps[0]) / self.signal
        return clipped(x0, clip), eps[0]

    def predict_and_pull(
        self, model: Denoiser, x: jax.Array
    ) -> tuple[jax.Array, jax.Array, Callable[[jax.Array], jax.Array]]:
        """`predict`, and v -> J^T v, J the derivative of x_0 with respect to x.

        The network is not rematerialised: its residuals live from here to the product, and doing
        it twice saves nothing at the peak.

        Raises:
            ValueError: the model cannot be differentiated.
        """
        try:
            x0, pull, eps = jax.vjp(lambda x: self.predict(model, x), x, has_aux=True)
        except (NotImplementedError, TypeError, ValueError) as error:
            jax.eval_shape(lambda x: self.predict(model, x), x)  # a fault of any other kind
            raise ValueError(
                "this method differentiates the model, which JAX cannot do here (a callback?): "
                f"take one that needs no gradient, {', '.join(GRADIENT_FREE)}"
            ) from error
        return x0, eps, lambda v: pull(v)[0]

    def noise_in(self, x: jax.Array, x0: jax.Array) -> jax.Array:
        """The noise in x if x_0 is the clean picture, (x - a x_0) / s."""
        return (x - self.signal * x0) / self.sigma

    def churned(self, churn: jax.Array | float) -> jax.Array:
        """A share of fresh noise for `toward`, (1 - a')^churn: much early, almost none late."""
        return (self.next_sigma**2 / (1 + self.next_signal)) ** jnp.asarray(churn, jnp.float32)

    def ancestral(self, eta: jax.Array | float) -> jax.Array:
        """The share of fresh noise of DDIM's eta (Song et al. 2021, Eq. 16); 1 is DDPM's."""
        lost = (self.sigma**2 - self.next_sigma**2) / self.next_signal**2  # 1 - (a / a')^2
        return jnp.asarray(eta, jnp.float32) * jnp.sqrt(lost) / self.sigma

    def fresh(self, churn: jax.Array | float, eta: jax.Array | float | None) -> jax.Array:
        """The share of fresh noise that a churn gives, or in its place an eta that is not None."""
        return self.churned(churn) if eta is None else self.ancestral(eta)

    def toward(
        self, x0: jax.Array, eps: jax.Array, z: jax.Array, eta: jax.Array | float = 0.0
    ) -> jax.Array:
        """x_{t-1} = a' x_0 + s' (sqrt(1 - eta^2) eps + eta z): eta^2 of the noise is fresh."""
        eta = jnp.asarray(eta, x0.dtype)
        return self.next_signal * x0 + self.next_sigma * (jnp.sqrt(1 - eta**2) * eps + eta * z)

    def renoise(self, x: jax.Array, z: jax.Array) -> jax.Array:
        """From x_{t-1} up to the level where the walk goes on."""
        return self.jump_signal * x + self.jump_sigma * z


def check_gradient_share(method: Any) -> None:
    """Raises ValueError where a method's `gradient_share` is no share."""
    if not 0 <= method.gradient_share <= 1:
        raise ValueError(f"gradient_share: 0 to 1, not {method.gradient_share}")


def early_steps(method: Any, resampling: ResampleSchedule) -> np.ndarray:
    """bool[N], the steps on the `gradient_share` of the levels, from the noisiest."""
    return resampling.t >= (1 - method.gradient_share) * resampling.num_steps


def tabulate_levels(method: Any, noise: NoiseSchedule, resampling: ResampleSchedule) -> Level:
    """`tabulate` of a method whose numbers are its levels'."""
    return Level.of(noise, resampling)


def begin_in_noise(method: Any, key: jax.Array, observation: Observation, at: Level) -> State:
    """`init` of such a method that begins in pure noise."""
    return State.noise(key, observation, at)
