"""What this project puts into the rounds: the sampler, with and without progress; the network."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from repaint_jax import NoiseSchedule, ResampleSchedule, inpaint_batch
from repaint_jax.pictures.masks import half
from repaint_jax.pipeline import Pipeline
from repaint_jax.runtime.batches import Task
from repaint_jax.runtime.devices import mesh_for
from repaint_jax.runtime.progress import Part, sampled_with_bar

from .networks import predict, random_model, shapes_of
from .rounds import Contestant


@dataclass(frozen=True)
class Workload:
    """What a round is: one trajectory for a batch, or as many calls of the bare network.

    Attributes:
        network: "adm", "ddpm" or "faces".
        config: its arguments.
        size: side of the pictures, which have three colours.
        batch: pictures at once.
        dtype: in which the network computes, by name.
        schedule: T, j and r.
    """

    network: str
    config: Mapping[str, Any]
    size: int
    batch: int
    dtype: str
    schedule: tuple[int, int, int]

    @property
    def resampling(self) -> ResampleSchedule:
        """The walk."""
        return ResampleSchedule.create(*self.schedule)

    @property
    def calls(self) -> int:
        """Network calls a round."""
        return self.resampling.num_model_calls


def probe(work: Workload) -> tuple[np.ndarray, int]:
    """What networks are compared by: f32[N, H, W, 3] and a timestep."""
    shape = (work.batch, work.size, work.size, 3)
    return np.random.default_rng(1).standard_normal(shape, np.float32), 321


class Ours:
    """The network on the devices that share a batch as the sampler shares it."""

    def __init__(self, work: Workload):
        """Knows shapes only, and compiles the bare network."""
        self.work = work
        self.graph, self.shapes = shapes_of(work.config, work.dtype)
        # mesh_for asks for sizes; these arrays have them and take no memory.
        sized = jax.tree.map(lambda p: np.broadcast_to(np.zeros((), p.dtype), p.shape), self.shapes)
        self.mesh = mesh_for(work.batch, sized)
        self.all, self.parted = (
            NamedSharding(self.mesh, PartitionSpec(*axes)) for axes in ((), ("pictures",))
        )
        x = jax.ShapeDtypeStruct(
            (work.batch, work.size, work.size, 3), jnp.float32, sharding=self.parted
        )
        t = jax.ShapeDtypeStruct((), jnp.int32, sharding=self.all)
        state = jax.tree.map(
            lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=self.all), self.shapes
        )
        call = jax.jit(lambda state, x, t: predict(self.graph, state, x, t))
        started = time.perf_counter()
        self.network = call.lower(state, x, t).compile()
        self.compile_seconds = time.perf_counter() - started

    @property
    def memory(self) -> int:
        """Bytes that a call takes on all devices together, by the compiler's plan; 0 if untold."""
        if (plan := self.network.memory_analysis()) is None:  # not every backend tells
            return 0
        size = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
        return self.mesh.size * size

    def contestants(self, model: nnx.Module, folder: Path) -> dict[str, Contestant]:
        """The rounds of `model`, whose weights are sent to the devices once.

        Snapshots go to `folder`.
        """
        work = self.work
        state = jax.device_put(nnx.state(model), self.all)
        model = nnx.merge(self.graph, state)
        rng = np.random.default_rng(0)
        pictures = rng.integers(0, 256, (work.batch, work.size, work.size, 3), np.uint8)
        known = jnp.asarray(half((work.size, work.size)))
        images = jax.device_put(pictures / np.float32(127.5) - 1, self.parted)
        t = jax.device_put(jnp.int32(500), self.all)
        keys = jax.device_put(jax.random.split(jax.random.key(0), work.batch), self.parted)
        jobs = [
            (Task(str(i), picture, np.asarray(known), i), 0) for i, picture in enumerate(pictures)
        ]
        pipeline = Pipeline(model, NoiseSchedule.linear(1000), (work.size, work.size))
        steps, jump_length, num_resamples = work.schedule
        how = pipeline.sampler(
            num_steps=steps, jump_length=jump_length, num_resamples=num_resamples
        )
        batches = pipeline.batches(work.batch, 0, snapshots=folder)

        def sampler() -> None:
            inpaint_batch(keys, model, images, known, **how.arguments).block_until_ready()

        def progress() -> None:
            parts, calls = [Part(jobs, how, film=True)], how.total_calls
            for _ in sampled_with_bar(batches, parts, calls, file=io.StringIO()):
                pass

        def forward() -> None:
            x = images
            for _ in range(work.calls):
                x = self.network(state, x, t)  # fed on, so that calls wait for each other
            x.block_until_ready()

        return {"sampler": sampler, "progress": progress, "forward": forward}

    def prediction(self, model: nnx.Module) -> np.ndarray:
        """The bare network's output for a batch of noise, f32[N, H, W, C]."""
        x, t = probe(self.work)
        state = jax.device_put(nnx.state(model), self.all)
        put = jax.device_put(x, self.parted), jax.device_put(jnp.int32(t), self.all)
        return np.asarray(self.network(state, *put), np.float32)

    def random_model(self) -> nnx.Module:
        """The network with random weights, the same each time."""
        return random_model(self.graph, self.shapes)
