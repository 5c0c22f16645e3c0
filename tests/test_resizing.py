"""Pictures and masks are resized together: what is unknown never colours what is known."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from repaint_jax.pictures.resizing import fit, resize_known, resize_masked

side = st.integers(1, 40)
shapes = st.tuples(side, side)


@st.composite
def masks(draw, shape):
    """Rectangles, lines and single pixels, or noise."""
    known = np.ones(shape, bool)
    for _ in range(draw(st.integers(1, 3))):
        top, left = (draw(st.integers(0, n - 1)) for n in shape)
        height, width = draw(st.integers(1, 12)), draw(st.sampled_from([1, 2, 12]))
        known[top : top + height, left : left + width] = False
    if draw(st.booleans()):
        known &= np.random.default_rng(draw(st.integers(0, 9))).random(shape) < 0.9
    return known


def overlaps(source, target):
    """bool[H, W, h, w]: whether a source pixel and a target pixel overlap, in exact numbers."""
    scale = min(Fraction(n, m) for n, m in zip(source, target, strict=True))
    parts = []
    for n, m in zip(source, target, strict=True):
        start = (n - m * scale) / 2
        parts.append(
            np.array(
                [
                    [max(i, start + k * scale) < min(i + 1, start + (k + 1) * scale)
                     for i in range(n)]
                    for k in range(m)
                ]
            )
        )  # fmt: skip
    return parts[0][:, None, :, None] & parts[1][None, :, None, :]


@given(shapes, shapes, st.data())
def test_a_pixel_is_unknown_exactly_where_any_source_pixel_is(source, target, data):
    known = data.draw(masks(source))
    both = overlaps(source, target)
    expected = ~(both & ~known).any((2, 3))
    resized = resize_known(known, target, source_shape=source)
    np.testing.assert_array_equal(resized, expected)
    kept = resize_known(known, target, source_shape=source, keep_partial=True)
    np.testing.assert_array_equal(kept, (both & known).any((2, 3)))


@given(shapes, shapes, st.booleans(), st.data())
def test_no_erased_colour_ever_shows_in_a_known_pixel(source, target, keep_partial, data):
    known = data.draw(masks(source))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    one, other = (rng.integers(0, 256, (*source, 3), np.uint8) for _ in range(2))
    other[known] = one[known]
    results = [resize_masked(p, known, target, keep_partial=keep_partial) for p in (one, other)]
    (one, where), (other, also) = results
    np.testing.assert_array_equal(where, also)
    np.testing.assert_array_equal(one[where], other[where])
    if not keep_partial:
        np.testing.assert_array_equal(where, resize_known(known, target, source_shape=source))


@given(shapes, shapes, st.booleans(), st.data())
def test_what_is_known_and_uniform_stays_as_it_is(source, target, keep_partial, data):
    known = data.draw(masks(source))
    picture = np.full((*source, 1), 0.3, np.float32)
    picture[~known] = data.draw(st.sampled_from([1.0, -1e6, np.nan, np.inf]))
    resized, where = resize_masked(picture, known, target, keep_partial=keep_partial)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized[where], 0.3, rtol=1e-4)


@given(shapes, shapes, st.integers(0, 99))
def test_few_known_pixels_are_not_blown_up_by_negative_weights(source, target, seed):
    rng = np.random.default_rng(seed)
    known = rng.random(source) < 0.1
    picture = rng.random((*source, 1))
    resized, where = resize_masked(picture, known, target, keep_partial=True)
    # The sum of a filter's absolute weights is below 2.4, and at least half of 1 is known.
    assert np.all(np.abs(resized[where] - 0.5) < 2.4)


@given(shapes, shapes, st.sampled_from([1, 3]), st.integers(0, 9))
def test_without_a_hole_a_picture_is_resized_as_ever(source, target, channels, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (*source, channels), np.uint8)
    resized, known = resize_masked(picture, np.ones(source, bool), target)
    alone = fit(Image.fromarray(picture[..., 0] if channels == 1 else picture), target)
    np.testing.assert_array_equal(resized, np.array(alone).reshape(*target, channels))
    assert known.all()


def test_beside_a_hole_a_photograph_is_nearer_to_the_truth_than_without_the_mask():
    from skimage.data import astronaut

    whole = astronaut()
    known = np.ones(whole.shape[:2], bool)
    known[130:390, 120:390] = False
    erased = np.where(known[..., None], whole, np.uint8(255))
    truth = np.array(fit(Image.fromarray(whole), (64, 64)))
    resized, where = resize_masked(erased, known, 64)
    blind = np.array(fit(Image.fromarray(erased), (64, 64)))
    near = where & (resized != truth).any(-1)
    assert near.sum() > 100

    def error(picture):
        return np.sqrt(np.mean((picture[near].astype(float) - truth[near]) ** 2))

    assert error(resized) < error(blind) / 2


@pytest.mark.parametrize("finer", [2, 3])
def test_a_finer_mask_than_its_picture_loses_no_scratch(finer):
    picture = np.full((40, 40, 1), 70, np.uint8)
    known = np.ones((40 * finer, 40 * finer), bool)
    known[finer * 17 + 1, 10:60] = False
    picture[17, 10 // finer : -(-60 // finer)] = 255
    resized, where = resize_masked(picture, known, 20)
    assert not where[8, 4:8].any()
    assert where.sum() == 400 - (~where[8]).sum()
    assert (resized[where] == 70).all()


def test_a_coarser_mask_of_the_models_size_stays_and_weighs_by_centres():
    known = np.ones((20, 20), bool)
    known[5:9, 3:12] = False
    picture = np.full((50, 50, 1), 70, np.uint8)
    picture[13:22, 8:30] = 255  # well inside of 5 * 2.5 to 9 * 2.5
    resized, where = resize_masked(picture, known, 20)
    np.testing.assert_array_equal(where, known)
    assert (resized[where] == 70).all()


def test_a_mask_of_what_is_left_after_cropping_lies_on_it():
    picture = np.full((20, 60, 1), 70, np.uint8)
    picture[:, 25:30] = 255
    known = np.ones((20, 20), bool)
    known[:, 5:10] = False
    resized, where = resize_masked(picture, known, 10)
    assert where.all(0).tolist() == [True] * 2 + [False] * 3 + [True] * 5
    assert (resized[where] == 70).all()


def test_sides_below_one_pixel_are_refused():
    with pytest.raises(ValueError, match="at least one pixel, got 0x8"):
        resize_known(np.ones((4, 4), bool), (0, 8), source_shape=(4, 4))
