"""Clothes of 28x28 grey pixels, inpainted by a model that this project trained. No download.

    python scripts/inpaint.py --config=configs/fashion_mnist.py

Ten pictures of Fashion-MNIST's test split (MIT licence), one of each class, four ways each, into
out/fashion_mnist/. Trained by configs/train/fashion_mnist.py; docs/train_your_own.md tells how.
"""

from pathlib import Path

from repaint_jax.config import ConfigDict, base


def get_config() -> ConfigDict:
    config = base()
    config.image = str(Path(__file__).parent / "pictures" / "fashion_mnist")
    config.num_samples = 4
    config.batch_size = 40
    config.model.path = "fashion_mnist"
    config.noise.num_steps = "50"
    config.resampling.num_resamples = 5
    return config
