"""Training-free inpainting with diffusion models, in JAX and Flax: RePaint and other methods."""

import importlib
from typing import TYPE_CHECKING, Any

from repaint_jax.adapters import (
    noise_from_denoiser,
    noise_from_unit_range,
    noise_from_v,
    noise_from_velocity,
    noise_from_x0,
)
from repaint_jax.denoisers import Denoiser
from repaint_jax.guidance import classifier_free, guided, with_label
from repaint_jax.methods import RePaint
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.sampler import Sampler
from repaint_jax.schedules import NoiseSchedule
from repaint_jax.trajectory import inpaint, inpaint_batch, trajectory

__version__ = "0.1.0"

if TYPE_CHECKING:
    from repaint_jax.loading import load_pipeline
    from repaint_jax.pipeline import Pipeline

__all__ = [
    "Denoiser",
    "NoiseSchedule",
    "Pipeline",
    "RePaint",
    "ResampleSchedule",
    "Sampler",
    "classifier_free",
    "guided",
    "inpaint",
    "inpaint_batch",
    "load_pipeline",
    "noise_from_denoiser",
    "noise_from_unit_range",
    "noise_from_v",
    "noise_from_velocity",
    "noise_from_x0",
    "trajectory",
    "with_label",
]

# Imported when they are asked for: they bring Flax, and `import repaint_jax` stays as light as JAX.
_LAZY = {"Pipeline": "repaint_jax.pipeline", "load_pipeline": "repaint_jax.loading"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
