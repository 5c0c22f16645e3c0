"""The folder of a run: what is written where, and what a killed run left there."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import numpy as np

from repaint_jax.config import refuse_changes
from repaint_jax.errors import ConfigError
from repaint_jax.files import append_line, read_json, read_lines, sweep, workdir_errors, write_text
from repaint_jax.inpainting.photographs import Filled, Photograph
from repaint_jax.pictures.grids import masked_preview, overview
from repaint_jax.pictures.images import load_image, save_image
from repaint_jax.pictures.metrics import psnr, ssim
from repaint_jax.pictures.plots import save_film
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.runtime.batches import Job, Sampled, Task
from repaint_jax.runtime.console import echo
from repaint_jax.runtime.workdirs import one_at_a_time, refuse_other_kinds
from repaint_jax.sampler import Sampler

_INPUTS = ("original", "masked", "known_mask")  # folders of what goes in
_OUTPUTS = ("inpainted", "windows")  # and of what comes out


class Results:
    """Writes a run into its folder, each file whole or not at all.

    inpainted/NAME_SAMPLE.png, original/NAME.png, masked/NAME.png, known_mask/NAME.png, grid.png,
    process.gif, metrics.json and config.json. Of photographs all this shows their windows, named
    NAME-1, NAME-2 where there are several, which lie in windows/NAME_SAMPLE.png, and inpainted/ has
    the photographs at their own size. Until all are there, unfinished/ has run.json, what
    is being run; PROCESS.jsonl, a line for each sample that is finished; and the snapshots of
    batches in mid-trajectory.
    """

    def __init__(
        self,
        workdir: Path,
        run: dict[str, Any],
        photographs: Sequence[Photograph] = (),
        process: int = 0,
    ):
        """Makes the folder, or goes on with what was left there of the same run.

        What an earlier run left there is removed, for what lies in a folder belongs to its
        config.json; of one of the same configuration, what will not be made again.

        Args:
            workdir: the folder.
            run: `config`, as JSON has it; `pictures` and `photographs`, their names; and `inputs`,
                what tells these, their masks and the weights from others.
            photographs: whose windows the pictures are, if they are any's.
            process: this process's number.

        Raises:
            ConfigError: it holds an unfinished run of other settings or inputs, or something else.
            OSError: it cannot be written.
        """
        self.workdir = workdir
        self.unfinished = workdir / "unfinished"
        self._log = self.unfinished / f"{process}.jsonl"
        self._photographs = photographs
        refuse_other_kinds(workdir, "inpainting run")
        with workdir_errors(workdir), one_at_a_time(workdir):
            self._claim(run)
            write_text(workdir / "config.json", json.dumps(run["config"], indent=2) + "\n")
        self._finished = self._samples()

    def _claim(self, run: dict[str, Any]) -> None:
        """Makes `unfinished` that of `run`, if it is not, and if nothing is lost by it."""
        record = self.unfinished / "run.json"
        before = read_json(record)
        has_work = bool(before) and any(path != record for path in self.unfinished.iterdir())
        if before != run:
            if has_work:
                self._refuse(before, run)
            self._forget(before, run)
            shutil.rmtree(self.unfinished, ignore_errors=True)
            write_text(record, json.dumps(run))
        elif has_work:
            echo(f"going on with the unfinished run in {self.workdir}")

    def _forget(self, before: dict[str, Any], run: dict[str, Any]) -> None:
        """Removes what earlier runs left: all, or what `run` has not, if the settings are equal."""
        if not (self.workdir / "config.json").is_file():
            return
        metrics = self.workdir / "metrics.json"
        names = {row["picture"] for row in read_json(metrics).get("pictures", [])}
        names |= {*before.get("pictures", []), *self._inputs_there()}
        wholes = {row["photograph"] for row in read_json(metrics).get("photographs", [])}
        wholes |= {*before.get("photographs", [])}
        same = read_json(self.workdir / "config.json") == run["config"]
        kept = {*run["pictures"], *run["photographs"]} if same else set()
        for name in names - kept:
            for folder in _INPUTS:
                self._input_path(folder, name).unlink(missing_ok=True)
        for folder in _OUTPUTS:
            for path in (self.workdir / folder).glob("*"):
                name, _, sample = path.stem.rpartition("_")
                if name not in names | wholes or not sample.isdecimal():
                    continue
                if name not in kept or int(sample) >= run["config"]["num_samples"]:
                    path.unlink()
        for file in () if same else ("grid.png", "process.gif"):
            (self.workdir / file).unlink(missing_ok=True)
        metrics.unlink(missing_ok=True)  # last, as it tells the names

    def _inputs_there(self) -> set[str]:
        """Names of pictures of which all is there that a run writes."""
        stems = [{path.stem for path in (self.workdir / f).glob("*.png")} for f in _INPUTS]
        return set.intersection(*stems)

    def _refuse(self, before: dict[str, Any], run: dict[str, Any]) -> None:
        """Tells in what two runs differ."""
        holds = f"{self.workdir} holds an unfinished run"
        mend = f"choose another --workdir, or remove {self.unfinished} to give that run up"
        fields = sorted({*before["config"], *run["config"]})
        refuse_changes(before["config"], run["config"], fields, holds, mend)
        raise ConfigError(
            f"config.image: {holds} of other pictures, masks or weights than those that are there "
            f"now under the same names; {mend}"
        )

    def is_done(self, job: Job) -> bool:
        """Whether a sample was finished before."""
        task, sample = job
        return (task.name, sample) in self._finished

    def num_finished(self) -> int:
        """How many samples all processes have finished."""
        return len(self._samples())

    def save_inputs(self, tasks: Sequence[Task]) -> None:
        """Writes what goes in, at the size it goes in."""
        for task in tasks:
            shown = task.image, masked_preview(task.image, task.known), np.uint8(255) * task.known
            for folder, picture in zip(_INPUTS, shown, strict=True):
                save_image(self._input_path(folder, task.name), picture)

    def save_samples(self, sampled: Sampled, plan: ResampleSchedule) -> None:
        """Writes what is finished, and only then that it is."""
        if sampled.film:
            save_film(self.workdir / "process.gif", sampled.film, plan.film_stops(), plan)
        for (task, sample), picture in zip(sampled.jobs, sampled.pictures, strict=True):
            save_image(self._sample_path(task.name, sample), picture)
        for task, sample in sampled.jobs:
            size = len(sampled.jobs)
            row = {"picture": task.name, "sample": sample, "batch_size": size}
            append_line(self._log, {**row, "seconds": sampled.seconds / size})

    def save_photographs(self, jobs: Sequence[Job]) -> None:
        """Writes the photographs whose windows are all there since these were filled."""
        if not self._photographs:
            return
        of = {task.name: each for each in self._photographs for task in chain(*each.tasks)}
        there = self._samples()
        written = {(row["photograph"], row["sample"]) for row in self._rows("photograph")}
        for photograph, sample in dict.fromkeys((of[task.name], sample) for task, sample in jobs):
            windows = {(task.name, sample) for task in chain(*photograph.tasks)}
            if windows <= there and (photograph.name, sample) not in written:
                path = self.workdir / "inpainted" / f"{photograph.name}_{sample}"
                file = photograph.save(path, self.filled(photograph, sample))
                row = {"photograph": photograph.name, "sample": sample}
                append_line(self._log, {**row, "file": str(file.relative_to(self.workdir))})

    def filled(self, photograph: Photograph, sample: int) -> Filled:
        """What was filled of a photograph, by its tasks' names."""
        channels = photograph.tasks[0][0].image.shape[2]
        return lambda name: load_image(self._sample_path(name, sample), channels=channels)

    def finish(self, tasks: list[Task], sampler: Sampler, compile_seconds: float) -> None:
        """Writes grid.png and metrics.json, once all samples are there, and says where they are."""
        finished = {(row["picture"], row["sample"]): row for row in self._rows("picture")}
        num_samples = len(finished) // len(tasks)
        self.save_photographs([(task, j) for task in tasks for j in range(num_samples)])
        samples = [
            [load_image(self._sample_path(task.name, j), channels=task.image.shape[2])
             for j in range(num_samples)]
            for task in tasks
        ]  # fmt: skip
        picture = overview(
            [task.image for task in tasks],
            [masked_preview(task.image, task.known) for task in tasks],
            samples,
        )
        save_image(self.workdir / "grid.png", picture)
        rows = self._figures(tasks, samples, finished, whole(sampler.total_calls))
        metrics = summary(rows, [row["batch_size"] for row in finished.values()])
        metrics["compile_seconds"] = compile_seconds
        if self._photographs:
            metrics["photographs"] = self._rows("photograph")
        text = json.dumps(metrics, indent=2, allow_nan=False) + "\n"
        write_text(self.workdir / "metrics.json", text)
        shutil.rmtree(self.unfinished, ignore_errors=True)
        sweep(self.workdir)
        if self._photographs:
            echo(f"photographs at their own size: {self.workdir / 'inpainted'}")
        echo(
            f"{len(rows)} pictures in {metrics['seconds']:.0f} s "
            f"(and {compile_seconds:.0f} s to compile): {self.workdir / 'grid.png'}"
        )

    def _figures(
        self,
        tasks: list[Task],
        samples: list[list[np.ndarray]],
        finished: dict[tuple[str, int], dict[str, Any]],
        calls: int | float,
    ) -> list[dict[str, Any]]:
        """What metrics.json says of each sample."""
        return [
            {
                "picture": task.name,
                "sample": j,
                "file": str(self._sample_path(task.name, j).relative_to(self.workdir)),
                **compare(task, picture),
                "calls": calls,
                "seconds": (seconds := finished[task.name, j]["seconds"]),
                "seconds_per_call": seconds / calls,
            }
            for task, several in zip(tasks, samples, strict=True)
            for j, picture in enumerate(several)
        ]

    def _samples(self) -> set[tuple[str, int]]:
        return {(row["picture"], row["sample"]) for row in self._rows("picture")}

    def _rows(self, of: str) -> list[dict[str, Any]]:
        """What all processes have logged: of each "picture", or of each "photograph"."""
        return [row for row in read_lines(self.unfinished.glob("*.jsonl")) if of in row]

    def _sample_path(self, name: str, sample: int) -> Path:
        folder = "windows" if self._photographs else "inpainted"
        return self.workdir / folder / f"{name}_{sample}.png"

    def _input_path(self, folder: str, name: str) -> Path:
        return self.workdir / folder / f"{name}.png"


def summary(rows: Sequence[dict[str, Any]], batch_sizes: Sequence[int]) -> dict[str, Any]:
    """What metrics.json says, from a row for each sample and the size of the batch it was in."""
    names = ("psnr_hole", "ssim_hole", "psnr_known", "ssim_known")
    seconds = sum(row["seconds"] for row in rows)
    batches = sum(1 / size for size in batch_sizes)
    calls = rows[0]["calls"]
    return {
        "pictures": list(rows),
        "mean": {name: _mean([row[name] for row in rows]) for name in names},
        "calls": calls,
        "batch_size": max(batch_sizes),
        "seconds": seconds,
        "seconds_per_picture": seconds / len(rows),
        "seconds_per_batched_call": seconds / batches / calls,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }


def compare(task: Task, picture: np.ndarray) -> dict[str, float | str | None]:
    """PSNR (dB; "inf" where equal) and SSIM over the hole and over the known part."""
    scores: dict[str, float | str | None] = {}
    for part, where in (("hole", ~task.known), ("known", task.known)):
        ratio = psnr(task.image, picture, where)
        scores[f"psnr_{part}"] = "inf" if ratio is not None and math.isinf(ratio) else ratio
        scores[f"ssim_{part}"] = ssim(task.image, picture, where)
    return scores


def whole(calls: float) -> int | float:
    """Call equivalents as an int where they are one."""
    return int(calls) if calls.is_integer() else calls


def _mean(values: list[Any]) -> Any:
    """The mean of what is there; None if nothing is, "inf" if anything is."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    return "inf" if "inf" in there else sum(there) / len(there)
