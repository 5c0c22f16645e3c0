"""A model of your own pictures.

    python scripts/train.py --config=configs/train/folder.py --workdir=out/mine \
        --config.data=my_pictures
    python scripts/inpaint.py --config=configs/celeba.py \
        --config.model.path=out/mine/ema.safetensors --config.image=my_test_picture.png

Killed at any moment, the first command goes on where it was. This is the 64x64 network of
configs/train/celeba64.py, for a GPU or TPU. On a CPU, begin with --config.image_size=32
--config.batch_size=32 and a few thousand steps.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()

    # The pictures: a folder (with its subfolders), a zip, an npz, or a pattern such as
    # "faces_*.zip". They are cropped centrally and resized to image_size x image_size.
    config.data = ""
    config.data_notice = ""  # kept with the weights: whose pictures, under which licence
    config.image_size = 64
    config.channels = 3  # 1 for grey
    config.in_memory = config_dict.placeholder(bool)  # by default if they fit
    config.num_validation = 8  # pictures held out, to be inpainted while training
    config.flip = True  # mirror half of the pictures

    config.num_steps = 100_000
    config.batch_size = 128  # over all devices
    config.micro_batches = 1  # raise it if the memory does not suffice
    config.seed = 0
    config.ema = 0.9995  # decay of the weights' moving average

    # In steps. Between two lines of the log nothing leaves the GPU.
    config.log_every = 100
    config.checkpoint_every = 2000
    config.sample_every = 5000
    config.tensorboard = True

    # The network, a U-Net. Every level but the last halves the picture.
    config.model = ConfigDict()
    config.model.model_channels = 32
    config.model.channel_mult = (1, 2, 4, 8)  # widths by level; multiples of 32 channels
    config.model.num_res_blocks = 1  # blocks a level
    config.model.attention_resolutions = (4, 8)  # levels with attention, by how much they shrink
    config.model.num_head_channels = 32
    config.model.resblock_updown = True  # halve and double in residual blocks, or
    config.model.conv_resample = True  # by a convolution, or else by pooling and repeating
    config.model.dropout = 0.0  # 0.1 if there are few pictures
    config.model.learned_variance = True  # better with few sampling steps
    config.model.dtype = "bfloat16"  # of the arithmetic; weights are float32

    # The noise schedule: linear, cosine, scaled_linear or sigmoid.
    config.noise = ConfigDict()
    config.noise.kind = "linear"
    config.noise.num_train_steps = 1000

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 5e-4
    config.optimizer.warmup_steps = 1000
    config.optimizer.decay_fraction = 1 / 3  # of all steps, over which it falls to 0
    config.optimizer.weight_decay = 0.0
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.99
    config.optimizer.clip_norm = 1.0

    # The grids in WORKDIR/previews.
    config.preview = ConfigDict()
    config.preview.num_samples = 16
    config.preview.num_steps = 50  # timesteps to visit
    config.preview.num_resamples = 5
    return config
