"""Results of two things never share a name, and every name is good for a file."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repaint_jax.errors import ImageError
from repaint_jax.pictures.masks import MASKS
from repaint_jax.pictures.naming import mask_labels, normal_form, result_names
from repaint_jax.runtime.files import expanded

NOT_UTF8 = b"caf\xe9".decode("utf-8", "surrogateescape")
NASTY = [
    "a", "A", "a_png", "a.b", "a_b", "cafe\u0301", "caf\xe9", NOT_UTF8, "CON", "nul", "...", " ",
    "x ", "x.", "a\nb", "a\\nb", "a%0Ab", "<img src=x onerror=alert(1)>", "&amp;", "'\"", "|",
    "-rf", "~", "$HOME", "a_0", "a_1_0", "%s{}", "\u202egnp", "😀", "é" * 110, "é" * 110 + "x",
    "n" * 236,
]  # fmt: skip

names = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1),
    st.binary(min_size=1).map(
        lambda some: some.translate(None, b"/\0").decode("utf-8", "surrogateescape") or "x"
    ),
).map(lambda name: name.encode("utf-8", "surrogateescape")[:240].decode("utf-8", "surrogateescape"))
files = st.lists(
    st.tuples(names, st.sampled_from([".png", ".jpg", ".PNG"])).map("".join), unique=True
)


def forms(names):
    """What a file system may take for the same."""
    return {unicodedata.normalize("NFC", name).casefold() for name in names}


@given(files)
def test_no_two_pictures_share_a_name_in_results(files):
    given_ = [Path(folder, file) for file in files for folder in ("in", "out/in", "/x/out")]
    made = result_names(given_)
    assert len(forms(made)) == len(given_)
    made += result_names(given_[::3])
    for name in made:
        assert name
        assert "/" not in name
        assert len(os.fsencode(f"{name}_99999.png")) <= 255
        assert not {unicodedata.category(letter) for letter in name} & {"Cc", "Cs"}


def test_plain_names_stay_as_they_are():
    assert result_names([Path("x/a.png"), Path("x/b c.v2.jpg"), Path("ü.png")]) == [
        "a", "b c.v2", "ü",
    ]  # fmt: skip
    assert result_names([Path("a.png"), Path("a.jpg"), Path("b.png")]) == ["a_png", "a_jpg", "b"]


def test_names_that_are_no_text_or_too_long_are_written_in_a_way_that_is():
    long = "é" * 125
    made = result_names([Path(f"{NOT_UTF8}.png"), Path("a\nb.png"), Path(f"{long}.png")])
    assert made[:2] == ["caf%E9", "a%0Ab"]
    assert made[2].startswith("é" * 110)
    assert len(made[2].encode()) <= 240


def test_names_that_are_alike_to_some_file_system_get_numbers():
    made = result_names([Path("caf\xe9.png"), Path("cafe\u0301.png"), Path("b.png"), Path("B.png")])
    assert made[0].startswith("café-")
    assert made[1].startswith("café-")
    assert len(forms(made)) == 4


def test_a_name_does_not_depend_on_where_its_file_lies():
    assert result_names([Path("x/a.png"), Path("x/A.png")]) == result_names(
        [Path("y/a.png"), Path("y/A.png")]
    )


def test_files_of_one_name_are_told_apart_by_their_folders():
    paths = [Path(p) for p in ("d/one/f.png", "d/two/f.png", "d/g.png", "e.zip/one/f.png")]
    assert result_names(paths) == ["d_one_f", "two_f", "g", "e_zip_one_f"]


def test_one_path_twice_is_refused():
    with pytest.raises(ImageError, match=r"one/face\.png: two pictures of one name.*rename one"):
        result_names([Path("one/face.png"), Path("a.png"), Path("one/face.png")])


# Masks.


def labels(*masks):
    return mask_labels(masks, MASKS.__contains__)


def test_masks_are_called_by_their_short_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("scratch.png").touch()
    Path("thick").mkdir()
    assert labels("half", "scratch.png", "thick", "faces/*.png", "faces/*_mask.png") == [
        "half", "scratch", "thick", "faces", "mask",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        (("masks.v1", "masks.v2"), ["masks_v1", "masks_v2"]),
        (("x/masks", "y/masks"), ["x_masks", "y_masks"]),
        (("half", "half.png"), ["half", "half_png"]),
        (("x/*.png", "y/*.png"), ["x", "y"]),
    ],
)
def test_masks_that_would_share_a_label_get_longer_ones(tmp_path, monkeypatch, masks, expected):
    monkeypatch.chdir(tmp_path)
    Path("half.png").touch()
    made = labels(*masks)
    assert len(forms(made)) == len(masks)
    assert made == expected


def test_a_mask_given_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("half.png").touch()
    for masks in (("half", "half"), ("half.png", "./half.png"), ("x/../half.png", "half.png")):
        with pytest.raises(ImageError, match="this mask is given twice: leave one of them out"):
            labels(*masks)


parts = names | st.sampled_from(["*", "*.png", "masks", "x", "y"])
places = st.lists(
    st.lists(parts, min_size=1, max_size=3).map("/".join) | st.sampled_from(sorted(MASKS)),
    unique_by=lambda place: place if place in MASKS else str(expanded(place).resolve()),
)


@given(places)
def test_no_two_masks_share_a_label(places):
    made = labels(*places)
    assert len(forms(made)) == len(places)
    assert all(Path(name).name == name and len(os.fsencode(name)) <= 255 for name in made)


def test_a_normal_form_is_of_text_whatever_the_locale_makes_of_bytes():
    as_ascii = "café".encode().decode("ascii", "surrogateescape")
    assert normal_form(as_ascii) == normal_form("cafe\u0301") == "café"
