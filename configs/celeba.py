"""Faces of 64x64 pixels, inpainted by the model in the box. Nothing to download.

    python scripts/inpaint.py --config=configs/celeba.py

Results: out/celeba/grid.png and the rest.
The hybrid method: 23 network calls with gradients while there is much noise, then 30 without; they
take as long as 99 without. The paper's method and schedule, 2410 calls:
--config.method=repaint:250/10/10
"""

from repaint_jax.config import ConfigDict, base


def get_config() -> ConfigDict:
    config = base()
    config.image = "astronaut"
    config.num_samples = 10
    config.batch_size = 10
    config.model.path = "celeba64"
    config.model.dtype = "auto"
    config.method = "hybrid"
    config.noise.num_steps = "30,8,8,7"
    config.resampling.num_resamples = 1
    return config
