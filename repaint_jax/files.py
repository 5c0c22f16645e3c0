"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to; renames it when all went well.

    Makes the folder if need be. A writer that is killed leaves the old file, or none.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # No other machine has the name, either: in containers, all have the same process number.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
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
