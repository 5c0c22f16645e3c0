"""One update of the weights, and many of them in one call.

    g     = mean gradient of the loss over the batch
    theta = theta - lr(n) AdamW(clip(g))
    ema   = d ema + (1 - d) theta,    d = min(decay, (1 + n) / (10 + n))

Everything random in update n comes from the key folded with n, so that a run which is resumed at n
goes on exactly as it would have. Values depend on the whole batch and not on how it is spread over
devices or cut into micro-batches (up to rounding).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from repaint_jax.runtime.devices import mesh_for
from repaint_jax.schedules import NoiseSchedule
from repaint_jax.training.loss import Forward, Loss, noise_loss

__all__ = ["Metrics", "Optimizer", "Settings", "TrainState", "Trainer"]

Pytree = Any
Batch = tuple[jax.Array, jax.Array, jax.Array]  # x0, t, eps


@dataclass(frozen=True)
class Optimizer:
    """AdamW with clipped gradients, and its learning rate.

    Attributes:
        learning_rate: the highest.
        warmup_steps: it rises linearly over so many updates,
        decay_fraction: and falls linearly to 0 over this last share of them.
        weight_decay: AdamW's.
        b1: decay of the gradient's mean.
        b2: decay of the gradient's square.
        clip_norm: longer gradients are cut to this global norm.
    """

    learning_rate: float = 5e-4
    warmup_steps: int = 1000
    decay_fraction: float = 1 / 3
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.99
    clip_norm: float = 1.0

    def rate(self, n: jax.Array | int, num_steps: int) -> jax.Array:
        """The learning rate of update n = 0 .. num_steps - 1, float32[]."""
        n = jnp.asarray(n, jnp.float32)
        rise = (n + 1) / max(self.warmup_steps, 1)
        fall = (num_steps - n) / max(self.decay_fraction * num_steps, 1)
        return self.learning_rate * jnp.minimum(1.0, jnp.minimum(rise, fall))

    def transform(self, num_steps: int) -> optax.GradientTransformation:
        """The optimiser of a run of `num_steps` updates."""
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm),
            optax.adamw(
                partial(self.rate, num_steps=num_steps),
                b1=self.b1,
                b2=self.b2,
                weight_decay=self.weight_decay,
            ),
        )


@dataclass(frozen=True)
class Settings:
    """How a network is trained.

    Attributes:
        num_steps: updates in all.
        batch_size: pictures an update.
        micro_batches: in how many pieces a batch is computed, to save memory.
        seed: of the weights, the order of the pictures and the noise.
        flip: whether half of the pictures are mirrored.
        ema: decay of the weights' moving average.
        dropout: whether the network is called with random numbers to drop out by.
        optimizer: see `Optimizer`.
    """

    num_steps: int
    batch_size: int = 128
    micro_batches: int = 1
    seed: int = 0
    flip: bool = True
    ema: float = 0.9995
    dropout: bool = False
    optimizer: Optimizer = field(default_factory=Optimizer)


class TrainState(NamedTuple):
    """All that a run consists of at one moment."""

    step: jax.Array  # int32[], updates done
    key: jax.Array  # the run's random key, the same throughout
    params: Pytree
    ema: Pytree
    opt_state: Pytree


class Metrics(NamedTuple):
    """What is known of an update, float32[]; of n of them [n]."""

    loss: jax.Array
    mse: jax.Array
    grad_norm: jax.Array
    lr: jax.Array


class Trainer:
    """The compiled updates of one network, over all local devices."""

    def __init__(self, model: nnx.Module, noise: NoiseSchedule, settings: Settings):
        """Takes the network apart into structure and weights, once."""
        self.graph, self._params = nnx.split(model)
        self.settings = settings
        self.optimizer = settings.optimizer.transform(settings.num_steps)
        self.forward = jax.tree.map(jnp.asarray, Forward.table(noise))
        # Weights, average, and the optimiser's two moments.
        copied = [self._params] * 4
        self.mesh = mesh_for(settings.batch_size // settings.micro_batches, copied)
        self._run = jax.jit(self._updates, donate_argnums=0, static_argnames="length")

    def init(self) -> TrainState:
        """The state before the first update."""
        params = jax.tree.map(jnp.array, self._params)
        state = TrainState(
            step=jnp.int32(0),
            key=jax.random.key(self.settings.seed),
            params=params,
            ema=jax.tree.map(jnp.array, params),
            opt_state=self.optimizer.init(params),
        )
        return self.replicated(state)

    def replicated(self, tree: Pytree) -> Pytree:
        """Arrays of which every device has a copy."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def model(self, params: Pytree) -> nnx.Module:
        """The network with these weights."""
        return nnx.merge(self.graph, params)

    def run(
        self, state: TrainState, pictures: jax.Array, length: int
    ) -> tuple[TrainState, Metrics]:
        """Makes `length` updates in one call; `state` is given up.

        Args:
            state: where to start.
            pictures: [N, H, W, C], all there are, from which batches are drawn on the device; or
                [length, B, H, W, C], the batches themselves. uint8, or float32 in [-1, 1].
            length: number of updates.

        Returns:
            The state after them and the metrics of each, [length].
        """
        return self._run(state, self.forward, pictures, length=length)

    def _updates(
        self, state: TrainState, forward: Forward, pictures: jax.Array, *, length: int
    ) -> tuple[TrainState, Metrics]:
        def one(state: TrainState, batch: jax.Array | None) -> tuple[TrainState, Metrics]:
            key = jax.random.fold_in(state.key, state.step)
            if batch is None:
                key, for_index = jax.random.split(key)
                drawn = jax.random.randint(for_index, (self.settings.batch_size,), 0, len(pictures))
                batch = pictures[drawn]
            return self._update(state, forward, batch, key)

        batches = pictures if pictures.ndim == 5 else None
        if length == 1:  # no loop, as XLA on the CPU has no fast gradients of convolutions in one
            state, row = one(state, None if batches is None else batches[0])
            return state, jax.tree.map(lambda number: number[None], row)
        return jax.lax.scan(one, state, batches, length)

    def _update(
        self, state: TrainState, forward: Forward, batch: jax.Array, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """One update, from the pictures [B, H, W, C]."""
        settings, n = self.settings, state.step
        for_flip, for_t, for_eps, for_dropout = jax.random.split(key, 4)
        x0 = batch.astype(jnp.float32) / 127.5 - 1 if batch.dtype == jnp.uint8 else batch
        if settings.flip:
            mirrored = jax.random.bernoulli(for_flip, 0.5, (len(x0), 1, 1, 1))
            x0 = jnp.where(mirrored, x0[:, :, ::-1], x0)
        t = jax.random.randint(for_t, (len(x0),), 0, len(forward.signal))
        eps = jax.random.normal(for_eps, x0.shape)
        loss, grads = self._gradient(state.params, forward, (x0, t, eps), for_dropout)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = moving_average(state.ema, params, n, settings.ema)
        metrics = Metrics(
            loss.total,
            loss.mse,
            optax.tree.norm(grads),
            settings.optimizer.rate(n, settings.num_steps),
        )
        return TrainState(n + 1, state.key, params, ema, opt_state), metrics

    def _gradient(
        self, params: Pytree, forward: Forward, batch: Batch, key: jax.Array
    ) -> tuple[Loss, Pytree]:
        """The mean loss and its gradient, over the micro-batches in turn."""

        def gradient(micro: Batch, key: jax.Array) -> tuple[Loss, Pytree]:
            def loss_of(params: Pytree) -> tuple[jax.Array, Loss]:
                model: Any = self.model(params)
                if self.settings.dropout:
                    model = partial(model, rngs=nnx.Rngs(dropout=key))
                loss = noise_loss(model, *micro, forward)
                return loss.total, loss

            grads, loss = jax.grad(loss_of, has_aux=True)(params)
            return loss, grads

        count = self.settings.micro_batches
        if count == 1:
            return gradient(jax.tree.map(self._sharded, batch), key)
        micros = jax.tree.map(
            lambda x: self._sharded(x.reshape(count, -1, *x.shape[1:]), axis=1), batch
        )
        rows = (micros, jax.random.split(key, count))

        def add(sums: Pytree, row: Any) -> tuple[Pytree, None]:
            return jax.tree.map(jnp.add, sums, gradient(*row)), None

        sums = gradient(*jax.tree.map(lambda x: x[0], rows))
        rest = jax.tree.map(lambda x: x[1:], rows)
        # Unrolled on the CPU for the reason above; elsewhere a loop, as it is to save memory.
        sums, _ = jax.lax.scan(add, sums, rest, unroll=jax.default_backend() == "cpu")
        return jax.tree.map(lambda total: total / count, sums)

    def _sharded(self, x: jax.Array, axis: int = 0) -> jax.Array:
        """The array with its axis of pictures spread over the devices."""
        spec = PartitionSpec(*[None] * axis, "pictures")
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))


def moving_average(ema: Pytree, params: Pytree, n: jax.Array, decay: float) -> Pytree:
    """`d ema + (1 - d) params`, d = min(decay, (1 + n) / (10 + n)): at first it forgets faster."""
    d = jnp.minimum(decay, (1 + n) / (10 + n))
    return jax.tree.map(lambda old, new: d * old + (1 - d) * new, ema, params)
