"""Photographs of any size: where windows lie, and that only holes change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repaint_jax import load_pipeline
from repaint_jax.errors import ArgumentError
from repaint_jax.pictures.patches import patch_of_all, patches_of_holes
from repaint_jax.pictures.windows import Window, cut_out, put_back, window_of_all

SIDES = st.integers(3, 90)


@st.composite
def holes(draw):
    """A mask with one to four rectangular holes, and the size of a model's pictures."""
    height, width = draw(SIDES), draw(SIDES)
    known = np.ones((height, width), bool)
    for _ in range(draw(st.integers(1, 4))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        known[top : top + draw(st.integers(1, 30)), left : left + draw(st.integers(1, 30))] = False
    return known, (draw(st.sampled_from([8, 16])), draw(st.sampled_from([8, 12, 16])))


def all_patches(*args, **options):
    return [patch for turn in patches_of_holes(*args, **options) for patch in turn]


def meet(one, other):
    return (
        max(one.top, other.top) < min(one.bottom, other.bottom)
        and max(one.left, other.left) < min(one.right, other.right)
    )  # fmt: skip


@given(holes(), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([1.0, 2.0]))
def test_every_hole_lies_in_windows_of_the_models_aspect_ratio(case, margin, enlargement):
    known, shape = case
    turns = patches_of_holes(known, shape, margin=margin, enlargement=enlargement)
    covered = np.zeros(known.shape, bool)
    for box, window in (patch for turn in turns for patch in turn):
        assert not known[box.inside].all()
        covered[box.inside] = True
        assert window.top <= box.top < box.bottom <= window.bottom
        assert window.left <= box.left < box.right <= window.right
        assert abs(window.height * shape[1] - window.width * shape[0]) <= max(shape)
        for start, size, limit in zip(window[:2], window[2:], known.shape, strict=True):
            assert (start >= 0 and start + size <= limit) or size > limit
    assert covered[~known].all()
    for turn in turns:  # none sees what another one of its turn is to fill
        for i, one in enumerate(turn):
            assert not any(meet(one.window, other.box) for j, other in enumerate(turn) if j != i)


def test_two_holes_at_opposite_corners_have_windows_of_their_own_at_the_same_time():
    known = np.ones((300, 400), bool)
    known[:10, :20] = known[-5:, -5:] = False
    ((first, second),) = patches_of_holes(known, (32, 32), margin=0.5)
    assert first == ((0, 0, 10, 20), (0, 0, 32, 32))
    assert second == ((295, 395, 5, 5), (268, 368, 32, 32))


def test_thousands_of_specks_take_no_time():
    known = np.random.default_rng(0).random((1000, 1500)) > 0.01
    patches = all_patches(known, (32, 32))  # of 32 pixels at the most, as windows have 64
    assert 1000 * 1500 / 32**2 <= len(patches) <= 3 * 1000 * 1500 / 32**2


def test_holes_that_are_near_share_a_window():
    known = np.ones((300, 400), bool)
    known[100, 200] = known[120, 225] = known[100, 235] = False
    first, second = all_patches(known, (32, 32))  # 36 pixels would be too many
    assert {first.box, second.box} == {(100, 200, 1, 1), (100, 225, 21, 11)}


def test_a_scratch_is_cut_so_that_its_windows_are_fine_and_a_blob_is_not():
    known = np.ones((2000, 3000), bool)
    rows = np.linspace(200, 1800, 3000).astype(int)
    known[rows, np.arange(3000)] = False
    patches = all_patches(known, (64, 64))
    assert max(patch.window.height for patch in patches) == 128  # twice the model's
    assert 3000 / 64 <= len(patches) <= 2 * 3000 / 64
    assert len(patches_of_holes(known, (64, 64))) <= 3  # turns
    coarser = all_patches(known, (64, 64), enlargement=8)
    assert len(coarser) <= len(patches) / 3
    blob = np.ones((2000, 3000), bool)
    y, x = np.ogrid[:2000, :3000]
    blob[(y - 1000) ** 2 + (x - 1500) ** 2 < 300**2] = False
    ((only,),) = patches_of_holes(blob, (64, 64))
    assert only.box.height == only.box.width == 599
    half = np.ones((2000, 3000), bool)
    half[:, 1500:] = False
    assert len(all_patches(half, (64, 64))) == 1


def test_a_thick_band_is_cut_to_no_less_than_four_times_its_thickness():
    known = np.ones((600, 3000), bool)
    known[250:350] = False
    boxes = sorted(patch.box for patch in all_patches(known, (64, 64)))
    assert boxes == [(250, left, 100, 375) for left in range(0, 3000, 375)]


def test_a_margin_is_seen_on_every_side():
    known = np.ones((300, 400), bool)
    known[100:140, 200:280] = False
    ((patch,),) = patches_of_holes(known, (32, 32), margin=0.5)
    assert patch == ((100, 200, 40, 80), (40, 160, 160, 160))


def test_the_whole_is_mirrored_where_the_aspect_ratio_does_not_fit():
    assert window_of_all((100, 60), (32, 32)) == Window(0, -20, 100, 100)
    photo = np.arange(12, dtype=np.uint8).reshape(3, 4, 1) * 20
    known = np.ones((3, 4), bool)
    known[0, 0] = False
    cut, seen = cut_out(photo, known, Window(-1, 0, 4, 4), (4, 4))
    np.testing.assert_array_equal(cut[1:], photo)
    np.testing.assert_array_equal(cut[0], photo[0])
    np.testing.assert_array_equal(seen[:, 0], [False, False, True, True])


@given(holes(), st.integers(0, 2**32 - 1))
def test_only_the_hole_changes_and_all_of_it_does(case, seed):
    known, shape = case
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 200, (*known.shape, 3), np.uint8)
    result = photo.copy()
    for patch in all_patches(known, shape):
        put_back(result, known, patch, np.full((*shape, 3), 255, np.uint8))
    np.testing.assert_array_equal(result[known], photo[known])
    assert (result[~known] == 255).all()


def test_what_is_put_back_lies_where_it_was_cut_out():
    rows, columns = np.mgrid[:96, :128]
    photo = np.stack([rows * 2, columns, rows + columns], 2).astype(np.uint8)  # a smooth ramp
    known = np.ones((96, 128), bool)
    known[40:60, 50:90] = False
    for patch in (all_patches(known, (16, 16))[0], patch_of_all((96, 128), (16, 16))):
        cut, _ = cut_out(photo, np.ones_like(known), patch.window, (16, 16))
        result = np.where(known[..., None], photo, 0)
        put_back(result, known, patch, cut)
        assert np.abs(result.astype(int) - photo)[~known].max() <= 4


def test_a_scratch_of_one_pixel_is_unknown_to_the_model():
    known = np.ones((64, 3000), bool)
    known[30] = False
    photo = np.full((64, 3000, 3), 90, np.uint8)
    photo[30] = 255
    for patch in (*all_patches(known, (16, 16)), patch_of_all((64, 3000), (16, 16))):
        cut, seen = cut_out(photo, known, patch.window, (16, 16))
        assert not seen.all()
        assert (cut[seen] == 90).all()  # the scratch's white is nowhere to be seen


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline("celeba32")


PHOTO = np.random.default_rng(0).integers(60, 190, (90, 140, 3), np.uint8)
TWO_HOLES = np.ones((90, 140), bool)
TWO_HOLES[:9, :12] = TWO_HOLES[70:, 120:130] = False


def test_a_photograph_is_filled_at_its_own_size_one_window_after_the_other(pipeline):
    sampler = pipeline.sampler(num_steps=4, num_resamples=1)
    told = [*pipeline.stream_photo(PHOTO, TWO_HOLES, num_samples=2, sampler=sampler)]
    assert len({progress.window for progress in told}) == 2
    calls = [progress.calls for progress in told]
    assert calls == sorted(calls)
    assert calls[-1] == told[0].total == 8
    assert told[0].preview[0].shape == (32, 32, 3)
    pictures = np.stack(told[-1].pictures)
    assert pictures.shape == (2, 90, 140, 3)
    for picture in pictures:
        np.testing.assert_array_equal(picture[TWO_HOLES], PHOTO[TWO_HOLES])
    assert not np.array_equal(pictures[0], pictures[1])
    again = pipeline.inpaint_photo(PHOTO, TWO_HOLES, num_samples=2, sampler=sampler)
    np.testing.assert_array_equal(again, pictures)


def test_a_photograph_without_holes_is_as_it_was(pipeline):
    everything = np.ones_like(TWO_HOLES)
    for window in ("hole", "whole"):
        (same,) = pipeline.inpaint_photo(PHOTO, everything, window=window)
        np.testing.assert_array_equal(same, PHOTO)


def test_a_hole_much_larger_than_the_models_pictures_is_told(pipeline):
    known = np.ones((90, 140), bool)
    known[5:85, 30:110] = False
    sampler = pipeline.sampler(num_steps=2, num_resamples=1)
    with pytest.warns(UserWarning, match=r"32x32 pixels are enlarged 4.4 times"):
        (filled,) = pipeline.inpaint_photo(PHOTO, known, sampler=sampler)
    assert (filled != PHOTO)[~known].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": PHOTO[..., :1]}, r"image: expected uint8\[H, W, 3\]; got uint8\[90, 140, 1\]"),
        ({"image": PHOTO / 255}, "image: expected uint8"),
        ({"known": TWO_HOLES[:5]}, r"known: expected bool\[90, 140\]"),
        ({"window": "all"}, "window: hole or whole, not 'all'"),
        ({"margin": -1}, "margin: at least 0, not -1"),
        ({"num_samples": 0}, "num_samples: at least 1"),
        ({"key": "now"}, "key: expected a seed"),
    ],
)
def test_what_does_not_fit_is_said(pipeline, change, message):
    with pytest.raises(ArgumentError, match=message):
        pipeline.inpaint_photo(**{"image": PHOTO, "known": TWO_HOLES, **change})
