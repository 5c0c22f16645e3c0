"""Faces of 64x64 pixels, for one GPU or TPU: 12.3 M weights, 5 GFLOP a picture.

    python scripts/train.py --config=configs/train/celeba64.py --workdir=out/celeba64 \
        --config.data="celeba64_train_*.zip"

The data: zips or a folder of CelebA's official training split (aligned, centre crop 140, 64x64).
About 15 GFLOP a picture and step. Rehearse it with --config.batch_size=4 --config.num_steps=20
--config.log_every=5 --config.checkpoint_every=10 --config.sample_every=20.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()

    config.data = "celeba64_train_*.zip"
    config.data_notice = (
        "CelebA, official training split, 64x64; available for non-commercial research purposes "
        "only: use the weights likewise"
    )
    config.image_size = 64
    config.channels = 3
    config.in_memory = config_dict.placeholder(bool)
    config.num_validation = 8
    config.flip = True

    config.num_steps = 30_000
    config.batch_size = 384
    config.micro_batches = 1
    config.seed = 0
    config.ema = 0.9995

    config.log_every = 100
    config.checkpoint_every = 1000
    config.sample_every = 2000
    config.tensorboard = True

    config.model = ConfigDict()
    config.model.model_channels = 32
    config.model.channel_mult = (1, 2, 4, 8)
    config.model.num_res_blocks = 1
    config.model.attention_resolutions = (4, 8)
    config.model.num_head_channels = 32
    config.model.resblock_updown = True
    config.model.conv_resample = True
    config.model.dropout = 0.0
    config.model.learned_variance = True
    config.model.dtype = "bfloat16"

    config.noise = ConfigDict()
    config.noise.kind = "linear"
    config.noise.num_train_steps = 1000

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 5e-4
    config.optimizer.warmup_steps = 1000
    config.optimizer.decay_fraction = 1 / 3
    config.optimizer.weight_decay = 0.0
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.99
    config.optimizer.clip_norm = 1.0

    config.preview = ConfigDict()
    config.preview.num_samples = 16
    config.preview.num_steps = 50
    config.preview.num_resamples = 5
    return config
