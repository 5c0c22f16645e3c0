"""What to evaluate: pictures, masks and methods as flags and configurations name them."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from repaint_jax.errors import ConfigError, ImageError
from repaint_jax.inpainting.building import build_sampler, settle_walk
from repaint_jax.inpainting.results import whole
from repaint_jax.pictures.datasets import (
    Member,
    find_files,
    find_paths,
    fitted,
    holds_arrays,
    read_arrays,
    read_file,
)
from repaint_jax.pictures.inputs import check_mask_name, read_masks
from repaint_jax.pictures.masks import MASKS
from repaint_jax.pictures.naming import mask_labels, result_names
from repaint_jax.pictures.pairing import without_masks
from repaint_jax.pipeline import Pipeline
from repaint_jax.runtime.batches import Task
from repaint_jax.runtime.console import echo
from repaint_jax.sampler import Sampler

ARRAY_NAMES = ("images", "x_test", "test_images", "test", "x", "arr_0")
PAPER_MASKS = ("wide", "narrow", "super_resolution", "alternating_lines", "half", "expand")


@dataclass(frozen=True)
class EvaluationSet:
    """What to evaluate, and on what.

    Attributes:
        data: a folder, a zip, an npz (uint8[N, H, W] or [N, H, W, C]), or a pattern.
        masks: generators' names, files or folders.
        methods: METHOD:T/j/r each, such as "repaint:250/10/10"; without T/j/r as the configuration.
        num_pictures: how many, from the first; None for all.
    """

    data: str
    masks: Sequence[str]
    methods: Sequence[str]
    num_pictures: int | None = None


@dataclass(frozen=True, eq=False)
class NamedSampler:
    """A sampler and what its results are called."""

    name: str
    sampler: Sampler


def build_set(
    config: ConfigDict, *, schedules: Sequence[str] | None = None, **asked: Any
) -> EvaluationSet:
    """What flags ask for; where they are None, `config.evaluation` decides, or the config's own.

    Args:
        config: for sampling.
        schedules: T/j/r each, short for the configuration's method with such walks.
        **asked: fields of `EvaluationSet`.
    """
    section = {field: value for field, value in config.evaluation.to_dict().items() if value}
    default = {"data": "", "masks": (config.mask,), "methods": (config.method,)}
    given = {field: value for field, value in asked.items() if value is not None}
    if schedules is not None:
        method = settle_walk(config).method
        walks = [f"{method}:{schedule}" for schedule in schedules]
        given["methods"] = [*given.get("methods", ()), *walks]
    chosen = EvaluationSet(**{**default, **section, **given})
    masks = [
        name for mask in chosen.masks for name in (PAPER_MASKS if mask == "paper" else (mask,))
    ]
    return replace(chosen, masks=masks)


def named_sampler(config: ConfigDict, pipeline: Pipeline, text: str) -> NamedSampler:
    """The method and the walk that METHOD:T/j/r, METHOD:T or METHOD stands for.

    It is called METHOD_T_j_r and how many call equivalents it takes, as "mmps_33-99calls".
    """
    config = settle_walk(config)
    config = config.copy_and_resolve_references()
    config.method = text
    config = settle_walk(config, "--methods")
    numbers = [config.noise.num_steps]
    if config.resampling.num_resamples > 1:
        numbers += [config.resampling.jump_length, config.resampling.num_resamples]
    sampler = build_sampler(config, pipeline)
    name = re.sub(r"[^\w.=-]+", "_", f"{config.method}_" + "_".join(map(str, numbers)))
    return NamedSampler(f"{name}-{whole(sampler.total_calls)}calls", sampler)


def check_distinct(names: Sequence[str], flag: str) -> None:
    """Raises ConfigError if two things would share a name in the results."""
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{flag}: two of them are called {name} in results; give one of them")


def build_inputs(
    config: ConfigDict, chosen: EvaluationSet, pipeline: Pipeline
) -> tuple[list[tuple[str, Task]], list[str]]:
    """Every picture under every mask, and a line for each that cannot be read.

    A picture's random stream is made of its name, so that its results depend neither on the other
    pictures nor on the process.
    """
    shape = (*pipeline.shape, pipeline.channels)
    pictures: dict[str, np.ndarray] = {}
    paths: dict[str, Path] = {}
    skipped: list[str] = []
    for name, path, read in _sources(chosen, shape):
        try:
            pictures[name], paths[name] = read(), path
        except ImageError as error:
            skipped.append(str(error))
    for fault in skipped:
        echo(f"skipped: {fault}", sys.stderr)
    if not pictures:
        raise ConfigError(f"--data: none of the {len(skipped)} pictures can be read: {skipped[0]}")
    streams = [zlib.crc32(name.encode("utf-8", "surrogateescape")) for name in pictures]
    tasks = []
    labels = mask_labels(chosen.masks, MASKS.__contains__)
    for label, mask in zip(labels, chosen.masks, strict=True):
        known = read_masks(
            mask,
            list(paths.values()),
            shape[:2],
            streams,
            seed=config.seed,
            invert=config.invert_mask,
        )
        tasks += [
            (label, Task(name, picture, where, stream))
            for (name, picture), where, stream in zip(pictures.items(), known, streams, strict=True)
        ]
    return tasks, skipped


def _sources(chosen: EvaluationSet, shape: tuple[int, int, int]) -> Iterator[tuple[str, Path, Any]]:
    """Name, file and reader of each picture."""
    paths = find_paths(chosen.data)
    if holds_arrays(paths):
        pictures = read_arrays(paths[0], ARRAY_NAMES)[: chosen.num_pictures]
        for i, picture in enumerate(fitted(pictures, shape)):
            yield f"{i:05d}", Path(f"{i:05d}"), lambda picture=picture: picture
        return
    files = find_files(chosen.data)
    for mask in chosen.masks:
        if mask not in MASKS:
            check_mask_name(mask)
            kept = {*without_masks([file for file in files if isinstance(file, Path)], mask)}
            files = [file for file in files if isinstance(file, Member) or file in kept]
    files = files[: chosen.num_pictures]
    paths = [file.path if isinstance(file, Member) else file for file in files]
    for name, path, file in zip(result_names(paths), paths, files, strict=True):
        yield name, path, lambda file=file: read_file(file, shape)


def check_set(chosen: EvaluationSet) -> None:
    """What the flags can have wrong."""
    if not chosen.data:
        raise ConfigError("--data: which pictures? Give a folder, a zip, an npz or a pattern")
    if not chosen.masks:
        raise ConfigError(f"--masks: none given; choose of {', '.join(MASKS)}, or give files")
    if chosen.num_pictures is not None and chosen.num_pictures < 1:
        raise ConfigError(f"--num_pictures: at least 1, not {chosen.num_pictures}")
