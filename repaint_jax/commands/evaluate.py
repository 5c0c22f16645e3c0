"""Inpaints a folder of pictures under several masks by several methods, and writes a table.

repaint-jax evaluate --config=celeba --data=faces --masks=wide,narrow
repaint-jax evaluate --config=celeba --data=faces --methods=repaint:250/10/10,ddnm
repaint-jax evaluate --config=celeba --data=faces --schedules=100/10/1,100/10/10
repaint-jax evaluate --evaluate_only --workdir=out/celeba_evaluation

Killed at any moment, the same command goes on with the pictures that are not there yet. Results of
another program are scored along if they lie in WORKDIR/inpainted/NAME/MASK/PICTURE_SAMPLE.png.
"""

import re
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from repaint_jax.cli import FLAGS, WHICH_CONFIG, define_sampling_flags, joined_processes, launch
from repaint_jax.errors import ConfigError
from repaint_jax.evaluation.building import build_set
from repaint_jax.evaluation.outputs import run_scoring
from repaint_jax.evaluation.run import run_evaluation
from repaint_jax.runtime.workdirs import held

_DATA = flags.DEFINE_string(
    "data", None, "Pictures: a folder, a zip, an npz or a pattern such as 'faces/*.png'."
)
_MASKS = flags.DEFINE_list(
    "masks",
    None,
    "wide, narrow, super_resolution, alternating_lines, half, expand, box; files or folders of "
    "masks; or paper for the first six. By default config.mask.",
)
_METHODS = flags.DEFINE_string(
    "methods",
    None,
    "METHOD:T/j/r each: a method as in config.method, timesteps, jump length, resamplings; "
    "METHOD:T walks straight down. By default those of the config.",
)
_SCHEDULES = flags.DEFINE_list(
    "schedules", None, "T/j/r each, short for the config's method with them."
)
_NUM_PICTURES = flags.DEFINE_integer("num_pictures", None, "How many, from the first; or all.")
_EVALUATE_ONLY = flags.DEFINE_bool(
    "evaluate_only", False, "Score what lies in --workdir, whoever made it."
)
flags.DEFINE_alias("evaluate-only", "evaluate_only")
define_sampling_flags()


def evaluate(config: ConfigDict, workdir: Path) -> None:
    """Samples what is missing and scores, or only scores."""
    if _EVALUATE_ONLY.value:
        score(workdir)
        return
    chosen = build_set(
        config,
        data=_DATA.value,
        masks=_MASKS.value,
        # Commas inside of parentheses are between a method's own values, those before a digit
        # between sections of timesteps.
        methods=_METHODS.value and re.split(r",(?!\d)(?![^(]*\))", _METHODS.value),
        schedules=_SCHEDULES.value,
        num_pictures=_NUM_PICTURES.value,
    )
    with joined_processes(workdir) as processes:
        save_minutes = flags.FLAGS.save_minutes
        run_evaluation(config, chosen, workdir, processes=processes, save_minutes=save_minutes)


def score(workdir: Path) -> None:
    """What can be done without a configuration."""
    if not _EVALUATE_ONLY.value:
        raise ConfigError(WHICH_CONFIG)
    with held(workdir):
        run_scoring(workdir)


def main() -> None:
    """Runs the command."""
    launch(
        evaluate,
        without_config=score,
        flags_of={**FLAGS, "mask": "--masks"},
        place="out/{}_evaluation",
    )
