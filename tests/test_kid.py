"""KID is the unbiased estimate that it claims to be, and its interval the jackknife's."""

import itertools

import numpy as np
import pytest
from scipy.special import stdtrit

from repaint_jax.evaluation.kid import SCALE, kid_by_picture
from repaint_jax.evaluation.lpips import pooled_features
from repaint_jax.evaluation.tables import Mean


def kernel(x, y):
    return (float(x @ y) / 5 + 1) ** 3


def brute_force(completed, real):
    """The sum over all pairs of different pictures, as it is written."""
    n = len(real)
    total = 0.0
    for i in range(n):
        for j in set(range(n)) - {i}:
            total += kernel(completed[i], completed[j]) + kernel(real[i], real[j])
            total -= kernel(completed[i], real[j]) + kernel(real[i], completed[j])
    return SCALE * total / (n * (n - 1))


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(12, 4))
    return real + 0.5 * rng.normal(size=real.shape) + 0.3, real


def test_the_mean_is_the_estimate_and_the_interval_the_jackknifes(features):
    completed, real = features
    values = kid_by_picture(*features)
    assert values.mean() == pytest.approx(brute_force(*features))
    left = [brute_force(np.delete(completed, i, 0), np.delete(real, i, 0)) for i in range(12)]
    error = np.sqrt(11 / 12 * np.sum((left - np.mean(left)) ** 2))
    assert Mean.of(values).half_width == pytest.approx(stdtrit(11, 0.975) * error)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_a_shifted_distribution_is_as_far_as_its_moments_say(shift):
    # E (x y / 5 + 1)^3 over independent x, y is a sum over products of moments, whose differences
    # squared make the distance: of N(0, 1) and N(m, 1) m, m^2 and m^3 + 3m.
    rng = np.random.default_rng(1)
    real, completed = rng.normal(size=(2, 3000, 1))
    expected = 3 / 5 * shift**2 + 3 / 25 * shift**4 + (shift**3 + 3 * shift) ** 2 / 125
    found = Mean.of(kid_by_picture(completed + shift, real))
    assert abs(found.value - SCALE * expected) < 1.5 * found.half_width
    assert found.half_width < 60


def test_how_near_a_picture_is_to_its_own_original_does_not_count():
    rng = np.random.default_rng(2)
    real = rng.normal(size=(3000, 2))
    found = Mean.of(kid_by_picture(real + 1e-3, real))  # pairs that could not be nearer
    assert abs(found.value) < 1


def test_two_pictures_are_too_few_and_small_ones_have_no_features():
    assert kid_by_picture(np.zeros((2, 3)), np.zeros((2, 3))) is None
    assert pooled_features(np.zeros((1, 28, 28, 3), np.uint8)) is None


def test_features_are_the_means_of_unit_vectors_and_independent_of_the_batch():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 32, 3), np.uint8)
    together = pooled_features(pictures)
    assert together.shape == (3, 1152)
    alone = np.concatenate([pooled_features(each[None]) for each in pictures])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    ends = np.cumsum([0, 64, 192, 384, 256, 256])
    lengths = [np.linalg.norm(together[:, a:b], axis=1) for a, b in itertools.pairwise(ends)]
    assert 0.1 < np.min(lengths) <= np.max(lengths) <= 1 + 1e-6
