"""A folder of results belongs to one run, and to one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from repaint_jax.errors import ConfigError, ProcessError, mended_by
from repaint_jax.files import workdir_errors

_PATIENCE = 1.0  # seconds; one that is just ending is waited for

# What a run of each kind leaves in its folder from the start.
_SIGNS = {
    "inpainting run": ("unfinished", "metrics.json"),
    "evaluation": ("evaluation.json",),
    "training run": ("checkpoints",),
}


def refuse_other_kinds(workdir: Path, kind: str) -> None:
    """Raises ConfigError if a folder holds results of another kind, with files of the same names.

    Args:
        workdir: the folder.
        kind: what is about to begin: "inpainting run", "evaluation" or "training run".
    """
    for other, signs in _SIGNS.items():
        if other != kind and any((workdir / sign).exists() for sign in signs):
            fault = ConfigError(
                f"{workdir} holds results of another kind ({other}): choose another folder"
            )
            raise mended_by("workdir", fault)


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
    try:
        with ExitStack() as stack:
            with workdir_errors(workdir):
                try:
                    stack.enter_context(_locked(workdir / f".{index}.lock", _PATIENCE))
                except Timeout as error:
                    fault = ProcessError(
                        f"{workdir}: another process is at work there: wait until it is done, or "
                        "choose another folder"
                    )
                    raise mended_by("workdir", fault) from error
            yield
    finally:
        with suppress(OSError):  # something came into it
            for place in made:
                place.rmdir()


def one_at_a_time(workdir: Path) -> AbstractContextManager[None]:
    """Lets the processes that share a folder of results in one after the other."""
    return _locked(workdir / ".claim.lock")


@contextmanager
def _locked(path: Path, patience: float = -1.0) -> Iterator[None]:
    """Holds the lock of that file, waited for so many seconds, or for ever; makes its folder."""
    lock = FileLock(path)
    while not lock.is_locked:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # one that was just ending has removed the folder
            lock.acquire(timeout=patience)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the release: who waits sees that it is gone
        lock.release()
