"""Trains a diffusion model on your pictures as a configuration says; run again, it goes on.

python scripts/train.py --config=configs/train/folder.py --config.data=my_pictures
python scripts/train.py --config=configs/train/fashion_mnist.py --config.data=fashion_mnist.npz
"""

from repaint_jax.cli import launch
from repaint_jax.training.run import run_training

if __name__ == "__main__":
    launch(run_training)
