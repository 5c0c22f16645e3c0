"""The photographs of a run, at their own size: windows go in as tasks, and files come out whole."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from repaint_jax.errors import ConfigError, ImageError
from repaint_jax.pictures.images import Source, load_image
from repaint_jax.pictures.inputs import InputFile, find_inputs, generated_masks
from repaint_jax.pictures.mask_files import load_masked
from repaint_jax.pictures.masks import MASKS
from repaint_jax.pictures.originals import filled_original, read_original, save_original
from repaint_jax.pictures.resizing import sides
from repaint_jax.pictures.windows import (
    Window,
    at_full_size,
    cut_out,
    padding,
    put_back,
    softness,
    window_of_all,
    windows_round_holes,
)
from repaint_jax.pipeline import Pipeline
from repaint_jax.runtime.batches import Task
from repaint_jax.runtime.console import echo

WINDOWS = ("hole", "whole", "centre")


@dataclass(frozen=True, eq=False)
class Photograph:
    """A picture file that is filled at its own size.

    Attributes:
        name: of its results.
        source: where it is.
        read: gives uint8[H, W, C] and bool[H, W], True = known, anew: many would fill the memory.
        windows: what is filled of it.
        tasks: the windows at the model's size.
        digest: of its pixels and its mask.
    """

    name: str
    source: Source
    read: Callable[[], tuple[np.ndarray, np.ndarray]]
    windows: list[Window]
    tasks: list[Task]
    digest: bytes

    def save(self, stem: Path, parts: Sequence[np.ndarray]) -> Path:
        """Writes it with its windows filled, uint8[h, w, C] each, as `save_original` does."""
        filled, known = self.read()
        for window, part in zip(self.windows, parts, strict=True):
            filled = put_back(filled, known, window, part)
        return save_original(stem, filled_original(read_original(self.source), known, filled))


def window_of(config: ConfigDict) -> str:
    """What is filled of each picture: "hole", "whole" or "centre"."""
    if config.window is None:
        return "centre" if config.mask in MASKS else "hole"
    if config.window not in WINDOWS:
        raise ConfigError(f"config.window: one of {', '.join(WINDOWS)}, not {config.window!r}")
    return config.window


def read_photographs(config: ConfigDict, pipeline: Pipeline) -> list[Photograph]:
    """Finds the photographs of a configuration, and the windows of each.

    Raises:
        ConfigError, ImageError: one line that says what cannot be used.

    Warns:
        UserWarning: a window is more than twice the model's size, and will be soft.
    """
    files = find_inputs(config.image, config.mask)
    photographs: list[Photograph] = []
    for i, file in enumerate(files):
        drawn = None
        if config.mask in MASKS:
            (drawn,) = generated_masks(
                config.mask, pipeline.shape, [i], seed=config.seed, invert=config.invert_mask
            )
        stream = sum(len(each.tasks) for each in photographs)
        photographs.append(_photograph(file, drawn, config, pipeline, stream))
    names = Counter(task.name for each in photographs for task in each.tasks)
    if clash := [name for name, count in names.items() if count > 1]:
        raise ImageError(f"{clash[0]}: the name of a picture and of another's window: rename it")
    return photographs


def _photograph(
    file: InputFile,
    drawn: np.ndarray | None,
    config: ConfigDict,
    pipeline: Pipeline,
    stream: int,
) -> Photograph:
    """A photograph under a mask that is its file's, or was drawn for its whole window."""
    read = partial(_read, file, drawn, pipeline, config.invert_mask)
    photo, known = read()
    if window_of(config) == "whole":
        windows = [window_of_all(known.shape, pipeline.shape)]
    else:
        windows = windows_round_holes(known, pipeline.shape, margin=config.margin)
    tasks = []
    for k, window in enumerate(windows):
        image, seen = cut_out(
            photo, known, window, pipeline.shape, keep_partial=config.keep_partial
        )
        if window_of(config) == "whole" and drawn is not None:
            seen = drawn  # which may be finer than what is seen of it
        elif seen.all():
            raise ConfigError(
                f"config.keep_partial: of {file.name} a hole is lost at the model's "
                f"{sides(pipeline.shape)} pixels, which are all kept in part: set it to False"
            )
        elif not seen.any():
            raise ConfigError(
                f"config.margin: of {file.name} nothing is known round a hole at the model's "
                f"{sides(pipeline.shape)} pixels: take a margin above {config.margin}, paint "
                "less, or set --config.keep_partial=True for patterns as fine as these pixels"
            )
        name = file.name if len(windows) == 1 else f"{file.name}-{k + 1}"
        tasks.append(Task(name, image, seen, stream + k))
    if words := softness(windows, pipeline.shape):
        warnings.warn(f"{file.name}: {words}", stacklevel=2)
    if words := padding(windows, known.shape):
        echo(f"{file.name}: {words}")
    digest = hashlib.blake2b(photo.tobytes() + known.tobytes(), digest_size=16)
    return Photograph(file.name, file.source, read, windows, tasks, digest.digest())


def _read(
    file: InputFile, drawn: np.ndarray | None, pipeline: Pipeline, invert: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A photograph and its mask at its own size, uint8[H, W, C] and bool[H, W]."""
    channels = pipeline.channels
    if file.mask is not None:
        return load_masked(file.source, file.mask, channels=channels, invert=invert)
    assert drawn is not None
    photo = load_image(file.source, channels=channels)
    source = photo.shape[0], photo.shape[1]
    return photo, at_full_size(drawn, window_of_all(source, pipeline.shape), source)
