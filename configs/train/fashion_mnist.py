"""Clothes of 28x28 grey pixels: a model that two CPU cores train in under an hour.

    python scripts/train.py --config=configs/train/fashion_mnist.py \
        --config.data=fashion_mnist_28.npz --workdir=out/fashion_mnist

The data is an npz with uint8[60000, 28, 28] under x_train, as Fashion-MNIST comes (MIT licence,
https://github.com/zalandoresearch/fashion-mnist).
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.data = "fashion_mnist_28.npz"
    config.data_notice = "Fashion-MNIST, training split; Zalando SE, MIT licence"
    config.image_size = 28
    config.channels = 1
    config.in_memory = config_dict.placeholder(bool)
    config.num_validation = 8
    config.flip = False  # its shoes all point to the left

    config.num_steps = 3000
    config.batch_size = 32
    config.micro_batches = 1
    config.seed = 0
    config.ema = 0.999

    config.log_every = 20
    config.checkpoint_every = 200
    config.sample_every = 1000
    config.tensorboard = True

    config.model = ConfigDict()
    config.model.model_channels = 32
    config.model.channel_mult = (1, 2, 2)
    config.model.num_res_blocks = 1
    config.model.attention_resolutions = (4,)  # at 7x7
    config.model.num_head_channels = 32
    config.model.resblock_updown = False
    config.model.conv_resample = False
    config.model.dropout = 0.0
    config.model.learned_variance = True
    config.model.dtype = "float32"

    config.noise = ConfigDict()
    config.noise.kind = "cosine"
    config.noise.num_train_steps = 1000

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.decay_fraction = 0.4
    config.optimizer.weight_decay = 0.0
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.99
    config.optimizer.clip_norm = 1.0

    config.preview = ConfigDict()
    config.preview.num_samples = 16
    config.preview.num_steps = 50
    config.preview.num_resamples = 5
    return config
