"""Faces of 32x32 pixels, inpainted by the model in the box. Nothing to download.

    python scripts/inpaint.py --config=configs/celeba32.py

Results: out/celeba32/grid.png and the rest.
The paper's schedule: --config.method=repaint:250/10/10 (2410 network calls instead of 280).
"""

from repaint_jax.config import ConfigDict, base


def get_config() -> ConfigDict:
    config = base()
    config.image = "astronaut"
    config.num_samples = 10
    config.batch_size = 10
    config.model.path = "celeba32"
    config.noise.num_steps = "100"
    config.resampling.num_resamples = 3
    return config
