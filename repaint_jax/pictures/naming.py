"""Names of results: made of the files' names, good for a file, and no two of them alike.

A file's name is bytes that need not be text. Names are compared as text in one normal form (NFC),
as one letter may be written in two ways: a Mac's zip has e and an accent where others have é.
Results differ in more than capitals, which some file systems do not tell apart.
"""

from __future__ import annotations

import os
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from repaint_jax.errors import ImageError
from repaint_jax.runtime.files import expanded

# A file system takes 255 bytes; "_99999.png" comes after.
_LONGEST = 240
_WILD = re.compile(r"[*?\[\]]+")


def normal_form(name: str) -> str:
    """A file's name as text to compare: NFC; bytes that are no UTF-8 stay surrogates."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", text)


def result_names(paths: Sequence[Path]) -> list[str]:
    """A name for each picture's results, as short as is unique.

    That is its stem, or else its whole file name, or that with the folders around it. Control
    characters and bytes that are no text are written as %0A, a long name is cut, and names that are
    alike after all get a number made of the file's own.

    Raises:
        ImageError: a path is there twice, as in a zip of two files of one name.
    """
    if twice := [path for path, count in Counter(paths).items() if count > 1]:
        raise ImageError(
            f"{twice[0]}: two pictures of one name, whose results would overwrite each other: "
            "rename one of them"
        )
    stems = [(*path.parent.parts, path.stem) for path in paths]
    deepest = max(map(len, stems), default=0)
    choices = [[_clean(parts[-1]) for parts in stems]]
    choices += [[_clean(path.name.replace(".", "_")) for path in paths]]
    choices += [
        [_clean("_".join(map(_part, p[-n:]))) for p in stems] for n in range(2, deepest + 1)
    ]
    for number in (lambda path: _number(path.name), lambda path: _number(str(path))):
        choices.append(
            [
                f"{_cut(name, _LONGEST - 9)}-{number(path)}"
                for name, path in zip(choices[0], paths, strict=True)
            ]
        )
    return _distinct(choices)


def mask_labels(masks: Sequence[str], generated: Callable[[str], bool]) -> list[str]:
    """A folder's name for each mask: a generator's or a file's name, as short as is unique.

    Args:
        masks: generators' names, files, folders or patterns.
        generated: whether a name is a generator's.

    Raises:
        ImageError: one is given twice.
    """
    places = [mask if generated(mask) else str(expanded(mask).resolve()) for mask in masks]
    for i, (mask, place) in enumerate(zip(masks, places, strict=True)):
        if place in places[:i]:
            raise ImageError(f"{mask}: this mask is given twice: leave one of them out")
    labels = [
        [mask] if generated(mask) else _labels(place)
        for mask, place in zip(masks, places, strict=True)
    ]
    deepest = max(map(len, labels), default=0)
    return _distinct([[some[min(i, len(some) - 1)] for some in labels] for i in range(deepest)])


def _labels(place: str) -> list[str]:
    """What a file, a folder or a pattern may be called, the shortest first."""
    path = Path(place)
    wild = bool(_WILD.search(path.name))
    stem = _part(path.stem if path.is_file() or wild else path.name)
    whole = path.parent if wild and not stem else path  # of "masks/*.png" the folder counts
    parts = [part for part in map(_part, whole.parts) if part] or ["masks"]
    growing = ["_".join(parts[-depth:]) for depth in range(1, len(parts) + 1)]
    names = [*([stem] if stem else []), *growing, f"{parts[-1]}-{_number(place)}"]
    return list(map(_clean, names))


def _part(part: str) -> str:
    """A part of a path as part of a name, without wildcards, dots and slashes."""
    return _WILD.sub("", part).replace(".", "_").replace(os.sep, "").strip("_- ")


def _distinct(choices: Sequence[Sequence[str]]) -> list[str]:
    """For each thing the first of its names that nothing else may be called.

    Args:
        choices: several lists of names for the same things; in the last all differ.
    """
    names = list(choices[0]) if choices else []
    for further in choices[1:]:
        forms = [normal_form(name).casefold() for name in names]
        taken = {form for form in forms if forms.count(form) > 1}
        if not taken:
            break
        names = [
            new if form in taken else name
            for name, new, form in zip(names, further, forms, strict=True)
        ]
    return names


def _clean(name: str) -> str:
    """The name as text, in the file system's own spelling, not too long."""
    text = "".join(
        "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogateescape"))
        if unicodedata.category(letter) in ("Cc", "Cs")
        else letter
        for letter in normal_form(name)
    )
    if len(text.encode()) > _LONGEST:
        text = f"{_cut(text, _LONGEST - 9)}-{zlib.crc32(text.encode()):08x}"
    return os.fsdecode(text.encode())


def _cut(name: str, length: int) -> str:
    """At most `length` bytes of a name, and no part of a letter."""
    return name.encode("utf-8", "surrogateescape")[:length].decode("utf-8", "ignore")


def _number(name: str) -> str:
    return f"{zlib.crc32(name.encode('utf-8', 'surrogateescape')):08x}"
