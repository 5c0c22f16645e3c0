"""Networks in Flax NNX. They know nothing of diffusion."""

from repaint_jax.models.classifier import EncoderUNet
from repaint_jax.models.unet import UNet

__all__ = ["EncoderUNet", "UNet"]
