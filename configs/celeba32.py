"""Faces of 32x32 pixels, inpainted by the model in the box. Nothing to download.

    python scripts/inpaint.py --config=configs/celeba32.py

Results: out/celeba32/grid.png and the rest.
The paper's schedule: --config.noise.num_steps=250 --config.resampling.num_resamples=10
(2410 network calls instead of 280).
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()

    # What to inpaint: a file, a folder, a pattern such as "faces/*.png", or "astronaut".
    config.image = "astronaut"
    # half, expand, alternating_lines, super_resolution, wide, narrow, box; or a file or a folder of
    # masks, white = keep, black = fill.
    config.mask = "half"
    config.invert_mask = False  # True if white marks the hole
    config.num_samples = 10  # ways to fill each picture
    config.batch_size = 10  # pictures sampled at once
    config.seed = 0

    # The network: the name of a model in the box, a .safetensors of this project, or a
    # guided-diffusion .pt, for which the next fields say what its tensors do not tell.
    config.model = ConfigDict()
    config.model.path = "celeba32"
    config.model.source = config_dict.placeholder(str)  # where to get that file
    config.model.image_size = config_dict.placeholder(object)  # a side, or height,width
    config.model.dtype = "float32"  # or bfloat16, for GPUs and TPUs
    config.model.num_heads = config_dict.placeholder(int)
    config.model.num_head_channels = 64
    config.model.use_new_attention_order = False

    # The class to draw, for class-conditional models, and a classifier of noisy pictures that
    # steers to it by `guidance_scale`; a classifier may steer a model without classes, too.
    config.model.class_label = config_dict.placeholder(int)
    config.model.classifier_path = config_dict.placeholder(str)
    config.model.classifier_source = config_dict.placeholder(str)
    config.model.guidance_scale = 1.0

    # The noise schedule of the training, by default the one saved with the model (linear, cosine,
    # scaled_linear or sigmoid), and the steps of it that sampling visits: how many, "10,20,30" by
    # sections, or "ddim25".
    config.noise = ConfigDict()
    config.noise.kind = config_dict.placeholder(str)
    config.noise.num_train_steps = config_dict.placeholder(int)
    config.noise.num_steps = "100"

    # The walk over these steps (paper, Sec. 4.2): j, r, and from where on to jump.
    config.resampling = ConfigDict()
    config.resampling.jump_length = 10
    config.resampling.num_resamples = 3
    config.resampling.start_resampling = config_dict.placeholder(int)

    # The reverse step.
    config.sampler = ConfigDict()
    config.sampler.clip_denoised = config_dict.placeholder(bool)  # by default True, or as the
    config.sampler.variance = config_dict.placeholder(str)  # model says; fixed_small, fixed_large
    config.sampler.eta = 1.0  # 1: DDPM, 0: DDIM
    return config
