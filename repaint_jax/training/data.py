"""Training pictures: a folder, a zip or an npz as uint8[N, H, W, C], decoded once.

If they are too many for memory, files are decoded anew each time they are drawn, through grain.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from repaint_jax.errors import DataError, ImageError
from repaint_jax.pictures.datasets import (
    File,
    PictureShape,
    find_files,
    find_paths,
    fitted,
    holds_arrays,
    read_arrays,
    read_file,
)
from repaint_jax.runtime.console import Bar

__all__ = ["Data", "Stream", "load_data"]

ARRAY_NAMES = ("images", "x_train", "train_images", "train", "x", "arr_0")


class Data(NamedTuple):
    """What to train on, and pictures held out from it, uint8[V, H, W, C]."""

    train: np.ndarray | Stream
    validation: np.ndarray


def load_data(
    data: str,
    shape: PictureShape,
    *,
    num_validation: int,
    in_memory: bool | None = None,
    seed: int = 0,
) -> Data:
    """Reads the pictures that `data` names, cropped centrally and resized to `shape`.

    Args:
        data: a folder (searched with its subfolders), a zip, an npz, or a pattern of pictures or
            zips such as "faces_*.zip". An npz holds uint8[N, H, W] or [N, H, W, C] under one of
            `ARRAY_NAMES`, or as its only array.
        shape: (height, width, channels); 1 channel is grey, 3 are colours.
        num_validation: pictures to hold out, spread evenly over the whole.
        in_memory: whether to decode everything now; None does so if it fits.
        seed: of the order in which a stream draws.

    Raises:
        DataError: there is nothing there, or too little of it can be used.
        ImageError: there are no pictures there.

    Warns:
        UserWarning: which pictures were skipped because they cannot be read.
    """
    paths = find_paths(data)
    if holds_arrays(paths):
        pictures = fitted(read_arrays(paths[0], ARRAY_NAMES), shape)
    else:
        files = find_files(data)
        num_bytes = len(files) * int(np.prod(shape))
        if not (_fits(num_bytes) if in_memory is None else in_memory):
            held = _held_out(len(files), num_validation)
            rest = [file for i, file in enumerate(files) if i not in set(held)]
            return Data(Stream(rest, shape, seed), _decode([files[i] for i in held], shape))
        pictures = _decode(files, shape)
    held = _held_out(len(pictures), num_validation)
    return Data(np.delete(pictures, held, axis=0), pictures[held])


@dataclass(frozen=True)
class Stream:
    """Pictures that are decoded whenever they are drawn.

    Picture i of a run is a function of `seed` and i alone, so that a run can go on anywhere.
    """

    files: Sequence[File]
    shape: PictureShape
    seed: int

    def batches(self, first: int, last: int, batch_size: int) -> Iterator[np.ndarray]:
        """The batches of updates first .. last - 1, uint8[batch_size, H, W, C] each."""
        try:
            import grain
        except ImportError as error:
            raise DataError(
                "the pictures do not fit into memory, and to stream them needs grain: "
                "pip install 'repaint-jax[training]'"
            ) from error
        rows = grain.MapDataset.range(first * batch_size, last * batch_size)
        options = grain.ReadOptions(
            num_threads=os.cpu_count() or 1, prefetch_buffer_size=4 * batch_size
        )
        return iter(rows.map(self.draw).batch(batch_size).to_iter_dataset(options))

    def draw(self, i: int) -> np.ndarray:
        """Picture i of a run, uint8[H, W, C]; another one for each that cannot be read."""
        rng = np.random.default_rng([self.seed, i])
        for _ in range(100):
            file = self.files[int(rng.integers(len(self.files)))]
            try:
                return read_file(file, self.shape)
            except ImageError as error:
                warnings.warn(f"skipped: {error}", stacklevel=2)
        raise DataError(f"none of 100 pictures drawn from {len(self.files)} can be read")


def _decode(files: Sequence[File], shape: PictureShape) -> np.ndarray:
    """All pictures that can be read, uint8[N, H, W, C]."""
    broken: list[str] = []

    def read(file: File) -> np.ndarray | None:
        try:
            return read_file(file, shape)
        except ImageError as error:
            broken.append(str(error))
            return None

    with ThreadPoolExecutor() as pool:
        decoded = pool.map(read, files)
        bar = Bar(decoded, "reading pictures", total=len(files), leave=False, delay=1)
        found = list(bar)
    pictures = [picture for picture in found if picture is not None]
    if broken:
        some = "; ".join(sorted(broken)[:3]) + "; ..." * (len(broken) > 3)
        message = f"{len(broken)} of {len(files)} pictures cannot be read: {some}"
        if not pictures:
            raise DataError(message)
        warnings.warn(f"skipped: {message}", stacklevel=2)
    return np.array(pictures, np.uint8).reshape(-1, *shape)


def _held_out(count: int, num_validation: int) -> np.ndarray:
    """Indices of `num_validation` of `count` pictures, spread evenly."""
    if count <= num_validation:
        raise DataError(
            f"{count} pictures are too few to train on and to hold out {num_validation} for "
            "validation: give more, or lower num_validation"
        )
    return (np.arange(num_validation) * count) // max(num_validation, 1)


def _fits(num_bytes: int) -> bool:
    """Whether the pictures leave three quarters of a device's memory (or the machine's) free."""
    stats = jax.local_devices()[0].memory_stats() or {}
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return num_bytes < min(physical, stats.get("bytes_limit", physical)) / 4
