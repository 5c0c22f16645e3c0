"""Networks of denoising-diffusion-pytorch itself; importing this skips the tests without it."""

from importlib.util import find_spec

import numpy as np
import pytest
from torch_reference import torch

if find_spec("denoising_diffusion_pytorch") is None:
    pytest.skip("could not import denoising_diffusion_pytorch", allow_module_level=True)
import denoising_diffusion_pytorch as lucidrains
from denoising_diffusion_pytorch import classifier_free_guidance  # noqa: F401


def random_unet(seed=0, **config):
    """A `Unet` none of whose weights is what it is in a fresh network."""
    unet = lucidrains.Unet(**config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in unet.named_parameters():
        if name.endswith("mem_kv") or name == "time_mlp.0.weights":
            parameter.normal_(0, 1, generator=generator)
        elif name.endswith(".g"):
            parameter.normal_(1, 0.2, generator=generator)
        else:
            parameter.normal_(0, 0.08, generator=generator)
    return unet


def predict(unet, x, t):
    """x f32[B, H, W, C], t int[B] -> f32[B, H, W, C]."""
    inputs = torch.from_numpy(np.asarray(x)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return unet(inputs, torch.from_numpy(np.asarray(t))).permute(0, 2, 3, 1).numpy()
