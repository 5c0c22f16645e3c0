"""Bedrooms of 256x256 pixels: the DDPM of LSUN (Ho et al. 2020), from the hub.

    python scripts/inpaint.py --config=configs/ddpm_bedroom256.py --config.image=bedrooms/

The model is fetched once from https://huggingface.co/google/ddpm-ema-bedroom-256
(the smaller of the paper's two: 114 M weights, 455 MB in float32) into the hub's cache, which needs
pip install 'repaint-jax[hub]'. Without that, or without a network, download config.json,
scheduler_config.json and diffusion_pytorch_model.safetensors (or .bin) from there into a folder
and add --config.model.path=FOLDER.

2410 network calls of 0.497 TFLOP make 1.2 PFLOP a picture. Computed from that, not measured:
24 seconds at 50 TFLOP/s, as a data centre's GPU may reach; 6.7 hours at 50 GFLOP/s, as two CPU
cores do.
"""

from repaint_jax.config import ConfigDict, base


def get_config() -> ConfigDict:
    config = base()
    config.model.path = "google/ddpm-ema-bedroom-256"
    return config
