"""One small method of each kind that the seam must take."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repaint_jax.methods import Level, State, method, static


class Toy:
    """What these share."""

    clip_denoised = True

    def tabulate(self, noise, resampling):
        return Level.of(noise, resampling)

    def init(self, key, observation, at):
        return State.noise(key, observation, at)

    def cost(self, resampling):
        return np.full(resampling.num_model_calls, self.calls)

    def forward(self, state, x0, eps, at, key):
        z, z_jump = jax.random.normal(key, (2, *x0.shape))
        return State(at.renoise(at.toward(x0, eps, z, 0.5), z_jump), x0)


@method
class Scrambler(Toy):
    """Puts noise where the picture is known."""

    strength: float = 1.0
    calls = 1.0

    def step(self, model, state, observation, at, key):
        x0, eps = at.predict(model, state.x, clip=True)
        noise = self.strength * jax.random.normal(key, x0.shape)
        return self.forward(state, jnp.where(observation.known, noise, x0), eps, at, key)


@method
class Gradient(Toy):
    """Guided by a vector-Jacobian product through the network."""

    scale: float = 0.5
    calls = 3.0

    def step(self, model, state, observation, at, key):
        x0, pull_back, eps = jax.vjp(lambda x: at.predict(model, x), state.x, has_aux=True)
        residual = jnp.where(observation.known, observation.image - x0, 0)
        (guidance,) = pull_back(residual)
        return self.forward(state, jnp.clip(x0 + self.scale * guidance, -1, 1), eps, at, key)


@method
class Tangent(Toy):
    """Guided by a Jacobian-vector product."""

    scale: float = 0.5
    calls = 2.0

    def step(self, model, state, observation, at, key):
        residual = jnp.where(observation.known, observation.image - state.x0, 0)
        x0, along, eps = jax.jvp(
            lambda x: at.predict(model, x), (state.x,), (residual,), has_aux=True
        )
        return self.forward(
            state, jnp.clip(x0 + self.scale * at.signal * along, -1, 1), eps, at, key
        )


@method
class Langevin(Toy):
    """Several network calls a step, in an inner loop with keys of its own."""

    size: float = 0.01
    inner: int = static(default=3)
    calls = 4.0

    def step(self, model, state, observation, at, key):
        def correct(i, x):
            _, eps = at.predict(model, x)
            drift = jnp.where(observation.known, at.signal * observation.image - x, -eps)
            z = jax.random.normal(jax.random.fold_in(key, i), x.shape)
            return x + self.size * drift + jnp.sqrt(2 * self.size) * at.sigma * z

        x = jax.lax.fori_loop(0, self.inner, correct, state.x)
        x0, eps = at.predict(model, x, clip=True)
        return self.forward(state, x0, eps, at, key)


class Remembering(NamedTuple):
    x: jax.Array
    x0: jax.Array
    before: jax.Array


@method
class Multistep(Toy):
    """Extrapolates from the last two predictions."""

    order: float = 0.5
    calls = 1.0

    def init(self, key, observation, at):
        state = State.noise(key, observation, at)
        return Remembering(*state, jnp.zeros_like(state.x))

    def step(self, model, state, observation, at, key):
        x0, eps = at.predict(model, state.x, clip=True)
        ahead = jnp.clip(x0 + self.order * (x0 - state.before), -1, 1)
        return Remembering(*self.forward(state, ahead, eps, at, key), x0)


class Population(NamedTuple):
    x: jax.Array
    x0: jax.Array
    particles: jax.Array  # [P, H, W, C]
    log_weights: jax.Array  # [P]


@method
class Particles(Toy):
    """Several particles a picture, weighted by what they predict of the known part, resampled."""

    sharpness: float = 1.0
    count: int = static(default=4)
    calls = 4.0

    def init(self, key, observation, at):
        particles = jax.random.normal(key, (self.count, *observation.image.shape))
        zeros = jnp.zeros(observation.image.shape)
        return Population(particles[0], zeros, particles, jnp.zeros(self.count))

    def step(self, model, state, observation, at, key):
        key, pick = jax.random.split(key)
        x0, eps = jax.vmap(lambda x: at.predict(model, x, clip=True))(state.particles)
        error = jnp.where(observation.known[None], x0 - observation.image[None], 0)
        log_weights = state.log_weights - self.sharpness * (error**2).mean((1, 2, 3))
        chosen = jax.random.categorical(pick, log_weights, shape=(self.count,))
        moved = jax.vmap(lambda x0, eps, key: self.forward(state, x0, eps, at, key).x)(
            x0[chosen], eps[chosen], jax.random.split(key, self.count)
        )
        return Population(moved[0], x0[chosen[0]], moved, jnp.zeros(self.count))


TOYS = [Scrambler(), Gradient(), Tangent(), Langevin(), Multistep(), Particles()]
