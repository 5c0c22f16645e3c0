"""The state of a run on disk, through orbax: a checkpoint is there as a whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from repaint_jax.errors import mended_by
from repaint_jax.files import workdir_errors
from repaint_jax.training.step import TrainState

__all__ = ["Checkpoints"]

_MARGIN = 1.1  # of a checkpoint's files over its arrays


class Checkpoints:
    """The last few states of a run, in `folder`/STEP."""

    def __init__(self, folder: Path, keep: int = 2):
        """Makes the folder if need be; `keep` is how many states stay.

        Raises:
            OSError: it cannot be made.
        """
        self.folder = folder.absolute()
        with workdir_errors(folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, enable_async_checkpointing=False, cleanup_tmp_directories=True
            ),
        )

    @property
    def latest(self) -> int | None:
        """The last step that was saved."""
        return self._manager.latest_step()

    def save(self, state: TrainState) -> None:
        """Writes a state, then removes the oldest.

        Raises:
            OSError: there is no room for it; those before it are as they were.
        """
        # A full disk would end in orbax's traceback, and tensorstore's threads may outlive it.
        self.check_room(state)
        self._manager.save(int(state.step), args=ocp.args.StandardSave(_as_dict(state)))

    def restore(self, like: TrainState) -> TrainState:
        """The last state that was saved, or `like`, a state of the same shapes and devices.

        Raises:
            ValueError: the state on disk is that of another network.
        """
        if self.latest is None:
            return like
        wanted = _as_dict(like)
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
        found = self._manager.restore(self.latest, args=ocp.args.StandardRestore(target))
        return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted])

    def check_room(self, state: TrainState) -> None:
        """Looks whether a checkpoint can be written.

        Raises:
            OSError: the disk has no room for it, or the folder is read-only.
        """
        size = int(_MARGIN * sum(array.nbytes for array in jax.tree.leaves(state)))
        free = shutil.disk_usage(self.folder).free
        if free < size:
            reason = f"{free / 1e6:.0f} MB are free"
        elif not os.access(self.folder, os.W_OK):
            reason = "the folder is read-only"
        else:
            return
        fault = OSError(
            f"{self.folder}: a checkpoint of {size / 1e6:.0f} MB cannot be written, {reason}: "
            "make room and run the same command again, or choose another folder"
        )
        raise mended_by("workdir", fault)


def _as_dict(state: TrainState) -> dict[str, Any]:
    """Arrays by path: orbax keeps dictionaries best."""
    leaves, _ = jax.tree.flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): x for path, x in leaves}
