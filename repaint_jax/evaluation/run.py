"""A run of an evaluation: what its folder lacks is sampled, then all is scored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from repaint_jax.config import as_json, check_fields, config_errors, refuse_changes
from repaint_jax.errors import ConfigError
from repaint_jax.evaluation.building import (
    EvaluationSet,
    NamedSampler,
    build_inputs,
    check_distinct,
    check_set,
    named_sampler,
)
from repaint_jax.evaluation.folder import Folder
from repaint_jax.evaluation.outputs import run_scoring
from repaint_jax.files import append_line, sweep, workdir_errors, write_text
from repaint_jax.inpainting.arithmetic import settle_dtype
from repaint_jax.inpainting.building import build_pipeline
from repaint_jax.inpainting.results import whole
from repaint_jax.pictures.grids import masked_preview
from repaint_jax.pictures.images import load_image, save_image
from repaint_jax.pipeline import Pipeline
from repaint_jax.runtime.batches import Task
from repaint_jax.runtime.console import echo
from repaint_jax.runtime.processes import ALONE, Processes
from repaint_jax.runtime.progress import Part, sampled_with_bar
from repaint_jax.runtime.workdirs import refuse_other_kinds

MEAN_PICTURE = "mean_picture"

# What makes a picture what it is besides the method; a folder holds pictures of one such setting.
BINDING = ("model", "noise", "seed", "batch_size", "invert_mask")


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
    check_set(chosen)
    folder = Folder(workdir)
    settings = folder.asked().get("settings")
    config = settle_dtype(config, settings["model"]["dtype"] if settings else None)
    pipeline = build_pipeline(config)
    samplers = [named_sampler(config, pipeline, method) for method in chosen.methods]
    check_distinct([each.name for each in samplers], "--methods")
    tasks, skipped = build_inputs(config, chosen, pipeline)
    refuse_other_kinds(workdir, "evaluation")
    _save_settings(config, chosen, samplers, skipped, folder)
    _save_inputs(tasks, folder)
    _fill_with_mean(tasks, folder)
    results = _results(config, samplers, tasks, folder)
    _sample(config, processes, results, pipeline, save_minutes, folder)
    processes.wait_for_all()
    missing = sum(not result.path.is_file() for result in results)
    if missing:
        echo(
            f"{missing} pictures are left to other processes; when they are done, "
            f"python scripts/evaluate.py --evaluate_only --workdir={workdir}"
        )
    elif processes.leads:
        shutil.rmtree(folder.snapshots, ignore_errors=True)
        sweep(workdir / "inpainted")
        run_scoring(workdir)


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
    # The same whatever is missing and however many processes: another shape may round differently.
    size = min(config.batch_size, *map(len, per_method.values()))
    parts = []
    for several in per_method.values():
        missing = [result for result in processes.share(several) if not result.path.is_file()]
        parts += [missing[i : i + size] for i in range(0, len(missing), size)]
    if not parts:
        return
    batches = pipeline.batches(
        size, config.seed, snapshots=folder.snapshots, save_minutes=save_minutes
    )
    log = folder.log(processes.index)
    asked = {
        (result.by.sampler, result.task, result.sample): result for part in parts for result in part
    }
    share = [
        Part([(result.task, result.sample) for result in part], part[0].by.sampler)
        for part in parts
    ]
    calls = sum(part.sampler.total_calls for part in share)
    walk = sampled_with_bar(batches, share, calls)
    with config_errors("config.model"), closing(walk):
        for part, sampled in walk:
            seconds = sampled.seconds / len(sampled.jobs)
            for job, picture in zip(sampled.jobs, sampled.pictures, strict=True):
                result = asked[part.sampler, *job]
                # The line first: a picture that is there has its facts.
                append_line(log, _facts(result, config.seed, seconds))
                save_image(result.path, picture)


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
