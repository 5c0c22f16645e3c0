"""The trajectory: Algorithm 1, exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compilations
from conftest import GOLDEN
from gaussian import exact_denoiser, oracle_cases
from jax.tree_util import Partial
from moves import repaint_step

from repaint_jax import NoiseSchedule, RePaint, ResampleSchedule, inpaint, inpaint_batch, trajectory
from repaint_jax.methods.repaint import Draws

TRAINED = NoiseSchedule.linear(1000)


def setting(row):
    noise = TRAINED.respace(row["num_steps"])
    plan = ResampleSchedule.create(row["num_steps"], row["jump_length"], row["num_resamples"])
    return noise, plan


def as_picture(values, dtype=jnp.float32):
    return jnp.asarray(values, dtype)[:, None, None]


def propagate(model, image, known, noise, plan):
    """Mean [D] and covariance [D, D] of the output, carried exactly through `repaint_step`."""
    dim = image.shape[0]

    def step_of(x, z, row):
        draws = Draws(*z.reshape(3, dim, 1, 1))
        return repaint_step(
            model, as_picture(x), image, known, row, draws, clip_denoised=False
        ).ravel()

    def advance(carry, row):
        mean, cov = carry
        silence = jnp.zeros(3 * dim)
        from_x, from_z = jax.jacobian(step_of, (0, 1))(mean, silence, row)
        return (step_of(mean, silence, row), from_x @ cov @ from_x.T + from_z @ from_z.T), None

    start = (jnp.zeros(dim), jnp.eye(dim))
    return jax.jit(lambda: jax.lax.scan(advance, start, RePaint().tabulate(noise, plan))[0])()


CASES = oracle_cases(GOLDEN)
IDS = [
    f"{name}-T{r['num_steps']}-j{r['jump_length']}-r{r['num_resamples']}" for name, _, r in CASES
]
# Thousands of chains of 2410 calls take their time.
SAMPLED = [
    pytest.param(*case, marks=pytest.mark.slow if case[2]["model_calls"] > 1000 else ())
    for case in CASES
]


@pytest.mark.parametrize(("name", "prior", "row"), CASES, ids=IDS)
def test_output_distribution_is_exactly_that_of_algorithm_1(name, prior, row):
    noise, plan = setting(row)
    assert plan.num_model_calls == row["model_calls"]
    model = exact_denoiser(np.array(prior["prior_cov"]), TRAINED)
    image, known = as_picture(prior["observed"]), as_picture(prior["known"], bool)
    mean, cov = propagate(model, image, known, noise, plan)
    np.testing.assert_allclose(mean, row["mean"], atol=1e-4)
    np.testing.assert_allclose(cov, row["cov"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "prior", "row"), SAMPLED, ids=IDS)
def test_sampled_chains_have_the_oracles_moments(name, prior, row):
    n = 5_000 if row["model_calls"] > 1000 else 20_000
    noise, plan = setting(row)
    model = exact_denoiser(np.array(prior["prior_cov"]), TRAINED)
    image, known = as_picture(prior["observed"]), as_picture(prior["known"], bool)
    chains = inpaint_batch(
        jax.random.split(jax.random.key(0), n),
        model,
        image,
        known,
        noise=noise,
        resampling=plan,
        method=RePaint(clip_denoised=False),
    ).reshape(n, -1)
    chains = np.asarray(chains, np.float64)
    mean, cov = np.array(row["mean"]), np.array(row["cov"])
    sd = np.sqrt(np.diag(cov))
    # 1e-6 for the known pixels, which do not vary and are exact to float32.
    assert np.all(np.abs(chains.mean(0) - mean) <= 4 * sd / n**0.5 + 1e-6)
    # The standard error of a sample covariance of Gaussians.
    cov_error = np.sqrt((np.outer(sd**2, sd**2) + cov**2) / n)
    assert np.all(np.abs(np.cov(chains.T) - cov) <= 4 * cov_error + 1e-6)


@pytest.mark.parametrize("index", [0, 5, 20])
def test_each_draw_enters_where_algorithm_1_puts_it(index):
    noise, plan = PLAN["noise"], PLAN["resampling"]
    step = jax.tree.map(lambda numbers: numbers[index], RePaint().tabulate(noise, plan))
    x, *draws = jax.random.normal(jax.random.key(7), (4, *SHAPE))

    def output(**changed):
        z = Draws(*draws)._replace(**changed)
        return np.asarray(
            repaint_step(small_model(), x, IMAGE, KNOWN[..., None], step, z, variance="fixed_large")
        )

    t, t_next = plan.t[index], plan.t_next[index]
    ac, up = noise.alpha_cumprod_at(t - 1), noise.alpha_cumprod_at(t_next)
    silence = jnp.zeros(SHAPE)
    known = np.broadcast_to(np.asarray(KNOWN)[..., None], SHAPE)
    scales = {
        "reverse": np.where(known, 0, np.sqrt(noise.betas[t] * up / ac) * (t > 0)),
        "known": np.where(known, np.sqrt((1 - ac) * up / ac), 0),
        "jump": np.full(SHAPE, np.sqrt(1 - up / ac)),
    }
    for z, (name, scale) in zip(draws, scales.items(), strict=True):
        effect = output() - output(**{name: silence})
        np.testing.assert_allclose(effect, scale * z, atol=1e-6, err_msg=name)


# A small nonlinear model with weights, so that nothing holds by linearity alone.


def _blur(weights, x, t):
    around = sum(jnp.roll(x, shift, axis) for axis in (1, 2) for shift in (-1, 1))
    level = (t / 1000)[:, None, None, None]
    return jnp.tanh(weights[0] * x + weights[1] * around) + weights[2] * level


def small_model(seed=0):
    return Partial(_blur, jax.random.normal(jax.random.key(seed), (3,)))


SHAPE = (6, 5, 3)
IMAGE = jax.random.uniform(jax.random.key(1), SHAPE, minval=-1, maxval=1)
KNOWN = jax.random.bernoulli(jax.random.key(2), 0.5, SHAPE[:2])
PLAN = {
    "noise": TRAINED.respace(12),
    "resampling": ResampleSchedule.create(12, 3, 2),
}
KEYS = jax.random.split(jax.random.key(3), 4)


def test_known_pixels_come_out_bit_for_bit():
    bytes_ = np.arange(16 * 16, dtype=np.uint8).reshape(16, 16, 1)
    image = jnp.asarray(bytes_ / np.float32(127.5) - 1)
    known = np.add.outer(np.arange(16), np.arange(16)) % 3 > 0
    out = inpaint(jax.random.key(0), small_model(), image, known, **PLAN)
    assert np.array_equal(np.asarray(out)[known], np.asarray(image)[known])
    assert np.mean(np.asarray(out)[~known] == np.asarray(image)[~known]) < 0.1


def test_the_content_of_the_hole_does_not_matter_not_even_nan():
    out = inpaint(KEYS[0], small_model(), IMAGE, KNOWN, **PLAN)
    spoilt = jnp.where(KNOWN[..., None], IMAGE, jnp.nan)
    assert np.array_equal(out, inpaint(KEYS[0], small_model(), spoilt, KNOWN, **PLAN))


def test_picture_i_of_a_batch_equals_the_picture_alone():
    images = jax.random.uniform(jax.random.key(5), (4, *SHAPE), minval=-1, maxval=1)
    masks = jax.random.bernoulli(jax.random.key(6), 0.5, (4, *SHAPE[:2]))
    batch = inpaint_batch(KEYS, small_model(), images, masks, **PLAN)
    for key, image, mask, expected in zip(KEYS, images, masks, batch, strict=True):
        alone = inpaint(key, small_model(), image, mask, **PLAN)
        np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_every_way_to_give_image_mask_and_key_means_the_same():
    expected = inpaint_batch(KEYS, small_model(), IMAGE, KNOWN, **PLAN)
    many = jnp.broadcast_to(IMAGE, (4, *SHAPE))
    for images in (IMAGE, many, np.asarray(many)):
        for known in (KNOWN, KNOWN[..., None], jnp.broadcast_to(KNOWN, (4, *SHAPE[:2]))):
            out = inpaint_batch(KEYS, small_model(), images, known, **PLAN)
            assert np.array_equal(out, expected)
    old_style = jax.random.key_data(KEYS)
    out = inpaint_batch(old_style, small_model(), IMAGE, KNOWN, **PLAN)
    assert np.array_equal(out, expected)
    alone = inpaint(old_style[0], small_model(), IMAGE, KNOWN, **PLAN)
    np.testing.assert_allclose(alone, expected[0], atol=1e-5)


def test_segments_give_the_same_picture_whatever_the_stops():
    expected = inpaint_batch(KEYS, small_model(), IMAGE, KNOWN, **PLAN)
    calls = PLAN["resampling"].num_model_calls
    for stops in ([1, 2, 7], range(1, calls + 1), [calls]):
        parts = list(trajectory(KEYS, small_model(), IMAGE, KNOWN, **PLAN, stops=stops))
        assert [done for done, _ in parts] == sorted({*stops, calls})
        np.testing.assert_allclose(parts[-1][1].x, expected, atol=1e-6)


def test_a_last_segment_that_is_filled_up_repeats_no_step():
    expected = inpaint_batch(KEYS, small_model(), IMAGE, KNOWN, **PLAN)
    calls = PLAN["resampling"].num_model_calls
    for stops in ([calls - 1], [calls - 5]):
        *_, (_, last) = trajectory(KEYS, small_model(), IMAGE, KNOWN, **PLAN, stops=stops)
        np.testing.assert_allclose(last.x, expected, atol=1e-6)


def test_a_segment_ends_at_the_noise_level_of_the_next_call():
    # A model that knows x_0 = 0 keeps the unknown part at pure noise of the right level.
    noise, plan = TRAINED.respace(20), ResampleSchedule.create(20, 4, 3)
    table = jnp.asarray(1 / np.sqrt(1 - TRAINED.alphas_cumprod), jnp.float32)
    model = Partial(lambda table, x, t: x * table[t][:, None, None, None], table)
    keys = jax.random.split(jax.random.key(0), 2)
    walk = trajectory(
        keys,
        model,
        jnp.zeros((32, 32, 3)),
        jnp.zeros((32, 32), bool),
        noise=noise,
        resampling=plan,
        stops=range(1, plan.num_model_calls),
    )
    for (done, (x, x0)), t in zip(walk, plan.t_next, strict=True):
        level = 1 - noise.alpha_cumprod_at(t)
        # 6144 draws: the variance has a relative standard error of sqrt(2 / 6144) = 1.8 %.
        assert np.abs(x0).max() < 1e-4
        assert abs(float(jnp.var(x)) - level) <= 5 * 0.018 * level + 1e-6, (done, t)


def test_nothing_recompiles_for_new_weights_mask_seed_image_or_schedule_of_equal_length():
    traces = []

    def counting(weights, x, t):
        traces.append(1)
        return _blur(weights, x, t)

    def run(seed, weights, plan, eta=1.0):
        key = jax.random.key(seed)
        image = jax.random.uniform(key, SHAPE, minval=-1, maxval=1)
        known = jax.random.bernoulli(key, 0.5, SHAPE[:2])
        return inpaint(
            key, Partial(counting, weights), image, known, method=RePaint(eta=eta), **plan
        )

    weights, others = jnp.ones(3), jnp.asarray(np.full(3, 2, np.float32))
    with compilations() as compiled:
        run(0, weights, PLAN)
    once = len(traces)
    assert once > 0
    assert compiled.count("jit(_advance)") == 1
    cosine = {"noise": NoiseSchedule.cosine(1000).respace(12), "resampling": PLAN["resampling"]}
    # Another walk with as many calls: it shuttles at the end instead of on the way.
    shuttle = [6, 5, 4, 3, 2, *([1, 0] * 15), -1]
    other = {"noise": TRAINED.respace(7), "resampling": ResampleSchedule.from_times(shuttle)}
    assert other["resampling"].num_model_calls == PLAN["resampling"].num_model_calls
    with compilations() as compiled:
        outs = [
            run(1, others, PLAN),
            run(2, weights, cosine),
            run(3, weights, PLAN, 0.0),
            run(4, weights, other),
        ]
    assert compiled == []
    assert len(traces) == once
    assert not np.array_equal(outs[0], outs[1])


def test_eta_zero_draws_no_noise_in_the_reverse_steps():
    plan = {"noise": TRAINED.respace(12), "resampling": ResampleSchedule.create(12, 12, 1)}
    hole = jnp.zeros(SHAPE[:2], bool)
    model = exact_denoiser(np.eye(6), TRAINED)  # x_0 ~ N(0, I): DDIM is then the identity
    image = jnp.zeros((6, 1, 1))
    keys = jax.random.split(jax.random.key(0), 3)
    plan["method"] = RePaint(eta=0.0, clip_denoised=False)
    done, first = next(trajectory(keys, model, image, hole[:, :1], stops=[1], **plan))
    *_, (done, last) = trajectory(keys, model, image, hole[:, :1], **plan)
    assert done == 12
    # The probability flow of a unit Gaussian is the identity; 12 Euler steps come close to it.
    assert np.corrcoef(np.ravel(first.x), np.ravel(last.x))[0, 1] > 0.999


def test_the_models_own_variance_is_used_when_it_returns_one():
    def with_variance(level):
        return lambda x, t: jnp.concatenate([jnp.zeros_like(x), jnp.full_like(x, level)], -1)

    for level, fixed in ((-1.0, "fixed_small"), (1.0, "fixed_large")):
        learned = inpaint(KEYS[0], with_variance(level), IMAGE, KNOWN, **PLAN)
        method = RePaint(variance=fixed)
        zeros = lambda x, t: jnp.zeros_like(x)  # noqa: E731
        plain = inpaint(KEYS[0], zeros, IMAGE, KNOWN, method=method, **PLAN)
        np.testing.assert_allclose(learned, plain, atol=1e-5)


def test_inpaint_works_inside_a_users_own_jit_and_vmap():
    expected = inpaint_batch(KEYS, small_model(), IMAGE, KNOWN, **PLAN)
    inner = jax.jit(jax.vmap(lambda k: inpaint(k, small_model(), IMAGE, KNOWN, **PLAN)))(KEYS)
    np.testing.assert_allclose(inner, expected, atol=1e-5)


class Output:
    def __init__(self, sample):
        self.sample = sample


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": IMAGE[None]}, "batches go to inpaint_batch"),
        ({"image": (IMAGE * 127).astype(int)}, "floats in"),
        ({"image": IMAGE * 127}, r"known pixels must lie in \[-1, 1\].*clip_denoised=False"),
        ({"image": IMAGE * jnp.nan}, "known pixels must lie"),
        ({"known": KNOWN.astype(float)}, "known > 0.5"),
        ({"known": KNOWN[:3]}, r"known must be \[H, W\]"),
        ({"key": KEYS}, "use inpaint_batch"),
        ({"model": 3}, "must be callable"),
        (
            {"model": lambda x, t: x[..., :1]},
            r"returned \[1, 6, 5, 1\] for pictures \[1, 6, 5, 3\]",
        ),
        ({"model": lambda x, t: (x, x)}, r"a tuple.*\(lambda x, t: model\(x, t\)\[0\]\)"),
        ({"model": lambda x, t: {"sample": x}}, r"a dict: .* one of what it holds, sample"),
        ({"model": lambda x, t: Output(x)}, "an? Output: .* one of what it holds, sample"),
        ({"key": 0}, r"jax.random.key\(0\) or several; got 0"),
        ({"noise": TRAINED}, r"T = 12 .* has 1000 steps.*noise.respace\(12\)"),
    ],
)
def test_wrong_arguments_are_refused_with_the_mend(change, message):
    arguments = {"key": KEYS[0], "model": small_model(), "image": IMAGE, "known": KNOWN, **PLAN}
    with pytest.raises((ValueError, TypeError), match=message):
        inpaint(**{**arguments, **change})


def test_wrong_batches_and_stops_are_refused():
    with pytest.raises(ValueError, match="N = 4 keys"):
        inpaint_batch(KEYS, small_model(), IMAGE[None], KNOWN, **PLAN)
    with pytest.raises(ValueError, match=r"keys must be \[N\]"):
        inpaint_batch(KEYS[0], small_model(), IMAGE, KNOWN, **PLAN)
    with pytest.raises(ValueError, match="stops must lie in 1 to"):
        list(trajectory(KEYS, small_model(), IMAGE, KNOWN, **PLAN, stops=[0]))
