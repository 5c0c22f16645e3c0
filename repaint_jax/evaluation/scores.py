"""A row of figures for every inpainted picture of a folder."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repaint_jax.errors import ImageError
from repaint_jax.evaluation.folder import Folder
from repaint_jax.evaluation.kid import kid_by_picture
from repaint_jax.evaluation.lpips import lpips, pooled_features
from repaint_jax.pictures.datasets import fitted
from repaint_jax.pictures.images import load_image
from repaint_jax.pictures.mask_files import read_mask
from repaint_jax.pictures.metrics import psnr, roughness, ssim
from repaint_jax.pictures.resizing import resize_known
from repaint_jax.runtime.console import Bar

Row = dict[str, Any]
Seen = np.ndarray | None  # f64[2, F]: features of a result and of its original
_ENLARGED_BELOW = 128  # pixels a side, of pictures whose LPIPS is told at twice their size, too


def score_folder(folder: Folder) -> tuple[list[Row], list[str]]:
    """Compares every result with its original.

    Returns:
        A row each, in the order of methods, masks, pictures and samples; and one line for each
        file that cannot be used.
    """
    facts = {
        (line["method"], line["mask"], line["picture"], line["sample"]): line
        for line in folder.logged()
    }
    cells, faults, rows, features = [], [], [], []
    for method in folder.methods():
        for mask in folder.masks():
            found, unread = folder.samples(method, mask)
            faults += unread
            cells += [(method, mask, picture, files) for picture, files in found.items()]
    for method, mask, picture, files in Bar(cells, "scoring", unit="picture", delay=1):
        try:
            scores, seen = _score(folder, mask, picture, files)
        except ImageError as error:
            faults.append(str(error))
            continue
        for sample, score in zip(files, scores, strict=True):
            row = {"method": method, "mask": mask, "picture": picture, "sample": sample}
            file = str(files[sample].relative_to(folder.root))
            rows.append(facts.get(tuple(row.values()), row) | {"file": file} | score)
        features += seen
    _add_kid(rows, features)
    return rows, faults


def _add_kid(rows: list[Row], features: Sequence[Seen]) -> None:
    """KID of each method, mask and sample, told picture by picture."""
    together: dict[tuple[str, str, int], list[int]] = {}
    for i, row in enumerate(rows):
        row["kid"] = None
        together.setdefault((row["method"], row["mask"], row["sample"]), []).append(i)
    for several in together.values():
        seen = [each for i in several if (each := features[i]) is not None]
        if len(seen) < len(several):  # pictures too small
            continue
        pairs = np.stack(seen)  # [N, 2, F]
        values = kid_by_picture(pairs[:, 0], pairs[:, 1])
        if values is not None:
            for i, value in zip(several, values, strict=True):
                rows[i]["kid"] = float(value)


def _score(
    folder: Folder, mask: str, picture: str, files: dict[int, Path]
) -> tuple[list[Row], list[Seen]]:
    """The figures of each sample of one picture, and what KID needs to know."""
    original = load_image(folder.original(picture))
    known = resize_known(read_mask(folder.known_mask(mask, picture)), original.shape[:2])
    samples = np.stack([_result(file, original) for file in files.values()])
    originals = np.broadcast_to(original, samples.shape)
    alike, enlarged = lpips(originals, samples), _lpips_enlarged(original, samples)
    diversity = _diversity(samples)
    sharp = roughness(original, ~known)
    rows = [
        {
            "lpips": _ith(alike, i),
            "lpips_2x": _ith(enlarged, i),
            "psnr_hole": _finite(psnr(original, sample, ~known)),
            "psnr": _finite(psnr(original, sample)),
            "ssim_hole": ssim(original, sample, ~known),
            "ssim": ssim(original, sample),
            "sharpness": (roughness(sample, ~known) or 0.0) / sharp if sharp else None,
            "diversity": _ith(diversity, i),
            "spread_hole": _spread(sample[~known], np.delete(samples, i, axis=0)[:, ~known]),
            "known_error": _largest_error(original[known], sample[known]),
        }
        for i, sample in enumerate(samples)
    ]
    seen = pooled_features(np.concatenate([samples, original[None]]))
    if seen is None:
        return rows, [None] * len(rows)
    return rows, [np.stack([each, seen[-1]]) for each in seen[:-1]]


def _ith(figures: np.ndarray | None, i: int) -> float | None:
    return None if figures is None else float(figures[i])


def _lpips_enlarged(original: np.ndarray, samples: np.ndarray) -> np.ndarray | None:
    """LPIPS at twice the size, where small pictures leave AlexNet's last layers little to see."""
    if min(original.shape[:2]) >= _ENLARGED_BELOW:
        return None
    height, width, channels = original.shape
    both = fitted(np.concatenate([samples, original[None]]), (2 * height, 2 * width, channels))
    return lpips(np.broadcast_to(both[-1], both[:-1].shape), both[:-1])


def _diversity(samples: np.ndarray) -> np.ndarray | None:
    """Mean LPIPS of each sample to the others of its picture."""
    count = len(samples)
    one, other = np.triu_indices(count, 1)
    distances = lpips(samples[one], samples[other]) if count > 1 else None
    if distances is None:
        return None
    matrix = np.zeros((count, count))
    matrix[one, other] = distances
    return (matrix + matrix.T).sum(axis=1) / (count - 1)


def _spread(sample: np.ndarray, others: np.ndarray) -> float | None:
    """Root mean square difference to the other samples, in levels of 255."""
    if others.size == 0:
        return None
    return float(np.sqrt(np.mean((others.astype(float) - sample) ** 2)))


def _largest_error(original: np.ndarray, sample: np.ndarray) -> int | None:
    """Largest difference over the known part, in levels of 255: 0 if it was kept."""
    return int(np.abs(original.astype(int) - sample).max()) if original.size else None


def _finite(ratio: float | None) -> float | None:
    """Equal pictures have an infinite ratio, which has no mean: their row says None."""
    return None if ratio is not None and math.isinf(ratio) else ratio


def _result(path: Path, original: np.ndarray) -> np.ndarray:
    """A result, in the size of its original."""
    picture = load_image(path)
    if picture.shape != original.shape:
        raise ImageError(
            f"{path}: expected the size of its original, {original.shape[0]}x{original.shape[1]}, "
            f"got {picture.shape[0]}x{picture.shape[1]}: make it anew from the files in original/"
        )
    return picture


def as_lines(rows: list[Row]) -> str:
    """JSON lines."""
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
