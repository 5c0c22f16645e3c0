"""Inpaints pictures as a configuration says.

repaint-jax inpaint --config=celeba
repaint-jax inpaint --config=celeba --config.image=me.jpg --config.mask=box

Killed at any moment, the same command goes on where it was, to the same pictures.
"""

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from repaint_jax.cli import define_sampling_flags, joined_processes, launch
from repaint_jax.inpainting.run import run_inpainting

define_sampling_flags()


def inpaint(config: ConfigDict, workdir: Path) -> None:
    """Inpaints this process's share."""
    with joined_processes(workdir) as processes:
        save_minutes = flags.FLAGS.save_minutes
        run_inpainting(config, workdir, processes=processes, save_minutes=save_minutes)


def main() -> None:
    """Runs the command."""
    launch(inpaint)
