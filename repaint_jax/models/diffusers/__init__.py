"""diffusers' `UNet2DModel`."""
