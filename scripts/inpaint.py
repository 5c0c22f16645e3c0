"""Inpaints pictures as a configuration says.

python scripts/inpaint.py --config=configs/celeba.py
python scripts/inpaint.py --config=configs/celeba.py --config.image=me.jpg --config.mask=box

Killed at any moment, the same command goes on where it was, to the same pictures.
"""

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from repaint_jax.cli import launch
from repaint_jax.experiment import run_inpainting

_SAVE_MINUTES = flags.DEFINE_float(
    "save_minutes", 5.0, "How often to save the state: how much time a kill may cost.", 0.0
)


def inpaint(config: ConfigDict, workdir: Path) -> None:
    """Inpaints."""
    run_inpainting(config, workdir, save_minutes=_SAVE_MINUTES.value)


if __name__ == "__main__":
    launch(inpaint)
