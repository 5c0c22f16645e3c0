"""Guidance against mixtures of Gaussians, whose scores, classes and posteriors are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_networks import checkpoint
from jax.tree_util import Partial
from moves import reverse_distribution

from repaint_jax import (
    NoiseSchedule,
    RePaint,
    ResampleSchedule,
    classifier_free,
    guided,
    inpaint,
    inpaint_batch,
    with_label,
)
from repaint_jax.checkpoints import load_guided_diffusion, load_guided_diffusion_classifier
from repaint_jax.denoisers import Reverse

TRAINED = NoiseSchedule.linear(1000)
MEANS = np.array([[-0.8, -0.8], [0.8, 0.0], [-0.2, 0.9]])  # of three modes of two pixels
VARIANCE = 0.01
PRIOR = np.array([0.5, 0.3, 0.2])
LIKELIHOOD = np.array([[0.1, 0.8, 0.5], [0.9, 0.2, 0.5]])  # p(y | mode)
JOINT = LIKELIHOOD * PRIOR
POSTERIOR = JOINT / JOINT.sum(1, keepdims=True)  # p(mode | y), Bayes by hand: .13 .62 .26, ...

AC = jnp.asarray(TRAINED.alphas_cumprod, jnp.float32)


def log_modes(weights, x, t):
    """log p(x_t, mode) up to a constant, [B, modes]: each mode stays a Gaussian in noise."""
    ac = AC[t][:, None, None]
    apart = x.reshape(len(x), 1, 2) - jnp.sqrt(ac) * jnp.asarray(MEANS, jnp.float32)[None]
    squares = (apart**2).sum(-1) / (ac * VARIANCE + 1 - ac)[..., 0]
    return jnp.broadcast_to(jnp.log(weights), squares.shape) - squares / 2


def exact_noise(weights, x, t):
    """-sqrt(1 - ac) grad log p(x_t) of the mixture with these weights."""
    score = jax.grad(lambda x: jax.nn.logsumexp(log_modes(weights, x, t), -1).sum())(x)
    return -jnp.sqrt(1 - AC[t])[:, None, None, None] * score


def exact_logits(likelihood, x, t):
    """log p(y | x_t), [B, 2]; a constant added to it must not matter."""
    modes = jax.nn.softmax(log_modes(jnp.asarray(PRIOR, jnp.float32), x, t))
    return jnp.log(modes @ likelihood.T) + 7.0


def exact_conditional(posteriors, x, t, y):
    return jax.vmap(lambda y, x, t: exact_noise(posteriors[y], x[None], t[None])[0])(y, x, t)


MODEL = Partial(exact_noise, jnp.asarray(PRIOR, jnp.float32))
CLASSIFIER = Partial(exact_logits, jnp.asarray(LIKELIHOOD, jnp.float32))
CONDITIONAL = Partial(exact_conditional, jnp.asarray(POSTERIOR, jnp.float32))
T = jnp.array([0, 30, 300, 999])
X = jax.random.normal(jax.random.key(0), (4, 2, 1, 1))
NOTHING = {
    "image": jnp.zeros((2, 1, 1)),
    "known": jnp.zeros((2, 1), bool),
    "noise": TRAINED.respace(500),
    "resampling": ResampleSchedule.create(500, num_resamples=1),
    "method": RePaint(clip_denoised=False),
}
SHORT = {
    **NOTHING,
    "noise": TRAINED.respace(20),
    "resampling": ResampleSchedule.create(20, 5, 2),
}


def mode_shares(model, n=4000):
    keys = jax.random.split(jax.random.key(1), n)
    image, known = NOTHING["image"], NOTHING["known"]
    rest = {k: v for k, v in NOTHING.items() if k not in ("image", "known")}
    chains = np.asarray(inpaint_batch(keys, model, image, known, **rest)).reshape(n, 1, 2)
    nearest = ((chains - MEANS) ** 2).sum(-1).argmin(1)
    return np.bincount(nearest, minlength=3) / n, n


def fits(shares, expected, n):
    return np.abs(shares - expected) <= 4 * np.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize("label", [0, 1])
def test_guided_samples_have_the_mode_weights_of_bayes_rule(label):
    shares, n = mode_shares(guided(MODEL, CLASSIFIER, label, 1.0, TRAINED))
    assert fits(shares, POSTERIOR[label], n).all(), shares
    assert not fits(shares, PRIOR, n).all()


def test_unguided_samples_have_the_mode_weights_of_the_prior():
    shares, n = mode_shares(MODEL)
    assert fits(shares, PRIOR, n).all(), shares
    assert not any(fits(shares, posterior, n).all() for posterior in POSTERIOR)
    none, _ = mode_shares(guided(MODEL, CLASSIFIER, 1, 0.0, TRAINED))
    assert np.array_equal(none, shares)


@pytest.mark.slow
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_both_ways_to_guide_agree_where_network_and_classifier_are_exact(label, scale):
    ours = guided(MODEL, CLASSIFIER, label, scale, TRAINED)(X, T)
    free = classifier_free(with_label(CONDITIONAL, label), MODEL, scale)(X, T)
    np.testing.assert_allclose(ours, free, atol=1e-5)
    with np.testing.assert_raises(AssertionError):
        wrong = classifier_free(with_label(CONDITIONAL, 1 - label), MODEL, scale + 1)(X, T)
        np.testing.assert_allclose(ours, wrong, atol=1e-2)


def test_classifier_free_goes_from_unconditional_at_0_to_conditional_at_1_and_beyond():
    one, other = with_label(CONDITIONAL, 1), MODEL
    np.testing.assert_array_equal(classifier_free(one, other, 0.0)(X, T), other(X, T))
    np.testing.assert_allclose(classifier_free(one, other, 1.0)(X, T), one(X, T), atol=1e-6)
    beyond = classifier_free(one, other, 3.0)(X, T)
    np.testing.assert_allclose(beyond, 3 * one(X, T) - 2 * other(X, T), atol=1e-5)
    sampled = (
        inpaint(jax.random.key(0), m, **SHORT) for m in (classifier_free(one, other, 1), one)
    )
    np.testing.assert_allclose(*sampled, atol=1e-4)


@pytest.mark.parametrize("t", [1, 30, 300, 999])
def test_the_mean_moves_by_beta_over_root_alpha_times_the_gradient(t):
    at = jax.tree.map(lambda numbers: numbers[t], Reverse.table(TRAINED))
    x, when = X[:1], jnp.array([t])
    means = [
        reverse_distribution(m(x, when), x, at, clip=False, variance="fixed_large")[0]
        for m in (MODEL, guided(MODEL, CLASSIFIER, 1, 2.0, TRAINED))
    ]
    log_p = lambda x: jax.nn.log_softmax(CLASSIFIER(x, when))[0, 1]  # noqa: E731
    beta = TRAINED.betas[t]
    expected = beta / np.sqrt(1 - beta) * 2 * jax.grad(log_p)(x)
    np.testing.assert_allclose(means[1] - means[0], expected, rtol=1e-3, atol=2e-6)


def test_the_gradient_is_the_reference_implementations(golden):
    classifier = load_guided_diffusion_classifier(
        checkpoint("classifier_tiny"), num_head_channels=32
    )
    reference = np.load(golden / "classifier_tiny.npz")
    x, t = jnp.asarray(reference["x"].transpose(0, 2, 3, 1)), jnp.asarray(reference["t"], jnp.int32)
    variance = jnp.full_like(x, 0.25)

    def silent(x, t):
        return jnp.concatenate([jnp.zeros_like(x), variance], -1)

    model = guided(silent, classifier, jnp.asarray(reference["y"], jnp.int32), 3.0, TRAINED)
    eps, passed_on = jnp.split(jax.jit(lambda x, t: model(x, t))(x, t), 2, axis=-1)
    sigma = np.sqrt(1 - TRAINED.alphas_cumprod)[np.asarray(t)][:, None, None, None]
    expected = -3 * sigma * reference["grad"].transpose(0, 2, 3, 1)
    assert np.abs(eps - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.array_equal(passed_on, variance)


def test_a_label_is_one_for_all_or_one_for_each_picture():
    for wrap in (
        lambda y: with_label(CONDITIONAL, y),
        lambda y: guided(MODEL, CLASSIFIER, y, 1.0, TRAINED),
    ):
        each = [wrap(y)(X, T) for y in (0, 1)]
        mixed = wrap(np.array([0, 1, 1, 0]))(X, T)
        expected = jnp.stack([each[y][i] for i, y in enumerate([0, 1, 1, 0])])
        np.testing.assert_allclose(mixed, expected, atol=1e-6)
        assert np.abs(each[0] - each[1]).max() > 0.1


@pytest.mark.parametrize("wrap", ["with_label", "guided", "classifier_free"])
def test_a_vmap_over_keys_and_labels_is_a_batch_of_labels(wrap):
    def model(y):
        if wrap == "guided":
            return guided(MODEL, CLASSIFIER, y, 1.0, TRAINED)
        one = with_label(CONDITIONAL, y)
        return one if wrap == "with_label" else classifier_free(one, MODEL, 2.0)

    keys, labels = jax.random.split(jax.random.key(3), 4), jnp.array([0, 1, 1, 0])
    batch = jax.vmap(lambda key, y: inpaint(key, model(y), **SHORT))(keys, labels)
    for key, y, picture in zip(keys, labels, batch, strict=True):
        np.testing.assert_allclose(inpaint(key, model(int(y)), **SHORT), picture, atol=1e-4)


def test_new_labels_scales_and_weights_do_not_recompile():
    traces = []

    def counting(weights, x, t):
        traces.append(1)
        return exact_noise(weights, x, t)

    def run(label, scale, weights):
        weights = jnp.asarray(weights, jnp.float32)
        model = Partial(counting, weights)
        steered = guided(model, CLASSIFIER, label, scale, TRAINED)
        free = classifier_free(with_label(CONDITIONAL, label), model, scale)
        keys = jax.random.split(jax.random.key(0), 16)
        return [inpaint_batch(keys, m, images=SHORT["image"], **rest) for m in (steered, free)]

    rest = {name: value for name, value in SHORT.items() if name != "image"}
    first = run(0, 1.0, PRIOR)
    once = len(traces)
    assert once > 0
    for changed in (run(1, 1.0, PRIOR), run(0, 3, PRIOR), run(0, 1.0, PRIOR[::-1])):
        for one, other in zip(first, changed, strict=True):
            assert not np.array_equal(one, other)
    assert len(traces) == once


@pytest.mark.slow
def test_networks_of_the_package_can_be_guided():
    network = load_guided_diffusion(
        checkpoint("adm_classcond_newattn"), num_head_channels=16, use_new_attention_order=True
    )
    classifier = load_guided_diffusion_classifier(
        checkpoint("classifier_tiny"), num_head_channels=32, dtype=jnp.bfloat16
    )
    keys = jax.random.split(jax.random.key(0), 2)
    rest = {"noise": TRAINED.respace(2), "resampling": ResampleSchedule.create(2, 2, 1)}
    known = jnp.zeros((16, 16), bool)

    def run(network_label, classifier_label):
        model = with_label(network, network_label)
        model = guided(model, classifier, classifier_label, 100.0, TRAINED)
        return inpaint_batch(keys, model, jnp.zeros((16, 16, 3)), known, **rest)

    first = run(0, 0)
    assert first.dtype == jnp.float32
    assert np.isfinite(first).all()
    for other in (run(1, 0), run(0, 1)):
        assert not np.array_equal(first, other)
    # Labels that do not exist are no other labels.
    for unknown in (run(1000, 0), run(0, 10)):
        assert np.isnan(unknown).any()


def test_what_cannot_be_a_label_a_scale_or_a_classifier_is_refused():
    for wrap in (
        lambda y: with_label(CONDITIONAL, y),
        lambda y: guided(MODEL, None, y, 1, TRAINED),
    ):
        for label in (0.5, np.eye(2, dtype=int), True):
            with pytest.raises(ValueError, match=r"labels must be an int or int\[B\]"):
                wrap(label)
    with pytest.raises(ValueError, match=r"3 labels for a batch of 1.*vmap inpaint over keys"):
        inpaint(jax.random.key(0), with_label(CONDITIONAL, [0, 1, 0]), **SHORT)
    with pytest.raises(ValueError, match="scale must be one number"):
        classifier_free(MODEL, MODEL, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"returned \[4\] .* expected logits \[4, classes\]"):
        guided(MODEL, lambda x, t: x.sum((1, 2, 3)), 0, 1.0, TRAINED)(X, T)
    with pytest.raises(ValueError, match="original noise schedule"):
        guided(MODEL, CLASSIFIER, 0, 1.0, TRAINED.respace(10))
