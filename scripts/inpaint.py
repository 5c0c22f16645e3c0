"""Inpaints pictures as a configuration says.

python scripts/inpaint.py --config=configs/celeba.py
python scripts/inpaint.py --config=configs/celeba.py --config.image=me.jpg --config.mask=box
"""

from repaint_jax.cli import launch
from repaint_jax.experiment import run_inpainting

if __name__ == "__main__":
    launch(run_inpainting)
