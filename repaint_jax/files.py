"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def expanded(name: str | Path) -> Path:
    """The path with ~ or ~user as the home folder; as it is if there is no such user.

    Raises:
        FileNotFoundError: no file can have such a name.
    """
    if "\0" in str(name):
        raise FileNotFoundError(f"there is no file {str(name)!r}; names cannot hold a zero byte")
    return Path(os.path.expanduser(name))


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to; renames it when all went well.

    Makes the folder if need be. A writer that is killed leaves the old file, or none.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # what hindered the writing is the error to see
            temporary.unlink()


@contextmanager
def workdir_errors(workdir: Path) -> Iterator[None]:
    """Says of what cannot be written there that another --workdir would help."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"cannot write to {workdir} ({error.strerror}): choose another --workdir"
        ) from error
