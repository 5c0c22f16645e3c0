"""A run of a configuration: pictures and masks in, a folder of results out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from ml_collections import ConfigDict

from repaint_jax.config import check_fields
from repaint_jax.errors import ConfigError
from repaint_jax.inpainting.results import Results
from repaint_jax.pictures import plots
from repaint_jax.pictures.inputs import read_inputs
from repaint_jax.pipeline import (
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
    if not config.image:
        raise ConfigError("config.image: no picture is given; set --config.image=FILE or a folder")
    inputs = read_inputs(
        config.image,
        config.mask,
        setup.shape,
        setup.channels,
        seed=config.seed,
        invert=config.invert_mask,
    )
    return [Task(*each, stream) for stream, each in enumerate(inputs)]


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
