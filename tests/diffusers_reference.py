"""Networks and schedulers of diffusers itself; importing this skips the tests without it."""

import numpy as np
import pytest
from torch_reference import torch

diffusers = pytest.importorskip("diffusers")


def random_unet(seed=0, **config):
    """A `UNet2DModel` none of whose weights is what it is in a fresh network."""
    unet = diffusers.UNet2DModel(**config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in unet.parameters():
        centre = 1 if (parameter == 1).all() else 0  # the scale of a norm
        parameter.normal_(centre, 0.08, generator=generator)
    return unet


def save_pipeline(folder, unet, **scheduler):
    unet.save_pretrained(folder / "unet")
    diffusers.DDPMScheduler(**scheduler).save_pretrained(folder / "scheduler")
    return folder


def predict(unet, x, t, y=None):
    """x f32[B, H, W, C], t int[B] -> f32[B, H, W, C]."""
    inputs = [None if array is None else torch.from_numpy(np.asarray(array)) for array in (x, t, y)]
    out = unet(inputs[0].permute(0, 3, 1, 2), inputs[1], inputs[2]).sample
    return out.permute(0, 2, 3, 1).numpy()
