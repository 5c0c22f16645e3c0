"""Networks in Flax NNX. They know nothing of diffusion."""

from repaint_jax.models.classifier import EncoderUNet
from repaint_jax.models.unet import UNet
from repaint_jax.models.unet2d import UNet2DModel

__all__ = ["EncoderUNet", "UNet", "UNet2DModel"]
