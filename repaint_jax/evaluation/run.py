"""From a configuration and a folder of pictures to results and tables."""

from __future__ import annotations

import json
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from repaint_jax.errors import ConfigError, ImageError
from repaint_jax.evaluation.folder import Folder
from repaint_jax.evaluation.outputs import run_scoring
from repaint_jax.inpainting.run import check_numbers
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
from repaint_jax.pipeline import (
    Setup,
    build_sampler,
    build_schedules,
    build_setup,
    config_errors,
    model_about,
    model_fingerprint,
    refuse_changes,
)
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.runtime.batches import CallBar, Sampler, Task
from repaint_jax.runtime.files import append_line, sweep, workdir_errors, write_text
from repaint_jax.runtime.processes import ALONE, Processes
from repaint_jax.schedules import NoiseSchedule

ARRAY_NAMES = ("images", "x_test", "test_images", "test", "x", "arr_0")
MEAN_PICTURE = "mean_picture"
PAPER_MASKS = ("wide", "narrow", "super_resolution", "alternating_lines", "half", "expand")

# What makes a picture what it is; a folder holds pictures of one such setting.
BINDING = ("model", "noise", "sampler", "seed", "batch_size", "invert_mask")


@dataclass(frozen=True)
class Request:
    """What to evaluate on.

    Attributes:
        data: a folder, a zip, an npz (uint8[N, H, W] or [N, H, W, C]), or a pattern.
        masks: generators' names, files or folders.
        schedules: T/j/r each, such as "250/10/10".
        num_pictures: how many, from the first; None for all.
    """

    data: str
    masks: Sequence[str]
    schedules: Sequence[str]
    num_pictures: int | None = None


@dataclass(frozen=True, eq=False)
class Method:
    """A walk over a noise schedule, as T/j/r."""

    name: str
    settings: dict[str, str | int]
    noise: NoiseSchedule
    resampling: ResampleSchedule


def run_evaluation(
    config: ConfigDict,
    request: Request,
    workdir: Path,
    *,
    processes: Processes = ALONE,
    save_minutes: float = 5.0,
) -> None:
    """Inpaints this process's share of what `workdir` lacks, and scores it once all is there.

    Nothing is written before all inputs have been read and found good.

    Args:
        config: how to inpaint.
        request: what to evaluate on.
        workdir: the folder of results.
        processes: who shares the work.
        save_minutes: how much time a kill may cost.

    Raises:
        ConfigError, DataError, ImageError, CheckpointError, OSError, ProcessError: one line that
            says what to mend.
    """
    check_numbers(config)
    _check_request(request)
    about = model_about(config.model)
    options = build_sampler(config.sampler, about)
    methods = [build_method(config, schedule, about) for schedule in request.schedules]
    setup = build_setup(config, about)
    tasks, skipped = build_inputs(config, request, setup)
    folder = Folder(workdir)
    _save_settings(config, request, methods, skipped, folder)
    _save_inputs(tasks, folder)
    _fill_with_mean(tasks, folder)
    results = _results(config, methods, tasks, folder)
    sampler = partial(
        Sampler,
        setup.model,
        seed=config.seed,
        snapshots=folder.snapshots,
        save_minutes=save_minutes,
        about=model_fingerprint(config.model),
        **options,
    )
    _sample(config, processes, results, sampler, folder)
    processes.wait_for_all()
    lacking = sum(not result.path.is_file() for result in results)
    if lacking:
        print(
            f"{lacking} pictures are left to other processes; when they are done, "
            f"python scripts/evaluate.py --evaluate_only --workdir={workdir}"
        )
    elif processes.leads:
        shutil.rmtree(folder.snapshots, ignore_errors=True)
        sweep(workdir / "inpainted")
        run_scoring(workdir)


def build_request(config: ConfigDict, **asked: Any) -> Request:
    """A request of flags; where they are None, `config.evaluation` decides, or the config's own."""
    resampling = config.resampling
    steps, jump, times = config.noise.num_steps, resampling.jump_length, resampling.num_resamples
    default = {"data": "", "masks": (config.mask,), "schedules": (f"{steps}/{jump}/{times}",)}
    section = config.get("evaluation", ConfigDict()).to_dict()
    given = {field: value for field, value in asked.items() if value is not None}
    request = Request(**{**default, **section, **given})
    masks = [
        name for mask in request.masks for name in (PAPER_MASKS if mask == "paper" else (mask,))
    ]
    return replace(request, masks=masks)


def build_method(config: ConfigDict, schedule: str, about: dict[str, Any]) -> Method:
    """The noise schedule and the walk that T/j/r stands for."""
    parts = schedule.split("/")
    if len(parts) != 3 or not all(part.isdigit() for part in parts[1:]):
        raise ConfigError(
            f"--schedules: T/j/r, such as 250/10/10 (steps, jump length, resamplings); got "
            f"{schedule!r}"
        )
    num_steps, jump_length, num_resamples = parts[0], int(parts[1]), int(parts[2])
    config = config.copy_and_resolve_references()
    config.noise.num_steps = num_steps
    config.resampling.jump_length = jump_length
    config.resampling.num_resamples = num_resamples
    noise, resampling = build_schedules(config, about)
    settings: dict[str, str | int] = {"T": num_steps, "j": jump_length, "r": num_resamples}
    name = "_".join(f"{letter}{value}" for letter, value in settings.items())
    return Method(name.replace(",", "-"), settings, noise, resampling)


def build_inputs(
    config: ConfigDict, request: Request, setup: Setup
) -> tuple[list[tuple[str, Task]], list[str]]:
    """Every picture under every mask, and a line for each that cannot be read.

    A picture's random stream is made of its name, so that its results depend neither on the other
    pictures nor on the process.
    """
    shape = (*setup.shape, setup.channels)
    pictures: dict[str, np.ndarray] = {}
    paths: dict[str, Path] = {}
    skipped: list[str] = []
    for name, path, read in _sources(request, shape):
        try:
            pictures[name], paths[name] = read(), path
        except ImageError as error:
            skipped.append(str(error))
    for fault in skipped:
        print(f"skipped: {fault}", file=sys.stderr)
    if not pictures:
        raise ConfigError(f"--data: none of the {len(skipped)} pictures can be read: {skipped[0]}")
    streams = [zlib.crc32(name.encode("utf-8", "surrogateescape")) for name in pictures]
    tasks = []
    labels = mask_labels(request.masks, MASKS.__contains__)
    for label, mask in zip(labels, request.masks, strict=True):
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


def _sources(request: Request, shape: tuple[int, int, int]) -> Iterator[tuple[str, Path, Any]]:
    """Name, file and reader of each picture."""
    paths = find_paths(request.data)
    if holds_arrays(paths):
        pictures = read_arrays(paths[0], ARRAY_NAMES)[: request.num_pictures]
        for i, picture in enumerate(fitted(pictures, shape)):
            yield f"{i:05d}", Path(f"{i:05d}"), lambda picture=picture: picture
        return
    files = find_files(request.data)
    for mask in request.masks:
        if mask not in MASKS:
            check_mask_name(mask)
            kept = {*without_masks([file for file in files if isinstance(file, Path)], mask)}
            files = [file for file in files if isinstance(file, Member) or file in kept]
    files = files[: request.num_pictures]
    paths = [Path(file.name) if isinstance(file, Member) else file for file in files]
    for name, path, file in zip(result_names(paths), paths, files, strict=True):
        yield name, path, lambda file=file: read_file(file, shape)


def _save_settings(
    config: ConfigDict,
    request: Request,
    methods: Sequence[Method],
    skipped: Sequence[str],
    folder: Folder,
) -> None:
    """Writes what was asked for, unless the folder holds pictures of other settings."""
    before = folder.asked()
    asked = json.loads(config.to_json_best_effort())
    settings = {field: asked[field] for field in BINDING}
    settings["noise"].pop("num_steps")  # the schedules give it
    if before:
        holds = f"{folder.root} holds results"
        refuse_changes(before["settings"], settings, BINDING, holds, "take another --workdir")
    names = [method.name for method in methods]
    earlier = [name for name in before.get("methods", []) if name not in names]
    text = json.dumps(
        {
            "settings": settings,
            "methods": [*names, *(name for name in earlier if name != MEAN_PICTURE), MEAN_PICTURE],
            "data": request.data,
            "masks": list(request.masks),
            "schedules": list(request.schedules),
            "num_samples": config.num_samples,
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

    method: Method
    mask: str
    task: Task
    sample: int
    path: Path


def _results(
    config: ConfigDict,
    methods: Sequence[Method],
    tasks: Sequence[tuple[str, Task]],
    folder: Folder,
) -> list[Result]:
    """All that was asked for."""
    return [
        Result(method, mask, task, j, folder.inpainted(method.name, mask, task.name, j))
        for method in methods
        for mask, task in tasks
        for j in range(config.num_samples)
    ]


def _sample(
    config: ConfigDict,
    processes: Processes,
    results: Sequence[Result],
    build: Callable[..., Sampler],
    folder: Folder,
) -> None:
    """Makes this process's share of the pictures that are not there, with a progress bar."""
    per_method: dict[Method, list[Result]] = {}
    for result in results:
        per_method.setdefault(result.method, []).append(result)
    # The same whatever is lacking and however many processes: another shape may round differently.
    batch_size = min(config.batch_size, *map(len, per_method.values()))
    batches = []
    for several in per_method.values():
        lacking = [result for result in processes.share(several) if not result.path.is_file()]
        batches += [lacking[i : i + batch_size] for i in range(0, len(lacking), batch_size)]
    if not batches:
        return
    sampler = build(size=batch_size)
    calls = sum(batch[0].method.resampling.num_model_calls for batch in batches)
    log = folder.log(processes.index)
    with config_errors("config.model"), CallBar(calls) as bar:
        for batch in batches:
            method = batch[0].method
            jobs = [(result.task, result.sample) for result in batch]
            asked = dict(zip(jobs, batch, strict=True))
            for sampled in sampler.run(jobs, method.noise, method.resampling, bar=bar):
                seconds = sampled.seconds / len(sampled.jobs)
                for job, picture in zip(sampled.jobs, sampled.pictures, strict=True):
                    # The line first: a picture that is there has its facts.
                    append_line(log, _facts(asked[job], config.seed, seconds))
                    save_image(asked[job].path, picture)


def _facts(result: Result, seed: int, seconds: float) -> dict[str, Any]:
    """A line of the log."""
    return {
        "method": result.method.name,
        "mask": result.mask,
        "picture": result.task.name,
        "sample": result.sample,
        "seed": seed,
        **result.method.settings,
        "calls": result.method.resampling.num_model_calls,
        "seconds": seconds,
    }


def _check_request(request: Request) -> None:
    """What the flags can have wrong."""
    if not request.data:
        raise ConfigError("--data: which pictures? Give a folder, a zip, an npz or a pattern")
    if not request.masks:
        raise ConfigError(f"--masks: none given; choose of {', '.join(MASKS)}, or give files")
    if request.num_pictures is not None and request.num_pictures < 1:
        raise ConfigError(f"--num_pictures: at least 1, not {request.num_pictures}")
