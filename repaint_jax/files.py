"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from repaint_jax.errors import mended_by

_EDGE = 1 << 20  # bytes at either end of a file that tell it from others


def expanded(name: str | Path) -> Path:
    """The path with ~ or ~user as the home folder and $NAME as that variable.

    What there is no user or variable for stays as it is, and so does a $ in the name of a file that
    is there.

    Raises:
        FileNotFoundError: no file can have such a name.
    """
    if "\0" in str(name):
        raise FileNotFoundError(f"there is no file {str(name)!r}; names cannot hold a zero byte")
    path = os.path.expanduser(name)
    return Path(path if os.path.lexists(path) else os.path.expandvars(path))


def in_text(name: str | Path) -> str:
    r"""A file's name to show, in one line; bytes that are no text are written as \xe9."""
    text = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def beside(name: str) -> Path:
    """The folder `name` beside the package in a clone, which is in the package when installed."""
    package = Path(__file__).parent
    return package / name if (package / name).is_dir() else package.parent / name


@contextmanager
def replacing(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to; renames it when all went well.

    Makes the folder if need be. A writer that is killed leaves the old file, or none; `durable`
    says so of a machine that loses power, too, and takes a moment more.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the path's own name, which may be as long as a name can be.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # what hindered the writing is the error to see
            temporary.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8, wherever the program runs, as `replacing` does; escapes what is no text."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_json(path: Path) -> dict[str, Any]:
    """What a file of JSON holds; nothing if it is not there or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


@contextmanager
def workdir_errors(workdir: Path) -> Iterator[None]:
    """Says of what cannot be written there that another folder would help."""
    try:
        yield
    except OSError as error:
        fault = OSError(f"cannot write to {workdir} ({error.strerror}): choose another folder")
        raise mended_by("workdir", fault) from error


def sweep(folder: Path) -> None:
    """Removes what killed writers left there; for when nobody writes any more."""
    for temporary in folder.rglob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def append_line(path: Path, row: dict[str, Any]) -> None:
    """Adds a line of JSON to a file, after whatever a killed writer left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as lines:
        lines.write("\n" + json.dumps(row))


def read_lines(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The lines of such files; one that was cut off by a kill is left out."""
    for path in sorted(paths):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(json.JSONDecodeError):
                yield json.loads(line)


def fingerprint(path: str | Path) -> str:
    """Tells one checkpoint from another without reading all of it.

    Of a file its size, first and last mebibyte; of a folder all its files.
    """
    digest = hashlib.blake2b(digest_size=16)
    path = Path(path)
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as content:
            digest.update(content.read(_EDGE))
            content.seek(max(0, size - _EDGE))
            digest.update(content.read(_EDGE))
    return digest.hexdigest()
