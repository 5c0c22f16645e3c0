"""The paper's Places2 scenes, 256x256, with the paper's schedule.

    python scripts/inpaint.py --config=configs/places256.py \
        --config.image=PICTURES --config.mask=wide

The paper's masks are wide, narrow, super_resolution, alternating_lines, half and expand.

Download models/places256_300000.pt (2.2 GB), which the RePaint authors trained and their
repository, https://github.com/andreas128/RePaint, links:
    https://drive.google.com/uc?id=1QEl-btGbzQz6IwkXiFGd49uQNTUtTHsk
or, with `pip install gdown`, from the folder models:
    gdown 1QEl-btGbzQz6IwkXiFGd49uQNTUtTHsk

One picture costs 2410 calls of 2.24 TFLOP, 5.4 PFLOP: computed, not measured, 27 s on an H200 at
a sustained 200 TFLOP/s (a fifth of its bfloat16 peak; --config.model.dtype=bfloat16) and 15 hours
on two CPU cores at 0.1 TFLOP/s.
"""

from repaint_jax.config import ConfigDict, base


def get_config() -> ConfigDict:
    config = base()
    config.mask = "wide"
    config.model.path = "models/places256_300000.pt"
    config.model.image_size = 256
    config.model.source = "places256_300000.pt (2.2 GB) from https://drive.google.com/uc?id=1QEl-btGbzQz6IwkXiFGd49uQNTUtTHsk"
    config.noise.kind = "linear"
    config.noise.num_train_steps = 1000
    return config
