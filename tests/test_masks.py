"""The masks keep what the paper says, at every size, and the random ones follow LaMa's."""

import hashlib

import numpy as np
import pytest

from repaint_jax.pictures.masks import MASKS, _boxes, _draw_segment, make_mask

RANDOM = ("wide", "narrow")
REGULAR = sorted(set(MASKS) - set(RANDOM))


def hole_fractions(name, side, count=200):
    return np.array([1 - make_mask(name, (side, side), seed).mean() for seed in range(count)])


@pytest.mark.parametrize(
    ("name", "fraction"),
    [
        ("half", 1 / 2),
        ("expand", 1 / 16),
        ("alternating_lines", 1 / 2),
        ("super_resolution", 1 / 4),
        ("box", 3 / 4),
    ],
)
@pytest.mark.parametrize("shape", [(256, 256), (64, 64), (16, 32)])
def test_regular_masks_keep_exactly_their_share(name, fraction, shape):
    assert make_mask(name, shape).mean() == fraction


def test_half_keeps_the_left():
    known = make_mask("half", (8, 8))
    assert known[:, :4].all()
    assert not known[:, 4:].any()


def test_expand_keeps_the_central_64_of_256():
    known = make_mask("expand", (256, 256))
    assert known[96:160, 96:160].all()
    assert known.sum() == 64**2


def test_box_loses_the_centre():
    assert not make_mask("box", (8, 12))[2:6, 3:9].any()


def test_lines_and_super_resolution_keep_the_first_row_and_pixel():
    np.testing.assert_array_equal(make_mask("alternating_lines", (5, 4))[:, 0], [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(
        make_mask("super_resolution", (4, 5)), np.outer([1, 0, 1, 0], [1, 0, 1, 0, 1])
    )


def test_whole_keeps_nothing():
    assert not make_mask("whole", (8, 12)).any()


@pytest.mark.parametrize("name", [name for name in MASKS if name != "whole"])
@pytest.mark.parametrize("shape", [(4, 4), (5, 7), (4, 100), (33, 8), (65, 64)])
def test_every_mask_has_a_hole_and_something_known_at_any_size(name, shape):
    for seed in range(5):
        known = make_mask(name, shape, seed)
        assert known.shape == shape
        assert known.dtype == bool
        assert known.any()
        assert not known.all()


@pytest.mark.parametrize("name", MASKS)
def test_too_small_a_picture_is_refused(name):
    with pytest.raises(ValueError, match="at least 4 pixels, got 3x9"):
        make_mask(name, (3, 9))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'thick': choose one of wide, narrow"):
        make_mask("thick", (8, 8))


@pytest.mark.parametrize("name", REGULAR)
def test_regular_masks_ignore_the_seed(name):
    np.testing.assert_array_equal(make_mask(name, (16, 16), 0), make_mask(name, (16, 16), 1))


@pytest.mark.parametrize(
    ("name", "digest"),
    [("wide", "724a5d33f245a7cc"), ("narrow", "6564f3602e56df07")],
)
def test_a_seed_gives_this_very_mask_on_every_machine(name, digest):
    bits = np.packbits([make_mask(name, (64, 64), seed) for seed in range(20)])
    assert hashlib.sha256(bits.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("name", RANDOM)
def test_seeds_give_different_masks(name):
    masks = {make_mask(name, (64, 64), seed).tobytes() for seed in range(50)}
    assert len(masks) == 50


# LaMa's own generator (its code and configurations at 256x256, drawn by OpenCV, holes above one
# half redrawn, 3000 masks) gives mean holes of 0.264 (thick) and 0.291 (thin) with standard
# deviations of 0.130 and 0.126: 200 masks have a standard error of 0.0092. The bound of 0.03 is
# three of them; what is left of it covers that LaMa's code draws up to one stroke more than its
# configuration says.
@pytest.mark.parametrize(("name", "mean"), [("wide", 0.264), ("narrow", 0.291)])
def test_holes_are_as_large_as_lamas_at_every_side(name, mean):
    large, small = hole_fractions(name, 256), hole_fractions(name, 64)
    for holes in (large, small):
        assert holes.max() <= 0.5
        assert abs(holes.mean() - mean) < 0.03
        assert abs(holes.std() - 0.128) < 0.03
    # Same seeds, same shapes in continuous coordinates: only the rounding to pixels is different.
    assert abs(large.mean() - small.mean()) < 0.03


def test_boxes_lie_10_of_256_from_the_border():
    for side, margin in ((256, 10), (64, 2)):  # 2.5 pixels of 64, rounded either way
        union = np.zeros((side, side), bool)
        for seed in range(100):
            union |= _boxes((side, side), np.random.default_rng(seed))
        rows, columns = np.nonzero(union)
        for places in (rows, columns):
            assert margin <= places.min() < 2 * margin
            assert side - 2 * margin < places.max() + 1 <= side - margin


def test_a_stroke_is_a_line_with_round_ends():
    hole = np.zeros((256, 256), bool)
    start, end, width = np.array([60.0, 50.0]), np.array([180.0, 210.0]), 31.0
    _draw_segment(hole, start, end, width)
    area = 200 * width + np.pi * (width / 2) ** 2  # the line is 200 long: a 3-4-5 triangle
    # Every pixel of the outline is in or out by the place of its centre, an even chance: the
    # standard deviation of the count is below half the root of the outline's 500 pixels.
    assert abs(hole.sum() - area) < 3 * 0.5 * np.sqrt(500)
    assert hole[51, 38]  # 15 before the start: a butt end would not reach it
    assert not hole[40, 46]  # a corner of a square end, 20 from the start


def test_a_stroke_is_cut_at_the_border():
    hole = np.zeros((8, 8), bool)
    _draw_segment(hole, np.array([0.0, 0.0]), np.array([0.0, 7.0]), 3.0)
    np.testing.assert_array_equal(hole.all(axis=1), [1, 1, 0, 0, 0, 0, 0, 0])
