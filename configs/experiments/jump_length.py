"""Jump length j against the number of resamplings r (paper, Sec. 5.5 and its ablation).

    python scripts/evaluate.py --config=configs/experiments/jump_length.py --data=faces \
        --num_pictures=50

The paper has T = 250 with j = 1, 5, 10 and r = 5, 10, 15; this is T = 50 with r = 2, 5, 10, for the
model in the box. Another model: --config.model.path, --config.noise.kind.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()

    # What to inpaint with scripts/inpaint.py; scripts/evaluate.py has --data.
    config.image = ""
    # half, expand, alternating_lines, super_resolution, wide, narrow, box; or a file or a folder of
    # masks, white = keep, black = fill.
    config.mask = "wide"
    config.invert_mask = False  # True if white marks the hole
    config.num_samples = 1  # ways to fill each picture
    config.batch_size = 20  # pictures sampled at once
    config.seed = 0

    # What scripts/evaluate.py does, unless its flags say otherwise.
    config.evaluation = ConfigDict()
    config.evaluation.masks = ("wide",)
    config.evaluation.schedules = tuple(f"50/{j}/{r}" for r in (2, 5, 10) for j in (1, 5, 10))

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
    config.noise.num_steps = "50"

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
