"""Training-free inpainting with diffusion models, in JAX and Flax: RePaint and other methods."""

from repaint_jax.denoisers import Denoiser, noise_from_v, noise_from_x0
from repaint_jax.guidance import classifier_free, guided, with_label
from repaint_jax.methods import RePaint
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.schedules import NoiseSchedule
from repaint_jax.trajectory import inpaint, inpaint_batch, trajectory

__all__ = [
    "Denoiser",
    "NoiseSchedule",
    "RePaint",
    "ResampleSchedule",
    "classifier_free",
    "guided",
    "inpaint",
    "inpaint_batch",
    "noise_from_v",
    "noise_from_x0",
    "trajectory",
    "with_label",
]
