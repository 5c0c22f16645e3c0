"""A run of a configuration: pictures and masks in, a folder of results out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from contextlib import closing
from itertools import chain
from pathlib import Path

from ml_collections import ConfigDict

from repaint_jax.config import as_json, check_fields, config_errors
from repaint_jax.errors import ConfigError
from repaint_jax.inpainting.arithmetic import begun_with, settle_dtype
from repaint_jax.inpainting.building import build_pipeline, build_sampler, settle_walk
from repaint_jax.inpainting.photographs import Photograph, read_photographs, window_of
from repaint_jax.inpainting.results import Results
from repaint_jax.pictures import plots
from repaint_jax.pictures.inputs import read_inputs
from repaint_jax.pipeline import Pipeline
from repaint_jax.runtime.batches import Job, Task
from repaint_jax.runtime.console import echo
from repaint_jax.runtime.processes import ALONE, Processes
from repaint_jax.runtime.progress import Part, sampled_with_bar


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
    check_fields(config)
    config = settle_walk(config)
    config = settle_dtype(config, begun_with(workdir / "unfinished" / "run.json"))
    pipeline = build_pipeline(config)
    sampler = build_sampler(config, pipeline)
    photographs, tasks = build_inputs(config, pipeline)
    facts = [pipeline.fingerprint.encode(), *(each.digest for each in photographs)]
    run = {
        "inputs": _inputs(tasks, b"".join(facts)),
        "pictures": [task.name for task in tasks],
        "photographs": [each.name for each in photographs],
        "config": as_json(config),
    }
    results = Results(workdir, run, photographs, processes.index)
    results.save_inputs(processes.share(tasks))
    num_jobs = len(tasks) * config.num_samples
    size = min(config.batch_size, num_jobs)
    batches = pipeline.batches(
        size, config.seed, snapshots=results.unfinished, save_minutes=save_minutes
    )
    count, share = _share(photographs, tasks, config.num_samples, size, results, processes)
    parts = (Part(part, sampler, film=i == processes.index == 0) for i, part in enumerate(share))
    calls = count * sampler.total_calls
    walk = sampled_with_bar(batches, parts, calls, is_done=results.is_done)
    with config_errors("config.model"), closing(walk):
        for _, sampled in walk:
            results.save_samples(sampled, sampler.resampling)
            results.save_photographs(sampled.jobs)
    processes.wait_for_all()
    missing = num_jobs - results.num_finished()
    if missing:
        echo(f"{missing} pictures are left to other processes; the last of them writes grid.png")
    elif processes.leads:
        results.finish(tasks, sampler, batches.compile_seconds)


def _share(
    photographs: list[Photograph],
    tasks: list[Task],
    num_samples: int,
    size: int,
    results: Results,
    processes: Processes,
) -> tuple[int, Iterable[list[Job]]]:
    """This process's batches, and how many they are: of photographs all windows, turn by turn."""
    if not photographs:
        jobs = [(task, j) for task in tasks for j in range(num_samples)]
        chunks = processes.share(_chunks(jobs, size))
        return len(chunks), chunks
    mine = processes.share(photographs)
    turns = range(max((len(each.turns) for each in mine), default=0))
    windows = [sum(len(tasks) for each in mine for tasks in each.tasks[t : t + 1]) for t in turns]
    count = sum(math.ceil(number * num_samples / size) for number in windows)
    jobs_by_turns = (  # each asked for when the earlier ones are on disk
        [
            (task, j)
            for photograph in mine
            for j in range(num_samples)
            for task in photograph.tasks_of(turn, results.filled(photograph, j))
        ]
        for turn in turns
    )
    return count, chain.from_iterable(_chunks(jobs, size) for jobs in jobs_by_turns)


def _chunks(jobs: list[Job], size: int) -> list[list[Job]]:
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def _inputs(tasks: Iterable[Task], facts: bytes) -> str:
    """Tells these pictures, masks and weights from others."""
    digest = hashlib.blake2b(facts, digest_size=16)
    for task in tasks:
        digest.update(repr((task.name, task.image.shape)).encode())
        digest.update(task.image.tobytes() + task.known.tobytes())
    return digest.hexdigest()


def run_schedule_plot(config: ConfigDict, workdir: Path) -> None:
    """Draws the resample schedule of `config` into `workdir`/schedule.png."""
    check_fields(config)
    sampler = build_sampler(config, build_pipeline(config))
    path = workdir / "schedule.png"
    plots.plot_schedule(sampler.resampling, path)
    echo(str(path))


def build_inputs(config: ConfigDict, pipeline: Pipeline) -> tuple[list[Photograph], list[Task]]:
    """The pictures with their masks at the size the model takes, and whose windows they are."""
    if not config.image:
        raise ConfigError("config.image: no picture is given; set --config.image=FILE or a folder")
    if window_of(config) != "centre":
        photographs = read_photographs(config, pipeline)
        return photographs, [task for each in photographs for task in chain(*each.tasks)]
    inputs = read_inputs(
        config.image,
        config.mask,
        pipeline.shape,
        pipeline.channels,
        seed=config.seed,
        invert=config.invert_mask,
        keep_partial=config.keep_partial,
    )
    return [], [Task(*each, stream) for stream, each in enumerate(inputs)]
