"""The folder of a run: what is written where."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from repaint_jax.files import replacing, workdir_errors
from repaint_jax.grids import masked_preview, overview
from repaint_jax.images import save_image
from repaint_jax.metrics import psnr, ssim
from repaint_jax.plots import save_film
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.sampling import Sampled, Task


class Results:
    """Writes a run into its folder, each file whole or not at all.

    inpainted/NAME_SAMPLE.png, original/NAME.png, masked/NAME.png, known_mask/NAME.png, grid.png,
    process.gif, metrics.json and config.json.
    """

    def __init__(self, workdir: Path, config: str):
        """Makes the folder and writes config.json, before any time is spent on sampling.

        Raises:
            OSError: the folder cannot be written.
        """
        self.workdir = workdir
        with workdir_errors(workdir), replacing(workdir / "config.json") as temporary:
            temporary.write_text(config + "\n")

    def save_inputs(self, tasks: list[Task]) -> None:
        """Writes what goes in, at the size it goes in."""
        for task in tasks:
            file = f"{task.name}.png"
            save_image(self.workdir / "original" / file, task.image)
            save_image(self.workdir / "masked" / file, masked_preview(task.image, task.known))
            save_image(self.workdir / "known_mask" / file, np.uint8(255) * task.known)

    def save_sample(self, task: Task, sample: int, picture: np.ndarray) -> None:
        """Writes one result."""
        save_image(self._sample_path(task, sample), picture)

    def finish(self, tasks: list[Task], sampled: Sampled, plan: ResampleSchedule) -> None:
        """Writes grid.png, process.gif and metrics.json, and says where they are."""
        num_samples = len(sampled.pictures) // len(tasks)
        picture = overview(
            [task.image for task in tasks],
            [masked_preview(task.image, task.known) for task in tasks],
            [[sampled.pictures[i, j] for j in range(num_samples)] for i in range(len(tasks))],
        )
        save_image(self.workdir / "grid.png", picture)
        save_film(self.workdir / "process.gif", sampled.film, sampled.stops, plan)
        metrics = self._metrics(tasks, sampled, plan)
        with replacing(self.workdir / "metrics.json") as temporary:
            temporary.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
        print(
            f"{len(sampled.pictures)} pictures in {sampled.seconds:.0f} s "
            f"(and {sampled.compile_seconds:.0f} s to compile): {self.workdir / 'grid.png'}"
        )

    def _sample_path(self, task: Task, sample: int) -> Path:
        return self.workdir / "inpainted" / f"{task.name}_{sample}.png"

    def _metrics(
        self, tasks: list[Task], sampled: Sampled, plan: ResampleSchedule
    ) -> dict[str, Any]:
        calls = plan.num_model_calls
        seconds = sampled.seconds / len(sampled.pictures)
        rows = []
        for (i, j), picture in sorted(sampled.pictures.items()):
            task = tasks[i]
            rows.append(
                {
                    "picture": task.name,
                    "sample": j,
                    "file": str(self._sample_path(task, j).relative_to(self.workdir)),
                    **compare(task, picture),
                    "calls": calls,
                    "seconds": seconds,
                    "seconds_per_call": seconds / calls,
                }
            )
        names = ("psnr_hole", "ssim_hole", "psnr_known", "ssim_known")
        return {
            "pictures": rows,
            "mean": {name: _mean([row[name] for row in rows]) for name in names},
            "calls": calls,
            "batch_size": sampled.batch_size,
            "seconds": sampled.seconds,
            "seconds_per_picture": seconds,
            "seconds_per_batched_call": sampled.seconds / sampled.batches / calls,
            "compile_seconds": sampled.compile_seconds,
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


def _mean(values: list[Any]) -> Any:
    """The mean of what is there; None if nothing is, "inf" if anything is."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    return "inf" if "inf" in there else sum(there) / len(there)
