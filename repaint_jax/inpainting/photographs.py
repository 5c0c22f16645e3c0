"""The photographs of a run, at their own size: windows go in as tasks, and files come out whole."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from repaint_jax.pictures.patches import padding, patch_of_all, patches_of_holes, softness
from repaint_jax.pictures.resizing import Shape, sides
from repaint_jax.pictures.windows import Patch, at_full_size, cut_out, put_back, window_of_all
from repaint_jax.pipeline import Pipeline
from repaint_jax.runtime.batches import Task
from repaint_jax.runtime.console import echo

WINDOWS = ("hole", "whole", "centre")

Filled = Callable[[str], np.ndarray]  # the picture of a task of that name, uint8[h, w, C]


@dataclass(frozen=True, eq=False)
class Photograph:
    """A picture file that is filled at its own size.

    Attributes:
        name: of its results.
        source: where it is.
        read: gives uint8[H, W, C] and bool[H, W], True = known, anew: many would fill the memory.
        turns: the patches that are filled one turn after the other.
        tasks: their windows at the model's size, by turns, when nothing is filled yet.
        keep_partial: see `cut_out`.
        digest: of its pixels and its mask.
    """

    name: str
    source: Source
    read: Callable[[], tuple[np.ndarray, np.ndarray]]
    turns: list[list[Patch]]
    tasks: list[list[Task]]
    keep_partial: bool
    digest: bytes

    def tasks_of(self, turn: int, filled: Filled) -> list[Task]:
        """The tasks of a turn, which see what earlier ones have filled."""
        if turn == 0:
            return self.tasks[0]
        if turn >= len(self.turns):
            return []
        photo, known = self.read()
        self._fill(photo, known, turn, filled)
        cut = partial(cut_out, photo, known, keep_partial=self.keep_partial)
        tasks = []
        for task, patch in zip(self.tasks[turn], self.turns[turn], strict=True):
            image, seen = cut(patch.window, task.known.shape)
            tasks.append(replace(task, image=image, known=seen))
        return tasks

    def save(self, stem: Path, filled: Filled) -> Path:
        """Writes it with all of its holes filled, as `save_original` does."""
        photo, known = self.read()
        self._fill(photo, known.copy(), len(self.turns), filled)
        return save_original(stem, filled_original(read_original(self.source), known, photo))

    def _fill(self, photo: np.ndarray, known: np.ndarray, turn: int, filled: Filled) -> None:
        """Puts what the turns before `turn` have filled into a photograph, as known from now on."""
        for patches, tasks in zip(self.turns[:turn], self.tasks, strict=False):
            for patch, task in zip(patches, tasks, strict=True):
                put_back(photo, known, patch, filled(task.name))
                known[patch.box.inside] = True


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
    photographs: list[Photograph] = []
    stream = 0
    for i, file in enumerate(find_inputs(config.image, config.mask)):
        drawn = None
        if config.mask in MASKS:
            (drawn,) = generated_masks(
                config.mask, pipeline.shape, [i], seed=config.seed, invert=config.invert_mask
            )
        photographs.append(_photograph(file, drawn, config, pipeline, stream))
        stream += sum(map(len, photographs[-1].tasks))
    names = Counter(task.name for each in photographs for turn in each.tasks for task in turn)
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
    """A photograph under its mask's file, or one that was drawn for its whole window."""
    read = partial(_read, file, drawn, pipeline, config.invert_mask)
    photo, known = read()
    turns = _turns(known, config, pipeline.shape)
    patches = [patch for turn in turns for patch in turn]
    names = [f"{file.name}-{k + 1}" for k in range(len(patches))]
    tasks: list[Task] = []
    for patch, name in zip(patches, names if len(names) > 1 else [file.name], strict=True):
        image, seen = cut_out(
            photo, known, patch.window, pipeline.shape, keep_partial=config.keep_partial
        )
        if drawn is not None and window_of(config) == "whole":
            seen = drawn  # which may be finer than what is seen of it
        else:
            _check_seen(seen, file.name, config)
        tasks.append(Task(name, image, seen, stream + len(tasks)))
    if words := softness(patches, pipeline.shape):
        warnings.warn(f"{file.name}: {words}", stacklevel=2)
    if words := padding(patches, known.shape):
        echo(f"{file.name}: {words}")
    digest = hashlib.blake2b(photo.tobytes() + known.tobytes(), digest_size=16).digest()
    rest = iter(tasks)
    by_turns = [[next(rest) for _ in turn] for turn in turns]
    return Photograph(file.name, file.source, read, turns, by_turns, config.keep_partial, digest)


def _turns(known: np.ndarray, config: ConfigDict, shape: Shape) -> list[list[Patch]]:
    if window_of(config) == "whole":
        return [[patch_of_all(known.shape, shape)]]
    return patches_of_holes(known, shape, margin=config.margin, enlargement=config.enlargement)


def _check_seen(seen: np.ndarray, name: str, config: ConfigDict) -> None:
    """Refuses a window without holes, or of holes alone, at the model's size."""
    size = f"at the model's {sides(seen.shape)} pixels"
    if seen.all():
        raise ConfigError(
            f"config.keep_partial: of {name} a hole is lost {size}, which are all kept in part: "
            "set it to False"
        )
    if not seen.any():
        raise ConfigError(
            f"config.margin: of {name} nothing is known round a hole {size}: take a margin above "
            f"{config.margin}, paint less, or set --config.keep_partial=True for patterns as fine "
            "as these pixels"
        )


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
