"""Which devices share a batch.

XLA runs many convolutions of the CPU on one thread: all with fewer than 128 channels, as seen in
jaxlib 0.10. So the scripts make every core a device of its own (`one_device_a_core`), and a batch
is shared among cores as it is among GPUs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from repaint_jax.denoisers import Denoiser, split_model

_LARGEST_COPY = 1 << 29  # bytes: copies for cores that share one memory should not fill it


def one_device_a_core() -> None:
    """Makes JAX see each of the CPU's cores as a device; before its first use, or it is an error.

    Does nothing where the user has decided (`JAX_NUM_CPU_DEVICES`, or the flag in `XLA_FLAGS`), and
    where there is an accelerator it changes nothing, for that is what JAX takes by default.
    """
    flag = "xla_force_host_platform_device_count"
    if "JAX_NUM_CPU_DEVICES" not in os.environ and flag not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", num_cores())


def keep_roundings() -> None:
    """Makes XLA round to bfloat16 wherever the network says so; before its first use.

    It leaves a rounding out where it can, which depends on how many pictures there are; so would
    what becomes of each. Does nothing where the user has decided (the flag in `XLA_FLAGS`).
    """
    flag, given = "xla_allow_excess_precision", os.environ.get("XLA_FLAGS", "")
    if flag not in given:
        os.environ["XLA_FLAGS"] = f"{given} --{flag}=false".strip()


def platform_fault() -> str | None:
    """Why JAX does not start on the devices it was told to use, in one line; None if it does."""
    try:
        jax.devices()
        return None
    except (AssertionError, RuntimeError):  # JAX's own words are not for users
        asked = os.environ.get("JAX_PLATFORMS")
    jax.config.update("jax_platforms", None)
    there = jax.default_backend()
    return (
        f"JAX_PLATFORMS={asked}: JAX finds no such device here, only {there}; set "
        f"JAX_PLATFORMS={there} or unset it, or install JAX for your device: README.md, "
        "Installing elsewhere"
    )


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def mesh_for(batch_size: int, copied: Any) -> Mesh:
    """As many of this process's devices as can share a batch evenly, on the axis "pictures".

    Args:
        batch_size: pictures.
        copied: arrays of which every device gets a copy, such as weights. If they are large, cores
            of a CPU do not share the batch: large networks keep them busy within a convolution.
    """
    devices = jax.local_devices()
    size = sum(array.nbytes for array in jax.tree.leaves(copied))
    if devices[0].platform == "cpu" and size > _LARGEST_COPY:
        devices = devices[:1]
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    return Mesh(np.array(devices[:count]), ("pictures",))


@dataclass(frozen=True)
class Sharing:
    """A model on all devices that share a batch, and how the batch is spread over them."""

    model: Denoiser
    mesh: Mesh

    @classmethod
    def of(cls, model: Denoiser, batch_size: int) -> Sharing:
        """Sends the weights once, and not with each call."""
        arrays, code = split_model(model)
        mesh = mesh_for(batch_size, arrays)
        return cls(code.rebuild(jax.device_put(arrays, NamedSharding(mesh, PartitionSpec()))), mesh)

    def spread(self, batch: Any) -> jax.Array:
        """A batch, [N, ...], each device with its part."""
        return jax.device_put(batch, NamedSharding(self.mesh, PartitionSpec("pictures")))


def fewer_at_once(size: int, mesh: Mesh) -> int:
    """How many pictures to try after `size` of them did not fit into memory; 0 if there is no way.

    Half as many a device; where each has but one, only cores of a CPU, which share one memory, can
    do with fewer at a time.
    """
    count = mesh.size
    if size > count:
        return count * max(1, size // count // 2)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return size // 2 if on_cpu else 0
