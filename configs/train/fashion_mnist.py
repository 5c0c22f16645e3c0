"""Clothes of 28x28 grey pixels: a model that two CPU cores train in under an hour.

    python scripts/train.py --config=configs/train/fashion_mnist.py \
        --config.data=fashion_mnist_28.npz --workdir=out/fashion_mnist

The data is an npz with uint8[60000, 28, 28] under x_train, as Fashion-MNIST comes (MIT licence,
https://github.com/zalandoresearch/fashion-mnist).
"""

from repaint_jax.config import ConfigDict, training


def get_config() -> ConfigDict:
    config = training()
    config.batch_size = 32
    config.channels = 1
    config.checkpoint_every = 200
    config.data = "fashion_mnist_28.npz"
    config.data_notice = "Fashion-MNIST, training split; Zalando SE, MIT licence"
    config.ema = 0.999
    config.flip = False
    config.image_size = 28
    config.log_every = 20
    config.model.attention_resolutions = (4,)
    config.model.channel_mult = (1, 2, 2)
    config.model.conv_resample = False
    config.model.dtype = "float32"
    config.model.resblock_updown = False
    config.noise.kind = "cosine"
    config.num_steps = 3000
    config.optimizer.decay_fraction = 0.4
    config.optimizer.learning_rate = 0.001
    config.optimizer.warmup_steps = 100
    config.sample_every = 1000
    return config
