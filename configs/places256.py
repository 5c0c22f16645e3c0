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

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()

    # What to inpaint; see configs/celeba.py for all that can be said here.
    config.image = config_dict.placeholder(str)  # must be given
    config.mask = "wide"
    config.invert_mask = False
    config.num_samples = 1
    config.batch_size = 1
    config.seed = 0

    # The network.
    config.model = ConfigDict()
    config.model.path = "models/places256_300000.pt"
    config.model.source = (
        "places256_300000.pt (2.2 GB) from "
        "https://drive.google.com/uc?id=1QEl-btGbzQz6IwkXiFGd49uQNTUtTHsk"
    )
    config.model.image_size = config_dict.FieldReference(256, field_type=object)
    config.model.dtype = "float32"  # or bfloat16, for GPUs and TPUs
    config.model.num_heads = config_dict.placeholder(int)
    config.model.num_head_channels = 64
    config.model.use_new_attention_order = False

    # For class-conditional models only.
    config.model.class_label = config_dict.placeholder(int)
    config.model.classifier_path = config_dict.placeholder(str)
    config.model.classifier_source = config_dict.placeholder(str)
    config.model.guidance_scale = 1.0

    # The noise schedule of the training, and the 250 steps of it that sampling visits.
    config.noise = ConfigDict()
    config.noise.kind = "linear"
    config.noise.num_train_steps = 1000
    config.noise.num_steps = "250"

    # The walk over these steps: T = 250, j = 10, r = 10, which is 2410 network calls.
    config.resampling = ConfigDict()
    config.resampling.jump_length = 10
    config.resampling.num_resamples = 10
    config.resampling.start_resampling = config_dict.placeholder(int)

    # The reverse step.
    config.sampler = ConfigDict()
    config.sampler.clip_denoised = True
    config.sampler.variance = "fixed_small"  # not used: this model brings its own
    config.sampler.eta = 1.0
    return config
