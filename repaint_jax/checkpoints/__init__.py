"""Files to models and back."""

from repaint_jax.checkpoints.checkpoint import Checkpoint
from repaint_jax.checkpoints.diffusers import load_diffusers
from repaint_jax.checkpoints.formats import read_checkpoint
from repaint_jax.checkpoints.guided_diffusion import (
    load_guided_diffusion,
    load_guided_diffusion_classifier,
)
from repaint_jax.checkpoints.lucidrains import load_lucidrains, load_lucidrains_unet
from repaint_jax.checkpoints.native import load, load_about, save
from repaint_jax.checkpoints.parameters import CheckpointError
from repaint_jax.checkpoints.tensor_files import extract

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "extract",
    "load",
    "load_about",
    "load_diffusers",
    "load_guided_diffusion",
    "load_guided_diffusion_classifier",
    "load_lucidrains",
    "load_lucidrains_unet",
    "read_checkpoint",
    "save",
]
