"""Any guided-diffusion checkpoint: OpenAI's, the RePaint authors', or your own.

    python scripts/inpaint.py --config=configs/guided_diffusion.py \
        --config.model.path=celeba256_250000.pt --config.image=faces/ --config.mask=masks/

The architecture is read from the file. It does not tell the heads of the attention, the side of the
training pictures and the noise schedule: the values below are those of the published unconditional
256x256 models. With the paper's schedule (2410 network calls of 2.24 TFLOP) one picture costs
5.4 PFLOP, which is a matter of minutes on a GPU and of a day on two CPU cores.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()

    # What to inpaint; see configs/celeba.py for all that can be said here.
    config.image = config_dict.placeholder(str)  # must be given
    config.mask = "half"
    config.invert_mask = False
    config.num_samples = 1
    config.batch_size = 1
    config.seed = 0

    # The network.
    config.model = ConfigDict()
    config.model.path = config_dict.placeholder(str)  # must be given
    config.model.source = config_dict.placeholder(str)
    config.model.image_size = config_dict.FieldReference(256, field_type=object)
    config.model.dtype = "float32"  # or bfloat16, for GPUs and TPUs
    config.model.num_heads = config_dict.placeholder(int)  # instead of num_head_channels
    config.model.num_head_channels = 64
    config.model.use_new_attention_order = False

    # For class-conditional models, and a classifier that steers; see configs/imagenet256.py.
    config.model.class_label = config_dict.placeholder(int)
    config.model.classifier_path = config_dict.placeholder(str)
    config.model.classifier_source = config_dict.placeholder(str)
    config.model.guidance_scale = 1.0

    # The noise schedule of the training, and the steps of it that sampling visits.
    config.noise = ConfigDict()
    config.noise.kind = "linear"
    config.noise.num_train_steps = 1000
    config.noise.num_steps = "250"

    # The walk over these steps.
    config.resampling = ConfigDict()
    config.resampling.jump_length = 10
    config.resampling.num_resamples = 10
    config.resampling.start_resampling = config_dict.placeholder(int)

    # The reverse step.
    config.sampler = ConfigDict()
    config.sampler.clip_denoised = True
    config.sampler.variance = "fixed_small"  # a model with learned variance brings its own
    config.sampler.eta = 1.0
    return config
