"""Churches of 256x256 pixels: the DDPM of LSUN (Ho et al. 2020), from the hub.

    python scripts/inpaint.py --config=configs/ddpm_church256.py --config.image=churches/

The model is fetched once from https://huggingface.co/google/ddpm-ema-church-256
(114 M weights, as for CelebA-HQ: 455 MB in float32) into the hub's cache, which needs
pip install 'repaint-jax[hub]'. Without that, or without a network, download config.json,
scheduler_config.json and diffusion_pytorch_model.safetensors (or .bin) from there into a folder
and add --config.model.path=FOLDER.

2410 network calls of 0.497 TFLOP make 1.2 PFLOP a picture. Computed from that, not measured:
24 seconds at 50 TFLOP/s, as a data centre's GPU may reach; 6.7 hours at 50 GFLOP/s, as two CPU
cores do.
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

    # The network: a name of the hub, or a folder with the same files.
    config.model = ConfigDict()
    config.model.path = "google/ddpm-ema-church-256"
    config.model.source = config_dict.placeholder(str)
    config.model.image_size = config_dict.placeholder(object)  # a side, or height,width
    config.model.dtype = "float32"  # or bfloat16, for GPUs and TPUs
    config.model.num_heads = config_dict.placeholder(int)  # these three are for .pt files
    config.model.num_head_channels = 64
    config.model.use_new_attention_order = False
    config.model.class_label = config_dict.placeholder(int)
    config.model.classifier_path = config_dict.placeholder(str)
    config.model.classifier_source = config_dict.placeholder(str)
    config.model.guidance_scale = 1.0

    # The noise schedule of the training, which the model brings, and the steps of it that sampling
    # visits.
    config.noise = ConfigDict()
    config.noise.kind = config_dict.placeholder(str)
    config.noise.num_train_steps = config_dict.placeholder(int)
    config.noise.num_steps = "250"

    # The walk over these steps, the paper's.
    config.resampling = ConfigDict()
    config.resampling.jump_length = 10
    config.resampling.num_resamples = 10
    config.resampling.start_resampling = config_dict.placeholder(int)

    # The reverse step; None: as the model's scheduler says.
    config.sampler = ConfigDict()
    config.sampler.clip_denoised = config_dict.placeholder(bool)
    config.sampler.variance = config_dict.placeholder(str)  # fixed_small or fixed_large
    config.sampler.eta = 1.0  # 1: DDPM, 0: DDIM
    return config
