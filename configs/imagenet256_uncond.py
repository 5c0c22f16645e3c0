"""ImageNet pictures without a class, 256x256, with the paper's schedule.

    python scripts/inpaint.py --config=configs/imagenet256_uncond.py \
        --config.image=PICTURES --config.mask=wide

The paper's masks are wide, narrow, super_resolution, alternating_lines, half and expand.

Download into models/ (2.2 GB), trained by OpenAI, https://github.com/openai/guided-diffusion:
    https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_diffusion_uncond.pt
To steer it to a class, here golden retrievers, add
    https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_classifier.pt (0.2 GB)
    --config.model.classifier_path=models/256x256_classifier.pt --config.model.class_label=207
The scale 10 is the one that OpenAI gives for this pair.

One picture costs 2410 calls of 2.24 TFLOP, 5.4 PFLOP: computed, not measured, 27 s on an H200 at
a sustained 200 TFLOP/s (a fifth of its bfloat16 peak; --config.model.dtype=bfloat16) and 15 hours
on two CPU cores at 0.1 TFLOP/s.
"""

from repaint_jax.config import ConfigDict, base


def get_config() -> ConfigDict:
    config = base()
    config.mask = "wide"
    config.model.path = "models/256x256_diffusion_uncond.pt"
    config.model.classifier_source = "256x256_classifier.pt (0.2 GB) from https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_classifier.pt"
    config.model.guidance_scale = 10.0
    config.model.image_size = 256
    config.model.source = "256x256_diffusion_uncond.pt (2.2 GB) from https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_diffusion_uncond.pt"
    config.noise.kind = "linear"
    config.noise.num_train_steps = 1000
    return config
