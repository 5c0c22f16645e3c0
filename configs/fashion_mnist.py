"""Clothes of 28x28 grey pixels, inpainted by a model that this project trained. No download.

    python scripts/inpaint.py --config=configs/fashion_mnist.py

Ten pictures of Fashion-MNIST's test split (MIT licence), one of each class, four ways each, into
out/fashion_mnist/. Trained by configs/train/fashion_mnist.py; docs/train_your_own.md tells how.
"""

from pathlib import Path

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()

    # What to inpaint; see configs/celeba.py for all that can be said here.
    config.image = str(Path(__file__).parent / "pictures" / "fashion_mnist")
    config.mask = "half"
    config.invert_mask = False
    config.num_samples = 4
    config.batch_size = 40
    config.seed = 0

    # The network; it brings its picture size and noise schedule.
    config.model = ConfigDict()
    config.model.path = "fashion_mnist"
    config.model.source = config_dict.placeholder(str)
    config.model.image_size = config_dict.placeholder(object)
    config.model.dtype = "float32"
    config.model.num_heads = config_dict.placeholder(int)
    config.model.num_head_channels = 64
    config.model.use_new_attention_order = False
    config.model.class_label = config_dict.placeholder(int)
    config.model.classifier_path = config_dict.placeholder(str)
    config.model.classifier_source = config_dict.placeholder(str)
    config.model.guidance_scale = 1.0
    config.noise = ConfigDict()
    config.noise.kind = config_dict.placeholder(str)
    config.noise.num_train_steps = config_dict.placeholder(int)

    # The steps that sampling visits, and the walk over them: 210 network calls.
    config.noise.num_steps = "50"
    config.resampling = ConfigDict()
    config.resampling.jump_length = 10
    config.resampling.num_resamples = 5
    config.resampling.start_resampling = config_dict.placeholder(int)

    # The reverse step.
    config.sampler = ConfigDict()
    config.sampler.clip_denoised = True
    config.sampler.variance = "fixed_small"  # the model brings its own
    config.sampler.eta = 1.0
    return config
