"""The metrics agree with arithmetic by hand and with scikit-image, over any region."""

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from repaint_jax.pictures.metrics import psnr, roughness, ssim


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (24, 20, 3), np.uint8)
    noise = rng.integers(-30, 31, a.shape)
    return a, np.clip(a + noise, 0, 255).astype(np.uint8)


def test_psnr_of_black_and_white_is_zero():
    assert psnr(np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)) == 0


def test_psnr_counts_only_the_region():
    a, b = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    b[0, 0], b[3, 3] = 51, 255  # 51 is a fifth of 255, so 20 log10(5) dB where it is alone
    region = np.zeros((4, 4), bool)
    region[0, 0] = True
    assert psnr(a, b, region) == pytest.approx(20 * math.log10(5))
    region[0, 1] = True  # half of the region is equal: 3 dB more
    assert psnr(a, b, region) == pytest.approx(20 * math.log10(5) + 10 * math.log10(2))


def test_psnr_is_scikit_images(pair):
    assert psnr(*pair) == pytest.approx(peak_signal_noise_ratio(*pair, data_range=255))


def test_equal_pictures_have_infinite_psnr_and_unit_ssim(pair):
    a, _ = pair
    assert psnr(a, a) == math.inf
    assert ssim(a, a) == pytest.approx(1)


def test_ssim_of_two_flat_pictures_is_the_luminance_term():
    # Without variance SSIM is (2 x y + C1) / (x^2 + y^2 + C1), C1 = (0.01 * 255)^2.
    a, b = np.full((16, 16), 100, np.uint8), np.full((16, 16), 150, np.uint8)
    c1 = 2.55**2
    assert ssim(a, b) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1))


def test_ssim_inside_the_border_is_scikit_images(pair):
    a, b = pair
    inside = np.zeros(a.shape[:2], bool)
    inside[5:-5, 5:-5] = True  # scikit-image's mean leaves out half a window on every side
    expected = structural_similarity(
        a,
        b,
        data_range=255,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(a, b, inside) == pytest.approx(expected)


def test_ssim_of_an_untouched_region_is_one_beyond_the_window(pair):
    a, b = pair
    b[:, :10] = a[:, :10]
    region = np.zeros(a.shape[:2], bool)
    region[:, :5] = True
    assert ssim(a, b, region) == pytest.approx(1)
    assert ssim(a, b, ~region) < 0.99


def test_grey_pictures_with_and_without_a_channel_agree(pair):
    a, b = (picture[:, :, :1] for picture in pair)
    assert psnr(a, b) == psnr(a[:, :, 0], b[:, :, 0])
    assert ssim(a, b) == pytest.approx(ssim(a[:, :, 0], b[:, :, 0]))


def test_an_empty_region_has_no_number(pair):
    nothing = np.zeros(pair[0].shape[:2], bool)
    assert psnr(*pair, nothing) is None
    assert ssim(*pair, nothing) is None


def test_ssim_of_a_picture_below_its_window_is_none(pair):
    a, b = (picture[:10] for picture in pair)
    assert ssim(a, b) is None
    assert psnr(a, b) is not None


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_cannot_be_compared_is_refused(pair, metric):
    a, b = pair
    with pytest.raises(ValueError, match="one shape"):
        metric(a, b[:-1])
    with pytest.raises(ValueError, match="uint8, got uint8 and float64"):
        metric(a, b / 255)
    with pytest.raises(ValueError, match=r"where must be bool\[24, 20\], got uint8"):
        metric(a, b, np.ones((24, 20), np.uint8))


def test_roughness_is_the_root_mean_square_step_between_neighbours_in_the_region():
    picture = np.zeros((4, 6), np.uint8)
    picture[:, 3:] = 12  # one step in a row of six
    assert roughness(picture) == pytest.approx(12 * np.sqrt(4 / (4 * 5 + 3 * 6)))
    where = np.zeros((4, 6), bool)
    where[1, 2:4] = True
    assert roughness(picture, where) == 12
    where[1, 2] = False
    assert roughness(picture, where) is None  # a pixel alone has no neighbour
    checkers = np.uint8(10) * (np.indices((5, 5)).sum(0) % 2).astype(np.uint8)
    assert roughness(np.repeat(checkers[..., None], 3, 2)) == 10
