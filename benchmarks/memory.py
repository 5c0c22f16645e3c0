"""What memory each method takes beside its network: temporary arrays of the compiled programs.

python -m benchmarks.memory
python -m benchmarks.memory --model=celeba --batches=1 --methods="repaint,mmps(iterations=3)"

Told by XLA of the program as a whole (`memory_analysis`), at its peak, without the weights and the
pictures that go in and come out; nothing is run. `forward` is one network call on a batch, a method
its whole walk.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from repaint_jax import ResampleSchedule, inpaint_batch, load_pipeline
from repaint_jax.denoisers import Denoiser
from repaint_jax.inpainting.naming import named_method
from repaint_jax.methods import METHODS, Method
from repaint_jax.schedules import NoiseSchedule

_MODEL = flags.DEFINE_string("model", "celeba64", "What config.model.path takes.")
_BATCHES = flags.DEFINE_list("batches", ["1", "4"], "Pictures at once.")
_METHODS = flags.DEFINE_string("methods", ",".join(METHODS), "As config.method names them.")
_STEPS = flags.DEFINE_integer("steps", 8, "Steps of the walk.")


def main(argv: list[str]) -> None:
    """Prints the table."""
    del argv
    pipeline, batches = load_pipeline(_MODEL.value), [int(size) for size in _BATCHES.value]
    noise = pipeline.noise.respace(_STEPS.value)
    print("| MiB | " + " | ".join(f"batch {size}" for size in batches) + " |")
    print("| --- " * (1 + len(batches)) + "|")
    shape = (*pipeline.shape, pipeline.channels)
    _tell("forward", [of_forward(pipeline.model, (size, *shape)) for size in batches])
    for name in re.split(r",(?![^()]*\))", _METHODS.value):
        method = named_method(name)
        of_batches = [of_method(method, pipeline.model, (size, *shape), noise) for size in batches]
        _tell(name, of_batches)


def of_forward(model: Denoiser, shape: tuple[int, ...]) -> int:
    """Bytes of temporary arrays of a network call on pictures [B, H, W, C]."""
    x, t = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape[:1], jnp.int32)
    return _temporary(lambda model, x, t: model(x, t), model, x, t)


def of_method(method: Method, model: Denoiser, shape: tuple[int, ...], noise: NoiseSchedule) -> int:
    """Bytes of temporary arrays of a walk over all levels with pictures [B, H, W, C]."""

    def walk(model: Denoiser, keys: jax.Array, images: jax.Array, known: jax.Array) -> jax.Array:
        resampling = ResampleSchedule.create(noise.num_steps, 1, 1)
        return inpaint_batch(
            keys, model, images, known, noise=noise, resampling=resampling, method=method
        )

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), shape[0]))
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    return _temporary(walk, model, keys, images, jax.ShapeDtypeStruct(shape[:3], jnp.bool))


def _temporary(function: Callable[..., Any], *arguments: Any) -> int:
    analysis = jax.jit(function).lower(*arguments).compile().memory_analysis()
    if analysis is None:
        sys.exit(f"XLA tells nothing of memory on {jax.default_backend()}")
    return int(analysis.temp_size_in_bytes)


def _tell(name: str, sizes: list[int]) -> None:
    print(f"| {name} | " + " | ".join(f"{size / 2**20:.1f}" for size in sizes) + " |", flush=True)


if __name__ == "__main__":
    app.run(main)
