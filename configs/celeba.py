"""Faces of 64x64 pixels, inpainted by the model in the box. Nothing to download.

    python scripts/inpaint.py --config=configs/celeba.py

Results: out/celeba/grid.png and the rest.
The paper's schedule: --config.noise.num_steps=250 --config.resampling.num_resamples=10
(2410 network calls instead of 280).
"""

from repaint_jax.config import ConfigDict, base


def get_config() -> ConfigDict:
    config = base()
    config.image = "astronaut"
    config.num_samples = 10
    config.batch_size = 10
    config.model.path = "celeba64"
    config.model.dtype = "auto"
    config.noise.num_steps = "100"
    config.resampling.num_resamples = 3
    return config
