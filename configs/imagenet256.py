"""The paper's ImageNet pictures, of a class, 256x256, with the paper's schedule.

    python scripts/inpaint.py --config=configs/imagenet256.py \
        --config.image=PICTURES --config.mask=wide --config.model.class_label=207

The paper's masks are wide, narrow, super_resolution, alternating_lines, half and expand.

Download into models/, both trained by OpenAI, https://github.com/openai/guided-diffusion:
    https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_diffusion.pt (2.2 GB)
    https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_classifier.pt (0.2 GB)
The network draws the class you name, here 207, golden retrievers, in the usual order of ImageNet's
1000 classes, and the classifier steers to it. The RePaint authors drew labels at random;
--config.model.classifier_path= leaves the classifier out.

One picture costs 2410 calls of 2.24 TFLOP and as many gradients of 0.29, 6.1 PFLOP: computed, not
measured, 30 s on an H200 at a sustained 200 TFLOP/s (a fifth of its bfloat16 peak;
--config.model.dtype=bfloat16) and 17 hours on two CPU cores at 0.1 TFLOP/s.
"""

from repaint_jax.config import ConfigDict, base


def get_config() -> ConfigDict:
    config = base()
    config.mask = "wide"
    config.model.path = "models/256x256_diffusion.pt"
    config.model.source = "256x256_diffusion.pt (2.2 GB) from https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_diffusion.pt"
    config.model.image_size = 256
    config.model.classifier_path = "models/256x256_classifier.pt"
    config.model.classifier_source = "256x256_classifier.pt (0.2 GB) from https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_classifier.pt"
    config.noise.kind = "linear"
    config.noise.num_train_steps = 1000
    return config
