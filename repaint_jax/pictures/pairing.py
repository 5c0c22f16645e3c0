"""Which mask belongs to which picture, by the files' names; order never decides."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from os.path import abspath
from pathlib import Path

from repaint_jax.errors import ImageError
from repaint_jax.pictures.finding import PathLike, find_images
from repaint_jax.pictures.naming import normal_form
from repaint_jax.runtime.files import expanded, in_text

_AFTER = re.compile(r"(.+)[_\-. ]mask[_\-]?[0-9]*", re.IGNORECASE)  # LaMa's NAME_mask001
_BEFORE = re.compile(r"mask[0-9]*[_\-. ](.+)", re.IGNORECASE)


def find_masks(images: Sequence[Path], mask: PathLike) -> list[Path]:
    """Each picture's mask: a file for all, or of a folder or a pattern the one of its name.

    Raises:
        ImageError: there are none, or as `pair_masks` says.
    """
    path = expanded(mask)
    return [path] * len(images) if path.is_file() else pair_masks(images, find_images(mask))


def without_masks(images: Sequence[Path], mask: PathLike) -> list[Path]:
    """Those files that are pictures, where their masks lie in the same folder.

    Left out are a file that is the mask of all, and masks named after another of the files.
    """
    path = expanded(mask)
    if path.is_file():
        return [image for image in images if abspath(image) != abspath(path)] or list(images)
    masks = {*map(abspath, find_images(mask))}
    stems = {normal_form(image.stem) for image in images}
    return [image for image in images if not (abspath(image) in masks and stems & _stripped(image))]


def pair_masks(images: Sequence[Path], masks: Sequence[Path]) -> list[Path]:
    """Finds each picture's mask, the one of the same name.

    `face.png` goes with a mask `face.png`, or else one of any suffix called `face`, or else
    `face_mask`, `mask_face` or, as LaMa writes it, `face_mask000`, or else with itself, where what
    was erased is the hole. Masks without a picture are left out.

    Raises:
        ImageError: a picture has no mask, or several that suit as well.
    """
    found: dict[Path, Path] = {}
    for names_of, name_of in (
        (lambda mask: {mask.name}, lambda image: image.name),
        (lambda mask: {mask.stem}, lambda image: image.stem),
        (lambda mask: {normal_form(mask.name)}, lambda image: normal_form(image.name)),
        (lambda mask: {normal_form(mask.stem)}, lambda image: normal_form(image.stem)),
        (_stripped, lambda image: normal_form(image.stem)),
    ):
        taken = {*found.values()}
        suiting = _by_name([mask for mask in masks if mask not in taken], names_of)
        for image in images:
            others = [
                mask for mask in suiting.get(name_of(image), []) if abspath(mask) != abspath(image)
            ]
            if image not in found and others:
                found[image] = _only(image, others)
    places = {*map(abspath, masks)}
    for image in images:
        if abspath(image) in places:
            found.setdefault(image, image)
    missing = [in_text(image.name) for image in images if image not in found]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ImageError(
            f"{', '.join(missing[:3])}{more}: no mask of that name among {len(masks)} masks for "
            f"{len(images)} pictures: name each mask like its picture, or give one file for all"
        )
    return [found[image] for image in images]


def _by_name(masks: Sequence[Path], names_of: Callable[[Path], set[str]]) -> dict[str, list[Path]]:
    """The masks under each of their names."""
    found: dict[str, list[Path]] = {}
    for mask in masks:
        for name in names_of(mask):
            found.setdefault(name, []).append(mask)
    return found


def _only(image: Path, masks: Sequence[Path]) -> Path:
    if len(masks) > 1:
        raise ImageError(
            f"{image.name}: a picture needs one mask, but {masks[0]} and {masks[1]} are both named "
            "after it: remove one of them"
        )
    return masks[0]


def _stripped(mask: Path) -> set[str]:
    """The names of pictures after which a mask may be named."""
    stem = normal_form(mask.stem)
    matches = [pattern.fullmatch(stem) for pattern in (_AFTER, _BEFORE)]
    return {match[1] for match in matches if match}
