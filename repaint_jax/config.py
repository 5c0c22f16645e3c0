"""Configurations: which fields there are, what they hold and mean, and what is built of them.

A file in configs/ begins with `base()` or `training()` and sets what differs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ml_collections import ConfigDict, config_dict

from repaint_jax.errors import ArgumentError, ConfigError
from repaint_jax.schedules import SCHEDULES

__all__ = ["ConfigDict", "base", "training"]


class Field(NamedTuple):
    """A field of a configuration: its default, type, meaning, and what it may hold."""

    default: Any
    kind: Any
    meaning: str
    least: float | None = None
    most: float | None = None


Fields = dict[str, Any]  # of `Field`, or of such a dict for a section

_KINDS = tuple(SCHEDULES)

SAMPLING: Fields = {
    "image": Field(
        None,
        str | None,
        'what to inpaint: a file, a folder, a pattern such as "faces/*.png", or "astronaut"',
    ),
    "mask": Field(
        "half",
        str,
        "half, expand, alternating_lines, super_resolution, wide, narrow, box, whole; or a file or "
        "a folder of masks, white = keep, black = fill",
    ),
    "invert_mask": Field(False, bool, "whether white marks the hole"),
    "keep_partial": Field(
        False, bool, "whether a pixel of the model's size is kept if any of it is, not only if all"
    ),
    "window": Field(
        None,
        str | None,
        "hole, a window round each hole of the picture at its own size; whole, all of it in one; "
        "centre, the picture cropped to the model's aspect ratio and at its size; by default hole "
        "under mask files, centre under generated masks",
    ),
    "margin": Field(
        0.5, float, "of a window round a hole, on each side, in units of the hole's longer side", 0
    ),
    "enlargement": Field(
        2.0,
        float,
        "how many times a window may be larger than the model's pictures: to keep to it, long thin "
        "holes are cut",
        1,
    ),
    "num_samples": Field(1, int, "ways to fill each picture", 1, 100_000),
    "batch_size": Field(1, int, "pictures sampled at once", 1),
    "seed": Field(0, int, "of all random numbers", 0, 2**32 - 1),
    "method": Field(
        "repaint",
        str,
        "how each step is made: a name such as repaint, with values for its fields as "
        '"repaint(eta=0.5)"; or one of your own, FILE.py:CLASS. With :T/j/r or :T after it, as '
        "repaint:250/10/10 or mmps:33, it says noise.num_steps and resampling as well",
    ),
    "model": {
        "path": Field(
            None,
            str | None,
            "a model in the box; a .safetensors or .pt file; a folder of diffusers, or its name "
            "on the Hugging Face hub",
        ),
        "source": Field(None, str | None, "where to get that file"),
        "image_size": Field(None, object, "a side, or height,width; by default the training's"),
        "dtype": Field(
            "float32",
            str,
            "of the arithmetic: float32; bfloat16; or auto, bfloat16 on CPUs that are faster in it",
        ),
        "num_heads": Field(None, int | None, "of a guided-diffusion .pt, which does not tell"),
        "num_head_channels": Field(64, int, "likewise, unless num_heads is given", 1),
        "use_new_attention_order": Field(False, bool, "likewise: True for OpenAI's 64x64 model"),
        "prediction": Field(
            None, str | None, "what it predicts, noise, x0 or v; by default as its file tells"
        ),
        "unit_range": Field(False, bool, "whether it was trained on pictures in [0, 1]"),
        "sinusoidal_pos_emb_theta": Field(
            10_000.0, float, "of a .pt of denoising-diffusion-pytorch, which does not tell", 1
        ),
        "class_label": Field(None, int | None, "the class to draw"),
        "classifier_path": Field(
            None, str | None, "a classifier of noisy pictures that steers to the class"
        ),
        "classifier_source": Field(None, str | None, "where to get that file"),
        "guidance_scale": Field(1.0, float, "how much it steers"),
    },
    "noise": {
        "kind": Field(
            None,
            str | None,
            f"the training's: {', '.join(_KINDS)}; by default as saved with the model",
        ),
        "num_train_steps": Field(None, int | None, "the training's, likewise"),
        "num_steps": Field(
            "250",
            str | int,
            'how many steps to visit, "10,20,30" by sections of the time, the least noise first, '
            '"ddim25" or "logsnr20"',
        ),
    },
    "resampling": {
        "jump_length": Field(10, int, "j, how many steps a resampling jumps (paper, Sec. 4.2)"),
        "num_resamples": Field(10, int, "r, how often each stretch is walked down"),
        "start_resampling": Field(None, int | None, "from which step on to jump"),
    },
    "evaluation": {
        "data": Field("", str, "scripts/evaluate.py: its pictures, where no flag says otherwise"),
        "masks": Field((), tuple, "its masks; none is config.mask"),
        "methods": Field((), tuple, "its methods; none is config.method"),
        "num_pictures": Field(None, int | None, "how many, from the first; or all"),
    },
}

TRAINING: Fields = {
    "data": Field(
        "",
        str,
        "the pictures: a folder (with its subfolders), a zip, an npz, or a pattern such as "
        '"faces_*.zip"; cropped centrally and resized to image_size x image_size',
    ),
    "data_notice": Field("", str, "kept with the weights: whose pictures, under which licence"),
    "image_size": Field(64, int, "side of the pictures", 1),
    "channels": Field(3, int, "1 for grey"),
    "in_memory": Field(None, bool | None, "by default if they fit"),
    "num_validation": Field(8, int, "pictures held out, to be inpainted while training", 0),
    "flip": Field(True, bool, "mirror half of the pictures"),
    "num_steps": Field(100_000, int, "updates", 1),
    "batch_size": Field(128, int, "pictures an update, over all devices", 1),
    "micro_batches": Field(1, int, "raise it if the memory does not suffice", 1),
    "seed": Field(0, int, "of all random numbers", 0, 2**32 - 1),
    "ema": Field(0.9995, float, "decay of the weights' moving average"),
    "log_every": Field(100, int, "updates; between two lines nothing leaves the GPU", 1),
    "checkpoint_every": Field(2000, int, "updates, a multiple of log_every", 1),
    "sample_every": Field(5000, int, "updates, likewise", 1),
    "tensorboard": Field(True, bool, "whether to write its files, too"),
    "model": {
        "model_channels": Field(32, int, "base width"),
        "channel_mult": Field((1, 2, 4, 8), tuple, "widths by level; multiples of 32 channels"),
        "num_res_blocks": Field(1, int, "blocks a level"),
        "attention_resolutions": Field(
            (4, 8), tuple, "levels with attention, by how much they shrink"
        ),
        "num_head_channels": Field(32, int, "channels of an attention head"),
        "patch_size": Field(1, int, "pixels, a side, that are one of the network's"),
        "resblock_updown": Field(True, bool, "halve and double in residual blocks, or"),
        "conv_resample": Field(True, bool, "by a convolution, or else by pooling and repeating"),
        "dropout": Field(0.0, float, "0.1 if there are few pictures"),
        "learned_variance": Field(True, bool, "better with few sampling steps"),
        "dtype": Field("bfloat16", str, "of the arithmetic; weights are float32"),
    },
    "noise": {
        "kind": Field("linear", str, f"{', '.join(_KINDS)}"),
        "num_train_steps": Field(1000, int, "timesteps"),
    },
    "optimizer": {
        "learning_rate": Field(5e-4, float, "of AdamW"),
        "warmup_steps": Field(1000, int, "updates over which it rises", 0),
        "decay_fraction": Field(1 / 3, float, "of all steps, over which it falls to 0", 0),
        "weight_decay": Field(0.0, float, "of AdamW", 0),
        "b1": Field(0.9, float, "of AdamW"),
        "b2": Field(0.99, float, "of AdamW"),
        "clip_norm": Field(1.0, float, "the largest norm of a gradient"),
    },
    "preview": {
        "num_samples": Field(16, int, "pictures in the grids of WORKDIR/previews"),
        "num_steps": Field(50, int, "timesteps to visit for them"),
        "num_resamples": Field(5, int, "r of the inpainted ones"),
    },
}


def base() -> ConfigDict:
    """All fields for sampling with their defaults, the paper's, locked: no other can be set."""
    return _defaults(SAMPLING).lock()


def training() -> ConfigDict:
    """All fields for training with their defaults, locked."""
    return _defaults(TRAINING).lock()


def _defaults(fields: Fields) -> ConfigDict:
    config = ConfigDict()
    for name, field in fields.items():
        if isinstance(field, dict):
            config[name] = _defaults(field)
        elif field.default is None:
            kind = object if field.kind is object else field.kind.__args__[0]
            config[name] = config_dict.placeholder(kind)
        else:
            config[name] = field.default
    return config


def meanings(fields: Fields, section: str = "config.") -> Iterator[str]:
    """A line for each field: its name, default and meaning."""
    for name, field in fields.items():
        if isinstance(field, dict):
            yield from meanings(field, f"{section}{name}.")
        else:
            default = "" if field.default in (None, "", ()) else f" (default {field.default})"
            yield f"--{section}{name}{default}: {field.meaning}"


def check_fields(config: ConfigDict, fields: Fields = SAMPLING, section: str = "config.") -> None:
    """Checks that all `fields` are there, of their types and in their ranges.

    Raises:
        ConfigError: one is not; a user's own file may hold anything.
    """
    for name, field in fields.items():
        full = f"{section}{name}"
        if name not in config:
            raise ConfigError(
                f"{full}: it is missing; a configuration begins with config = base() of "
                "repaint_jax.config, which has all fields"
            )
        value = config[name]
        if isinstance(field, dict):
            if not isinstance(value, ConfigDict):
                raise ConfigError(f"{full}: expected a section of fields, not {value!r}")
            check_fields(value, field, f"{full}.")
        else:
            _check_value(full, value, field)


def _check_value(name: str, value: Any, field: Field) -> None:
    kind = field.kind
    if not isinstance(value, float | int if kind is float else kind):
        expected = kind.__name__ if isinstance(kind, type) else kind
        raise ConfigError(f"{name}: expected {expected}, not {value!r}")
    least, most = field.least, field.most
    if least is not None and not least <= value <= (most or float("inf")):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ConfigError(f"{name}: {bounds}, not {value}")


# What the arguments of the library are called in a configuration.
_ARGUMENTS = {
    "path": "model.path",
    "image_size": "model.image_size",
    "dtype": "model.dtype",
    "prediction": "model.prediction",
    "class_label": "model.class_label",
    "classifier": "model.classifier_path",
    "noise_kind": "noise.kind",
    "num_train_steps": "noise.num_train_steps",
}


@contextmanager
def argument_errors() -> Iterator[None]:
    """Names the configuration's field where the library names its argument."""
    try:
        yield
    except ArgumentError as error:
        field = _ARGUMENTS.get(error.argument, error.argument)
        raise ConfigError(f"config.{field}: {error.fault}") from error


@contextmanager
def config_errors(section: str) -> Iterator[None]:
    """Names the configuration's section in what the library says of its values."""
    try:
        yield
    except (ValueError, FloatingPointError) as error:
        raise ConfigError(f"{section}: {error}") from error


def as_json(config: ConfigDict) -> dict[str, Any]:
    """A configuration as JSON has it."""
    return json.loads(config.to_json_best_effort())


def refuse_changes(
    before: dict[str, Any],
    now: dict[str, Any],
    fields: Iterable[str],
    holds: str,
    mend: str,
    section: str = "config.",
) -> None:
    """Raises ConfigError for the first of `fields` in which two configurations differ.

    Args:
        before: the configuration of what is there, as JSON has it.
        now: the one that is asked for.
        fields: those that bind.
        holds: what is there, "out/mine holds a run".
        mend: how to go on otherwise.
        section: where the fields are.
    """
    for field in fields:
        one, other = before.get(field), now.get(field)
        if isinstance(one, dict) and isinstance(other, dict):
            refuse_changes(one, other, sorted({*one, *other}), holds, mend, f"{section}{field}.")
        elif one != other:
            raise ConfigError(
                f"{section}{field}: {holds} with {one!r}, not {other!r}; put it back to go on, or "
                f"{mend}"
            )
