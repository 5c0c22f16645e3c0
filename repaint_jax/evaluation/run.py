"""From a configuration and a folder of pictures to results and tables."""

from __future__ import annotations

import json
import re
import shutil
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from repaint_jax.config import as_json, check_fields, config_errors, refuse_changes
from repaint_jax.errors import ConfigError, ImageError
from repaint_jax.evaluation.folder import Folder
from repaint_jax.evaluation.outputs import run_scoring
from repaint_jax.inpainting.building import build_pipeline, build_sampler
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
from repaint_jax.pictures.grids import masked_preview
from repaint_jax.pictures.images import load_image, save_image
from repaint_jax.pictures.inputs import check_mask_name, read_masks
from repaint_jax.pictures.masks import MASKS
from repaint_jax.pictures.naming import mask_labels, result_names
from repaint_jax.pictures.pairing import without_masks
from repaint_jax.pipeline import Pipeline
from repaint_jax.runtime.batches import Task
from repaint_jax.runtime.files import append_line, sweep, workdir_errors, write_text
from repaint_jax.runtime.processes import ALONE, Processes
from repaint_jax.runtime.progress import CallBar
from repaint_jax.runtime.telling import tell
from repaint_jax.runtime.workdirs import refuse_other_kinds
from repaint_jax.sampler import Sampler

ARRAY_NAMES = ("images", "x_test", "test_images", "test", "x", "arr_0")
MEAN_PICTURE = "mean_picture"
PAPER_MASKS = ("wide", "narrow", "super_resolution", "alternating_lines", "half", "expand")

# What makes a picture what it is besides the method; a folder holds pictures of one such setting.
BINDING = ("model", "noise", "seed", "batch_size", "invert_mask")


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


def run_evaluation(
    config: ConfigDict,
    chosen: EvaluationSet,
    workdir: Path,
    *,
    processes: Processes = ALONE,
    save_minutes: float = 5.0,
) -> None:
    """Inpaints this process's share of what `workdir` lacks, and scores it once all is there.

    Nothing is written before all inputs have been read and found good.

    Args:
        config: how to inpaint.
        chosen: what to evaluate.
        workdir: the folder of results.
        processes: who shares the work.
        save_minutes: how much time a kill may cost.

    Raises:
        ConfigError, DataError, ImageError, CheckpointError, OSError, ProcessError: one line that
            says what to mend.
    """
    check_fields(config)
    _check_set(chosen)
    pipeline = build_pipeline(config)
    samplers = [named_sampler(config, pipeline, method) for method in chosen.methods]
    _check_distinct([each.name for each in samplers], "--methods")
    tasks, skipped = build_inputs(config, chosen, pipeline)
    folder = Folder(workdir)
    refuse_other_kinds(workdir, "evaluation")
    _save_settings(config, chosen, samplers, skipped, folder)
    _save_inputs(tasks, folder)
    _fill_with_mean(tasks, folder)
    results = _results(config, samplers, tasks, folder)
    _sample(config, processes, results, pipeline, save_minutes, folder)
    processes.wait_for_all()
    lacking = sum(not result.path.is_file() for result in results)
    if lacking:
        tell(
            f"{lacking} pictures are left to other processes; when they are done, "
            f"python scripts/evaluate.py --evaluate_only --workdir={workdir}"
        )
    elif processes.leads:
        shutil.rmtree(folder.snapshots, ignore_errors=True)
        sweep(workdir / "inpainted")
        run_scoring(workdir)


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
        walks = [f"{config.method}:{schedule}" for schedule in schedules]
        given["methods"] = [*given.get("methods", ()), *walks]
    chosen = EvaluationSet(**{**default, **section, **given})
    masks = [
        name for mask in chosen.masks for name in (PAPER_MASKS if mask == "paper" else (mask,))
    ]
    return replace(chosen, masks=masks)


def named_sampler(config: ConfigDict, pipeline: Pipeline, text: str) -> NamedSampler:
    """The method and the walk that METHOD:T/j/r, METHOD:T or METHOD stands for."""
    parts = re.fullmatch(
        r"(?P<method>.+?)(:(?P<T>(ddim|logsnr)?\d[\d,]*)(/(?P<j>\d+)/(?P<r>\d+))?)?", text
    )
    if parts is None or re.search(r":[\d/-]+$", parts["method"]):  # a walk, but not such a one
        raise ConfigError(
            "--methods: METHOD:T/j/r, such as repaint:250/10/10 (steps, jump length, resamplings), "
            f"or METHOD:T; got {text!r}"
        )
    config = config.copy_and_resolve_references()
    config.method = parts["method"]
    if parts["T"]:
        config.noise.num_steps = parts["T"]
        config.resampling.num_resamples = int(parts["r"] or 1)
        config.resampling.jump_length = int(parts["j"] or config.resampling.jump_length)
    numbers = [config.noise.num_steps]
    if config.resampling.num_resamples > 1:
        numbers += [config.resampling.jump_length, config.resampling.num_resamples]
    name = re.sub(r"[^\w.=-]+", "_", f"{config.method}_" + "_".join(map(str, numbers)))
    return NamedSampler(name, build_sampler(config, pipeline))


def _check_distinct(names: Sequence[str], flag: str) -> None:
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
        tell(f"skipped: {fault}", sys.stderr)
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


def _save_settings(
    config: ConfigDict,
    chosen: EvaluationSet,
    samplers: Sequence[NamedSampler],
    skipped: Sequence[str],
    folder: Folder,
) -> None:
    """Writes what was asked for, unless the folder holds pictures of other settings."""
    before = folder.asked()
    asked = as_json(config)
    settings = {field: asked[field] for field in BINDING}
    settings["noise"].pop("num_steps")  # the schedules give it
    if before:
        holds = f"{folder.root} holds results"
        refuse_changes(before["settings"], settings, BINDING, holds, "take another --workdir")
    names = [each.name for each in samplers]
    earlier = [name for name in before.get("methods", []) if name not in names]
    text = json.dumps(
        {
            "settings": settings,
            "methods": [*names, *(name for name in earlier if name != MEAN_PICTURE), MEAN_PICTURE],
            "data": chosen.data,
            "masks": list(chosen.masks),
            "num_samples": max(config.num_samples, before.get("num_samples", 0)),  # all are scored
            "skipped": list(skipped),
        },
        indent=2,
    )
    with workdir_errors(folder.root):
        write_text(folder.settings, text + "\n")


def _save_inputs(tasks: Sequence[tuple[str, Task]], folder: Folder) -> None:
    """Writes originals and masks, or checks that those there are the same."""
    inputs = {folder.original(task.name): task.image for _, task in tasks}
    for mask, task in tasks:
        inputs[folder.known_mask(mask, task.name)] = np.uint8(255) * task.known[..., None]
    for path, picture in inputs.items():
        if not path.is_file():
            save_image(path, picture)
        elif not np.array_equal(load_image(path, channels=picture.shape[2]), picture):
            raise ConfigError(
                f"{path} is another picture than the one to evaluate: take another --workdir"
            )
    for mask, task in tasks:
        if not folder.masked(mask, task.name).is_file():
            save_image(folder.masked(mask, task.name), masked_preview(task.image, task.known))


def _fill_with_mean(tasks: Sequence[tuple[str, Task]], folder: Folder) -> None:
    """What knows nothing of the picture: each hole filled with the mean of the other pictures."""
    images = {task.name: task.image for _, task in tasks}
    if len(images) < 2:
        return
    total = np.sum([image.astype(np.int64) for image in images.values()], axis=0)
    for mask, task in tasks:
        mean = np.rint((total - task.image) / (len(images) - 1)).astype(np.uint8)
        filled = np.where(task.known[..., None], task.image, mean)
        save_image(folder.inpainted(MEAN_PICTURE, mask, task.name, 0), filled)


@dataclass(frozen=True)
class Result:
    """A picture to make, and where."""

    by: NamedSampler
    mask: str
    task: Task
    sample: int
    path: Path


def _results(
    config: ConfigDict,
    samplers: Sequence[NamedSampler],
    tasks: Sequence[tuple[str, Task]],
    folder: Folder,
) -> list[Result]:
    """All that was asked for."""
    return [
        Result(by, mask, task, j, folder.inpainted(by.name, mask, task.name, j))
        for by in samplers
        for mask, task in tasks
        for j in range(config.num_samples)
    ]


def _sample(
    config: ConfigDict,
    processes: Processes,
    results: Sequence[Result],
    pipeline: Pipeline,
    save_minutes: float,
    folder: Folder,
) -> None:
    """Makes this process's share of the pictures that are not there, with a progress bar."""
    per_method: dict[NamedSampler, list[Result]] = {}
    for result in results:
        per_method.setdefault(result.by, []).append(result)
    # The same whatever is lacking and however many processes: another shape may round differently.
    size = min(config.batch_size, *map(len, per_method.values()))
    parts = []
    for several in per_method.values():
        lacking = [result for result in processes.share(several) if not result.path.is_file()]
        parts += [lacking[i : i + size] for i in range(0, len(lacking), size)]
    if not parts:
        return
    batches = pipeline.batches(
        size, config.seed, snapshots=folder.snapshots, save_minutes=save_minutes
    )
    log = folder.log(processes.index)
    calls = sum(part[0].by.sampler.total_calls for part in parts)
    with config_errors("config.model"), CallBar(calls) as bar:
        for part in parts:
            sampler = part[0].by.sampler
            bar.begin(sampler.total_calls)
            asked = {(result.task, result.sample): result for result in part}
            with closing(batches.run(list(asked), sampler)) as walk:
                for progress in walk:
                    bar.follow(progress)
                    if progress.sampled is None:
                        continue
                    seconds = progress.sampled.seconds / len(progress.sampled.jobs)
                    for job, picture in zip(
                        progress.sampled.jobs, progress.sampled.pictures, strict=True
                    ):
                        # The line first: a picture that is there has its facts.
                        append_line(log, _facts(asked[job], config.seed, seconds))
                        save_image(asked[job].path, picture)


def _facts(result: Result, seed: int, seconds: float) -> dict[str, Any]:
    """A line of the log."""
    return {
        "method": result.by.name,
        "mask": result.mask,
        "picture": result.task.name,
        "sample": result.sample,
        "seed": seed,
        "calls": whole(result.by.sampler.total_calls),
        "seconds": seconds,
    }


def _check_set(chosen: EvaluationSet) -> None:
    """What the flags can have wrong."""
    if not chosen.data:
        raise ConfigError("--data: which pictures? Give a folder, a zip, an npz or a pattern")
    if not chosen.masks:
        raise ConfigError(f"--masks: none given; choose of {', '.join(MASKS)}, or give files")
    if chosen.num_pictures is not None and chosen.num_pictures < 1:
        raise ConfigError(f"--num_pictures: at least 1, not {chosen.num_pictures}")
