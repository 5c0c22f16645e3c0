"""The network of denoising-diffusion-pytorch, lucidrains' package."""
