"""Faces of 64x64 pixels, for one GPU or TPU: 12.3 M weights, 5 GFLOP a picture.

    python scripts/train.py --config=configs/train/celeba64.py --workdir=out/celeba64 \
        --config.data="celeba64_train_*.zip"

The data: zips or a folder of CelebA's official training split (aligned, centre crop 140, 64x64).
About 15 GFLOP a picture and step. Rehearse it with --config.batch_size=4 --config.num_steps=20
--config.log_every=5 --config.checkpoint_every=10 --config.sample_every=20.
"""

from repaint_jax.config import ConfigDict, training


def get_config() -> ConfigDict:
    config = training()
    config.batch_size = 384
    config.checkpoint_every = 1000
    config.data = "celeba64_train_*.zip"
    config.data_notice = (
        "CelebA, official training split, 64x64; available for non-commercial research purposes "
        "only: use the weights likewise"
    )
    config.num_steps = 30000
    config.sample_every = 2000
    return config
