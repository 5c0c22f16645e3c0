"""Trains a diffusion model on your pictures as a configuration says; run again, it goes on.

repaint-jax train --config=train/folder --config.data=my_pictures
repaint-jax train --config=train/fashion_mnist --config.data=fashion_mnist.npz
"""

from pathlib import Path

from ml_collections import ConfigDict

from repaint_jax.cli import launch
from repaint_jax.config import TRAINING
from repaint_jax.runtime.workdirs import held
from repaint_jax.training.run import run_training


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains in a folder that nobody else writes to."""
    with held(workdir):
        run_training(config, workdir)


def main() -> None:
    """Runs the command."""
    launch(train, fields=TRAINING)
