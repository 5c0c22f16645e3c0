"""Small networks and states for the tests of the training."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from repaint_jax import NoiseSchedule
from repaint_jax.models.layers import Conv, Linear
from repaint_jax.training.step import Optimizer, Settings, Trainer

NOISE = NoiseSchedule.linear(1000)


class Perceptron(nnx.Module):
    """Noise in pictures of D pixels, one value each, by three layers."""

    def __init__(self, pixels: int, width: int, rngs: nnx.Rngs):
        self.first = Linear(pixels + 8, width, rngs=rngs)
        self.second = Linear(width, width, rngs=rngs)
        self.last = Linear(width, pixels, zero=True, rngs=rngs)

    def __call__(self, x, t):
        phase = t[:, None] / 1000 * np.pi * 2.0 ** np.arange(-1, 3)[None]
        told = jnp.concatenate([x.reshape(len(x), -1), jnp.sin(phase), jnp.cos(phase)], -1)
        return self.last(jax.nn.silu(self.second(jax.nn.silu(self.first(told))))).reshape(x.shape)


class TwoConvolutions(nnx.Module):
    """Noise and variance of grey pictures; compiles in a second, which a U-Net does not."""

    def __init__(self, dropout: float = 0.0):
        rngs = nnx.Rngs(0)
        self.told = Linear(1, 8, rngs=rngs)
        self.first = Conv(1, 8, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        self.second = Conv(8, 2, rngs=rngs)

    def __call__(self, x, t, rngs=None):
        h = self.first(x) + self.told(t[:, None] / 1000)[:, None, None]
        return self.second(self.dropout(jax.nn.silu(h), deterministic=rngs is None, rngs=rngs))


def tiny_pictures(count=20):
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), np.uint8)


def tiny_trainer(model=None, **settings):
    defaults = {"num_steps": 100, "batch_size": 4, "optimizer": Optimizer(warmup_steps=2)}
    return Trainer(model or TwoConvolutions(), NOISE, Settings(**(defaults | settings)))


def run_losses(trainer, steps=3):
    """Losses of the first steps, one call each, and the state after them."""
    pictures = trainer.replicated(tiny_pictures())
    state, losses = trainer.init(), []
    for _ in range(steps):
        state, metrics = trainer.run(state, pictures, 1)
        losses.append(float(metrics.loss[0]))
    return losses, jax.device_get(state.params)
