"""Networks in Flax NNX. They know nothing of diffusion."""

from repaint_jax.models.adm.classifier import EncoderUNet
from repaint_jax.models.adm.unet import UNet
from repaint_jax.models.diffusers.unet import UNet2DModel
from repaint_jax.models.lucidrains.unet import LucidrainsUnet

__all__ = ["EncoderUNet", "LucidrainsUnet", "UNet", "UNet2DModel"]
