"""Draws the resample schedule of a configuration, as Fig. 8 of the paper: schedule.png.

python scripts/plot_schedule.py --config=configs/celeba.py
"""

from repaint_jax.cli import launch
from repaint_jax.inpainting.run import run_schedule_plot

if __name__ == "__main__":
    launch(run_schedule_plot)
