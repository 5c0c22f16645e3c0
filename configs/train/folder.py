"""A model of your own pictures.

    python scripts/train.py --config=configs/train/folder.py --workdir=out/mine \
        --config.data=my_pictures
    python scripts/inpaint.py --config=configs/celeba.py \
        --config.model.path=out/mine/ema.safetensors --config.image=my_test_picture.png

Killed at any moment, the first command goes on where it was. This is the 64x64 network of
configs/train/celeba64.py, for a GPU or TPU. On a CPU, begin with --config.image_size=32
--config.batch_size=32 and a few thousand steps.
"""

from repaint_jax.config import ConfigDict, training


def get_config() -> ConfigDict:
    config = training()
    return config
