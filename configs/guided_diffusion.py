"""Any guided-diffusion checkpoint: OpenAI's, the RePaint authors', or your own.

    python scripts/inpaint.py --config=configs/guided_diffusion.py \
        --config.model.path=celeba256_250000.pt --config.image=faces/ --config.mask=masks/

The architecture is read from the file. It does not tell the heads of the attention, the side of the
training pictures and the noise schedule: the values below are those of the published unconditional
256x256 models. With the paper's schedule (2410 network calls of 2.24 TFLOP) one picture costs
5.4 PFLOP, which is a matter of minutes on a GPU and of a day on two CPU cores.
"""

from repaint_jax.config import ConfigDict, base


def get_config() -> ConfigDict:
    config = base()
    config.model.image_size = 256
    config.noise.kind = "linear"
    config.noise.num_train_steps = 1000
    return config
