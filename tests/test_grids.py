"""Grids show every pixel, where it belongs."""

import numpy as np
import pytest

from repaint_jax.pictures.grids import grid, masked_preview, overview


def flat(value, shape=(80, 80, 3)):
    return np.full(shape, value, np.uint8)


def test_pictures_stand_in_rows_with_white_gaps():
    sheet = grid([[flat(10), flat(20)], [flat(30), None]], scale=1, gap=4)
    assert sheet.shape == (4 + 2 * 84, 4 + 2 * 84, 3)
    assert (sheet[4:84, 4:84] == 10).all()
    assert (sheet[4:84, 88:168] == 20).all()
    assert (sheet[88:168, 4:84] == 30).all()
    assert (sheet[88:168, 88:168] == 255).all()
    assert (sheet[:4] == 255).all()
    assert (sheet[:, 84:88] == 255).all()


@pytest.mark.parametrize(("side", "enlarged"), [(28, 168), (32, 160), (64, 128), (256, 256)])
def test_small_pictures_are_enlarged_by_whole_pixels(side, enlarged):
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    sheet = grid([[picture]], gap=0)
    assert sheet.shape == (enlarged, enlarged, 3)
    np.testing.assert_array_equal(sheet[:: enlarged // side, :: enlarged // side], picture)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1)])
def test_grey_pictures_are_shown_grey(shape):
    assert (grid([[flat(7, shape)]], gap=0) == 7).all()


def test_captions_are_written_above_their_pictures_only():
    plain = grid([[flat(255)], [flat(255)]], scale=1)
    labelled = grid([[flat(255)], [flat(255)]], labels=[["original"]], scale=1)
    caption = labelled.shape[0] - plain.shape[0]
    assert 10 < caption < 30
    assert labelled[: 6 + caption].min() < 128
    assert labelled[6 + caption :].min() == 255


def test_pictures_of_different_sizes_and_no_pictures_are_refused():
    with pytest.raises(ValueError, match=r"one size, got \[\(4, 4\), \(4, 5\)\]"):
        grid([[flat(0, (4, 4)), flat(0, (4, 5))]])
    with pytest.raises(ValueError, match="got none"):
        grid([])


def test_few_samples_stand_in_one_row_a_picture():
    first, second = [flat(value) for value in range(4)], [flat(value) for value in range(4, 8)]
    np.testing.assert_array_equal(
        overview([first[0], second[0]], [first[1], second[1]], [first[2:], second[2:]]),
        grid([first, second], labels=[["original", "masked", "sample 1", "sample 2"]]),
    )


def test_many_samples_wrap_beside_original_and_masked():
    original, masked, *samples = (flat(value) for value in range(12))
    np.testing.assert_array_equal(
        overview([original], [masked], [samples]),
        grid(
            [[original, *samples[:5]], [masked, *samples[5:]]],
            labels=[
                ["original", *(f"sample {i}" for i in range(1, 6))],
                ["masked", *(f"sample {i}" for i in range(6, 11))],
            ],
        ),
    )


def test_an_overview_is_never_wider_than_seven_pictures():
    seven = grid([[flat(0)] * 7]).shape[1]
    for count in (1, 5, 6, 17, 40):
        assert overview([flat(1)], [flat(2)], [[flat(3)] * count]).shape[1] <= seven


@pytest.mark.parametrize("channels", [1, 3])
def test_a_preview_keeps_what_is_known_and_greys_the_hole(channels):
    picture = np.random.default_rng(0).integers(0, 150, (32, 32, channels), np.uint8)
    known = np.random.default_rng(1).random((32, 32)) < 0.5
    preview = masked_preview(picture, known)
    assert preview.shape == picture.shape
    assert preview.dtype == np.uint8
    np.testing.assert_array_equal(preview[known], picture[known])
    assert preview[~known].min() > 200
