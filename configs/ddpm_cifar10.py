"""Pictures of 32x32 pixels: the DDPM of CIFAR-10 (Ho et al. 2020), from the hub.

    python scripts/inpaint.py --config=configs/ddpm_cifar10.py --config.image=pictures/

The model is fetched once from https://huggingface.co/google/ddpm-cifar10-32
(35.7 M weights in float32, 143 MB) into the hub's cache, which needs
pip install 'repaint-jax[hub]'. Without that, or without a network, download config.json,
scheduler_config.json and diffusion_pytorch_model.safetensors (or .bin) from there into a folder
and add --config.model.path=FOLDER.

2410 network calls of 12.4 GFLOP make 30 TFLOP a picture. Computed from that, not measured: 10
minutes at 50 GFLOP/s, as two CPU cores do; 6 seconds at 5 TFLOP/s, as a GPU may reach with pictures
this small.
"""

from repaint_jax.config import ConfigDict, base


def get_config() -> ConfigDict:
    config = base()
    config.model.path = "google/ddpm-cifar10-32"
    return config
