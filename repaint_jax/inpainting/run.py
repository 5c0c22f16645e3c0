"""A run of a configuration: pictures and masks in, a folder of results out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from repaint_jax.config import check_fields
from repaint_jax.inpainting.results import Results
from repaint_jax.pictures import images, masks, plots
from repaint_jax.pipeline import (
    ConfigError,
    Setup,
    build_sampler,
    build_schedules,
    build_setup,
    config_errors,
    model_about,
    model_fingerprint,
)
from repaint_jax.runtime.batches import CallBar, Sampler, Task
from repaint_jax.runtime.processes import ALONE, Processes

MOST_SAMPLES = 100_000  # of a picture; they are kept in memory


def run_inpainting(
    config: ConfigDict,
    workdir: Path,
    *,
    processes: Processes = ALONE,
    save_minutes: float = 5.0,
) -> None:
    """Inpaints what `config` says and writes everything about it into `workdir`.

    Nothing is written before all inputs have been read and found good. A run that was killed goes
    on where it was, and its pictures are bit for bit those of one that was not.

    Args:
        config: what to do.
        workdir: the folder of results.
        processes: who shares the work; the last to finish, or the first of those that run together,
            writes what is written once.
        save_minutes: how much time a kill may cost.

    Raises:
        ConfigError, ImageError, CheckpointError, OSError, MemoryError, ProcessError: one line that
            says what to mend.
    """
    check_numbers(config)
    about = model_about(config.model)
    options = build_sampler(config.sampler, about)
    noise, plan = build_schedules(config, about)
    setup = build_setup(config, about)
    tasks = build_tasks(config, setup)
    weights = model_fingerprint(config.model)
    run = {"inputs": _inputs(tasks, weights), "config": json.loads(config.to_json_best_effort())}
    results = Results(workdir, run, processes.index)
    results.save_inputs(processes.share(tasks))
    jobs = [(task, j) for task in tasks for j in range(config.num_samples)]
    size = min(config.batch_size, len(jobs))
    batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    sampler = Sampler(
        setup.model,
        size=size,
        seed=config.seed,
        snapshots=results.unfinished,
        save_minutes=save_minutes,
        about=weights,
        **options,
    )
    share = processes.share(batches)
    with config_errors("config.model"), CallBar(len(share) * plan.num_model_calls) as bar:
        for batch in share:
            film = batch is batches[0]
            for sampled in sampler.run(
                batch, noise, plan, bar=bar, film=film, is_done=results.is_done
            ):
                results.save_samples(sampled, plan)
    processes.wait_for_all()
    lacking = len(jobs) - results.num_finished()
    if lacking:
        print(f"{lacking} pictures are left to other processes; the last of them writes grid.png")
    elif processes.leads:
        results.finish(tasks, plan, sampler.compile_seconds)


def _inputs(tasks: Iterable[Task], weights: str) -> str:
    """Tells these pictures, masks and weights from others."""
    digest = hashlib.blake2b(weights.encode(), digest_size=16)
    for task in tasks:
        digest.update(repr((task.name, task.image.shape)).encode())
        digest.update(task.image.tobytes() + task.known.tobytes())
    return digest.hexdigest()


def run_schedule_plot(config: ConfigDict, workdir: Path) -> None:
    """Draws the resample schedule of `config` into `workdir`/schedule.png."""
    check_fields(config)
    _, plan = build_schedules(config, model_about(config.model))
    path = workdir / "schedule.png"
    plots.plot_schedule(plan, path)
    print(path)


def build_tasks(config: ConfigDict, setup: Setup) -> list[Task]:
    """The pictures with their masks, at the size the model takes."""
    shape = setup.shape
    if not config.image:
        raise ConfigError("config.image: no picture is given; set --config.image=FILE or a folder")
    if config.image == "astronaut":
        paths = [Path("astronaut")]
        pictures = [images.astronaut(size=shape, channels=setup.channels)]
    else:
        paths = images.find_images(config.image)
        pictures = [images.load_image(p, size=shape, channels=setup.channels) for p in paths]
    streams = list(range(len(paths)))
    known = build_masks(config, config.mask, paths, shape, streams)
    return [
        Task(name, picture, mask, stream)
        for name, picture, mask, stream in zip(
            picture_names(paths), pictures, known, streams, strict=True
        )
    ]


def build_masks(
    config: ConfigDict,
    mask: str,
    paths: list[Path],
    shape: images.Shape,
    streams: list[int],
    *,
    field: str = "config.mask",
) -> list[np.ndarray]:
    """A mask for each picture, bool[H, W], from a generator's name or files.

    Args:
        config: has `seed` and `invert_mask`.
        mask: the name, or a file or a folder.
        paths: the pictures' files; one that does not exist has no sides to compare.
        shape: (height, width).
        streams: numbers of the random streams, so that a mask does not depend on those before it.
        field: what errors call `mask`.
    """
    if mask in masks.MASKS:
        with config_errors(field):
            return [
                masks.MASKS[mask](shape, np.random.default_rng([config.seed, stream]))
                ^ config.invert_mask
                for stream in streams
            ]
    files = images.pair_masks(paths, _find_masks(mask, field))
    return [
        images.load_mask(
            file,
            shape,
            source_shape=images.image_shape(path) if path.is_file() else None,
            invert=config.invert_mask,
        )
        for file, path in zip(files, paths, strict=True)
    ]


def _find_masks(pattern: str, field: str) -> list[Path]:
    """Mask files; a name that is neither a file nor a generator is most likely a typing error."""
    try:
        return images.find_images(pattern)
    except images.ImageError as error:
        raise ConfigError(
            f"{field}: expected one of {', '.join(masks.MASKS)}, or a file or folder: {error}"
        ) from error


def picture_names(paths: list[Path]) -> list[str]:
    """A name for each picture's results: its stem, or where that is not unique, its file name."""
    stems = [path.stem for path in paths]
    names = [
        path.name.replace(".", "_") if stems.count(path.stem) > 1 else path.stem for path in paths
    ]
    for name, path in zip(names, paths, strict=True):
        if names.count(name) > 1:
            raise ConfigError(
                f"config.image: two pictures are called {path.name}, so that their results would "
                "overwrite each other; inpaint one folder at a time or rename one"
            )
    return names


def check_numbers(config: ConfigDict) -> None:
    """Refuses what is not of its type, and numbers out of their range."""
    check_fields(config)
    for field in ("num_samples", "batch_size"):
        if config[field] < 1:
            raise ConfigError(f"config.{field}: at least 1, not {config[field]}")
    if config.num_samples > MOST_SAMPLES:
        raise ConfigError(f"config.num_samples: at most {MOST_SAMPLES}, not {config.num_samples}")
    if not 0 <= config.seed < 2**32:
        raise ConfigError(f"config.seed: from 0 to {2**32 - 1}, not {config.seed}")
