"""Draws the resample schedule of a configuration, as Fig. 8 of the paper: schedule.png.

repaint-jax plot-schedule --config=celeba
"""

from pathlib import Path

from ml_collections import ConfigDict

from repaint_jax.cli import launch
from repaint_jax.inpainting.run import run_schedule_plot


def plot_schedule(config: ConfigDict, workdir: Path) -> None:
    """Draws it."""
    run_schedule_plot(config, workdir)


def main() -> None:
    """Runs the command."""
    launch(plot_schedule)
