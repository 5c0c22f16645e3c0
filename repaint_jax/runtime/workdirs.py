"""A folder of results belongs to one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from repaint_jax.errors import ProcessError, mended_by
from repaint_jax.runtime.files import workdir_errors

_PATIENCE = 1.0  # seconds; one that is just ending is waited for


@contextmanager
def held(workdir: Path, index: int = 0) -> Iterator[None]:
    """Keeps other processes of the same number out of a folder of results.

    Makes the folder; it is gone again if nothing came into it. A process that is killed keeps
    nobody out.

    Args:
        workdir: the folder.
        index: this process's number among those that share the run.

    Raises:
        ProcessError: such a process is at work there.
        OSError: the folder cannot be written.
    """
    made = [place for place in (workdir, *workdir.parents) if not place.exists()]
    path = workdir / f".{index}.lock"
    lock = FileLock(path)
    with workdir_errors(workdir):
        while not lock.is_locked:
            workdir.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=_PATIENCE)
            except FileNotFoundError:
                continue  # one that was just ending has removed the folder
            except Timeout as error:
                fault = ProcessError(
                    f"{workdir}: another process is at work there: wait until it is done, or "
                    "choose another folder"
                )
                raise mended_by("workdir", fault) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the release: who waits sees that it is gone
        lock.release()
        with suppress(OSError):  # something came into it
            for place in made:
                place.rmdir()
