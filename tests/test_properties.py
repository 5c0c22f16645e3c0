"""What holds for every size, schedule, mask and dtype, tried on many."""

import math
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from gaussian import exact_denoiser, exact_output
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.tree_util import Partial
from moves import repaint_step
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from repaint_jax import NoiseSchedule, RePaint, ResampleSchedule, inpaint_batch, trajectory
from repaint_jax.denoisers import Reverse
from repaint_jax.methods import Level
from repaint_jax.methods.repaint import Draws
from repaint_jax.pictures.images import load_image, save_image
from repaint_jax.pictures.mask_files import load_mask
from repaint_jax.pictures.masks import MASKS, make_mask
from repaint_jax.pictures.metrics import psnr, ssim
from repaint_jax.pictures.resizing import fit
from repaint_jax.pixels import to_float, to_uint8
from repaint_jax.schedules import SCHEDULES

many = settings(max_examples=5 * settings().max_examples)  # where an example costs no time
few = settings(max_examples=-(-settings().max_examples // 2))  # where one costs a trajectory

# Walks over the noise levels.

steps = st.integers(1, 60)
walks = st.tuples(steps, st.integers(1, 70), st.integers(1, 6), st.none() | st.integers(-2, 70))


@many
@given(walks)
def test_a_walk_makes_each_jump_r_minus_1_times_and_nothing_else(walk):
    num_steps, jump, resamples, start = walk
    plan = ResampleSchedule.create(*walk)
    top = num_steps if start is None else start
    bases = [b for b in range(0, num_steps - jump, jump) if b + jump <= top]
    assert (plan.times[0], plan.times[-1]) == (num_steps - 1, -1)
    assert np.isin(np.diff(plan.times), (-1, 1)).all()
    assert plan.num_model_calls == num_steps + len(bases) * jump * (resamples - 1)
    turns = [(low, high) for low, high in zip(plan.t - 1, plan.t_next, strict=True) if low < high]
    assert sorted(turns) == sorted([(b, b + jump) for b in bases] * (resamples - 1))
    assert plan.num_jumps == len(turns)


@many
@given(walks)
def test_a_walk_is_read_back_from_its_times(walk):
    plan = ResampleSchedule.create(*walk)
    again = ResampleSchedule.from_times(plan.times.tolist())
    np.testing.assert_array_equal(again.times, plan.times)


@many
@given(st.lists(st.integers(-3, 6), max_size=12))
def test_a_list_of_times_is_a_walk_exactly_if_it_falls_by_ones_from_its_top_to_minus_1(times):
    falls = all(after > before or after == before - 1 for before, after in pairwise(times))
    fine = len(times) > 1 and times[-1] == min(times) == -1 and times[0] == max(times) and falls
    try:
        ResampleSchedule.from_times(times)
    except ValueError:
        assert not fine
    else:
        assert fine


# Noise schedules.


@st.composite
def respaced(draw):
    """A schedule of any kind, and some of its steps."""
    kind = draw(st.sampled_from([*SCHEDULES, "betas"]))
    if kind == "betas":
        noise = NoiseSchedule.from_betas(
            draw(st.lists(st.floats(1e-5, 0.3), min_size=2, max_size=50))
        )
    else:
        noise = SCHEDULES[kind](draw(st.integers(21, 1000)))  # linear: with 20 the last beta is 1
    sections = draw(st.integers(1, min(4, noise.num_steps)))
    counts = st.integers(1, noise.num_steps // sections)
    spec = ",".join(str(draw(counts)) for _ in range(sections))
    return noise, spec, noise.respace(spec)


@many
@given(respaced())
def test_respacing_keeps_the_noise_level_of_every_step_it_keeps(case):
    noise, spec, kept = case
    assert kept.num_steps == sum(map(int, spec.split(",")))
    assert np.all(np.diff(kept.timesteps) > 0)
    np.testing.assert_allclose(
        kept.alphas_cumprod, noise.alphas_cumprod[kept.timesteps], rtol=0, atol=1e-12
    )
    assert np.all((kept.betas > 0) & (kept.betas < 1))
    assert np.all(np.diff(kept.alphas_cumprod) < 0)


@many
@given(st.integers(1, 300), st.integers(1, 300))
def test_ddims_stride_visits_every_kth_step_from_the_first(total, count):
    noise = NoiseSchedule.from_betas(np.full(total, 0.01))
    fits = [k for k in range(1, total + 1) if math.ceil(total / k) == count]
    assume(fits)
    timesteps = noise.respace(f"ddim{count}").timesteps
    np.testing.assert_array_equal(timesteps, np.arange(0, total, fits[0]))


@many
@given(respaced(), st.floats(0, 1))
def test_a_reverse_step_leads_from_one_noise_level_to_the_next_whatever_eta(case, eta):
    noise = case[2]
    at = Reverse.table(noise, eta)
    ac = noise.alphas_cumprod
    ac_prev = np.append(1, ac[:-1])
    # What is known of x_0 keeps its share, sqrt(ac'), and the noise adds up to 1 - ac'.
    signal = at.x0_to_mean + at.x_to_mean * np.sqrt(ac)
    np.testing.assert_allclose(signal, np.sqrt(ac_prev), atol=1e-6)
    drawn = (at.eta * np.exp(0.5 * at.log_variance_small)) ** 2
    np.testing.assert_allclose(at.x_to_mean**2 * (1 - ac) + drawn, 1 - ac_prev, atol=1e-6)


@many
@given(respaced(), st.data())
def test_a_jump_adds_the_noise_of_its_forward_steps(case, data):
    noise = case[2]
    rest = st.tuples(*[st.integers(1, 12)] * 2)
    plan = ResampleSchedule.create(noise.num_steps, *data.draw(rest))
    step = Level.of(noise, plan)
    np.testing.assert_allclose(step.next_signal**2 + step.next_sigma**2, 1, rtol=1e-6)
    np.testing.assert_allclose(step.jump_signal**2 + step.jump_sigma**2, 1, rtol=1e-6)
    forward = [
        np.prod(noise.alphas[t : t_next + 1]) for t, t_next in zip(plan.t, plan.t_next, strict=True)
    ]
    np.testing.assert_allclose(step.jump_signal**2, forward, rtol=1e-5, atol=1e-12)


# Pictures filled by a small nonlinear model. One compilation a shape: every walk goes in segments
# of five calls, and weights and schedules are arguments.

TRAINED = NoiseSchedule.linear(1000)
SHAPES = [(1, 1, 5, 4), (2, 4, 3, 1), (3, 3, 6, 3)]
FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
weights = arrays(np.float32, 3, elements=st.floats(-2, 2, width=32))


def _blur(weights, x, t):
    around = sum(jnp.roll(x, shift, axis) for axis in (1, 2) for shift in (-1, 1))
    level = (t / 1000)[:, None, None, None]
    return jnp.tanh(weights[0] * x + weights[1] * around) + weights[2] * level


class Case:
    """N pictures [N, H, W, C] in [-1, 1] with their masks [N, H, W], keys, model and walk."""

    def __init__(self, shape, seed, share_known, weights, walk, dtype):
        self.rng = np.random.default_rng(seed)
        self.shape, self.seed = shape, seed
        self.images = self.rng.uniform(-1, 1, shape).astype(dtype)
        self.known = self.rng.random(shape[:3]) < share_known
        self.keys = jax.random.split(jax.random.key(seed), shape[0])
        self.model = Partial(_blur, jnp.asarray(weights))
        self.plan = ResampleSchedule.create(*walk)

    def __repr__(self):
        return f"Case({self.shape}, known {self.known.mean():.2f}, {self.plan.num_model_calls})"

    def walk(self, stops=None, **changed):
        given = {"keys": self.keys, "images": self.images, "known": self.known, **changed}
        calls = self.plan.num_model_calls
        noise = TRAINED.respace(self.plan.num_steps)
        return trajectory(
            given["keys"],
            self.model,
            given["images"],
            given["known"],
            noise=noise,
            resampling=self.plan,
            stops=range(5, calls, 5) if stops is None else stops,
        )

    def filled(self, **changed):
        *_, (_, state) = self.walk(**changed)
        return np.asarray(state.x)


cases = st.builds(
    Case,
    st.sampled_from(SHAPES),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 0.1, 0.5, 0.9, 1]),
    weights,
    st.tuples(st.integers(5, 12), st.integers(1, 12), st.integers(1, 3)),
    st.sampled_from(FLOATS),
)


@few
@given(cases)
def test_known_pixels_come_out_bit_for_bit(case):
    image = case.images.astype(np.float32)
    out = case.filled()
    assert out.shape == case.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out[case.known], image[case.known])


@few
@given(cases, st.sampled_from([0.5, 7, np.nan, np.inf]))
def test_what_lies_in_the_hole_does_not_matter(case, filling):
    other = np.where(case.known[..., None], case.images, np.asarray(filling, case.images.dtype))
    np.testing.assert_array_equal(case.filled(images=other), case.filled())


@few
@given(cases, st.data())
def test_a_picture_depends_on_its_own_key_picture_and_mask_alone(case, data):
    i = data.draw(st.integers(0, case.shape[0] - 1))
    images, known = np.flip(case.images, (0, 1)).copy(), ~case.known
    images[i], known[i] = case.images[i], case.known[i]
    keys = jax.random.split(jax.random.key(1), case.shape[0]).at[i].set(case.keys[i])
    changed = case.filled(keys=keys, images=images, known=known)
    np.testing.assert_array_equal(changed[i], case.filled()[i])


@few
@given(cases)
def test_the_same_keys_give_the_same_pictures_and_others_other_ones(case):
    # So many numbers that their clipping to -1 and 1 cannot make the pictures equal.
    assume(np.sum(~case.known) * case.shape[3] >= 15)
    first = case.filled()
    np.testing.assert_array_equal(case.filled(), first)
    other = case.filled(keys=jax.random.split(jax.random.key(case.seed ^ 1), case.shape[0]))
    assert not np.array_equal(other, first)


@few
@given(cases)
def test_one_mask_in_any_of_its_shapes_is_the_same_mask(case):
    mask = case.known[0]
    expected = case.filled(known=np.broadcast_to(mask, case.shape[:3]))
    for known in (mask, mask[..., None], np.broadcast_to(mask[..., None], (*case.shape[:3], 1))):
        np.testing.assert_array_equal(case.filled(known=known), expected)


@few
@given(cases, st.data())
def test_wherever_a_walk_is_cut_it_ends_in_the_same_pictures(case, data):
    calls = case.plan.num_model_calls
    cuts = data.draw(st.sets(st.integers(5, calls)))
    stops = sorted({*cuts, *range(5, calls, 5)})  # the longest segment is 5, as the first is
    done, states = zip(*case.walk(stops=stops), strict=True)
    assert list(done) == sorted({*stops, calls})
    np.testing.assert_array_equal(states[-1].x, case.filled())


@few
@given(cases)
def test_inpaint_batch_is_the_whole_walk_in_one(case):
    case.plan = ResampleSchedule.create(8, 3, 2)  # one compilation more a shape
    noise = TRAINED.respace(8)
    out = inpaint_batch(
        case.keys, case.model, case.images, case.known, noise=noise, resampling=case.plan
    )
    # A segment of another length is another program: the last digit may differ, and the walk
    # carries it on.
    np.testing.assert_allclose(out, case.filled(), atol=1e-5)


# The distribution of the output, known exactly for a Gaussian prior.


@partial(jax.jit, static_argnames="size")
def _propagated(model, mean, cov, image, known, row, size):
    def step_of(x, z):
        draws = Draws(*z.reshape(3, size, 1, 1))
        x = x[:, None, None]
        return repaint_step(model, x, image, known, row, draws, clip_denoised=False).ravel()

    silence = jnp.zeros(3 * size)
    from_x, from_z = jax.jacobian(step_of, (0, 1))(mean, silence)
    return step_of(mean, silence), from_x @ cov @ from_x.T + from_z @ from_z.T


@few
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.tuples(st.integers(1, 30), st.integers(1, 8), st.integers(1, 4)),
)
def test_the_output_has_exactly_the_distribution_of_algorithm_1(seed, known, walk):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3, 3))
    prior, observed = root @ root.T / 3 + 0.1 * np.eye(3), rng.normal(size=3)
    plan = ResampleSchedule.create(*walk)
    noise = TRAINED.respace(plan.num_steps)
    model = exact_denoiser(prior, TRAINED)
    image, keep = jnp.asarray(observed, jnp.float32)[:, None, None], np.array(known)[:, None, None]
    mean, cov = jnp.zeros(3), jnp.eye(3)
    steps = RePaint().tabulate(noise, plan)
    for i in range(plan.num_model_calls):
        row = jax.tree.map(lambda numbers, at=i: numbers[at], steps)
        mean, cov = _propagated(model, mean, cov, image, keep, row, 3)
    expected_mean, expected_cov = exact_output(prior, observed, known, noise, plan)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-4)
    np.testing.assert_allclose(cov, expected_cov, atol=1e-4)


# Masks, pictures and metrics.

sides = st.integers(4, 90)
seeds = st.integers(0, 2**32 - 1)


@many
@given(st.sampled_from(sorted({*MASKS} - {"whole"})), st.tuples(sides, sides), seeds)
def test_every_mask_has_a_hole_and_something_known_and_random_ones_keep_half(name, shape, seed):
    known = make_mask(name, shape, seed)
    assert (known.dtype, known.shape) == (bool, shape)
    assert known.any()
    assert not known.all()
    if name in ("wide", "narrow"):
        assert known.mean() >= 0.5
    np.testing.assert_array_equal(known, make_mask(name, shape, seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


pictures = arrays(np.uint8, st.tuples(*[st.integers(1, 24)] * 2, st.sampled_from([1, 3])))


@given(pictures)
def test_a_saved_picture_is_loaded_bit_for_bit(folder, picture):
    save_image(folder / "a.png", picture)
    loaded = load_image(folder / "a.png", channels=picture.shape[2])
    np.testing.assert_array_equal(loaded, picture)


@given(arrays(bool, st.tuples(sides, sides)), st.booleans())
def test_a_saved_mask_is_loaded_bit_for_bit_and_inverted_on_demand(folder, known, invert):
    assume(not (known ^ invert).all() and (known ^ invert).mean() >= 0.5)  # none of the warnings
    save_image(folder / "mask.png", np.uint8(255) * known)
    loaded = load_mask(folder / "mask.png", known.shape, invert=invert)
    np.testing.assert_array_equal(loaded, known ^ invert)


@many
@given(arrays(np.uint8, 20))
def test_floats_are_turned_back_into_the_same_bytes(picture):
    floats = to_float(picture)
    assert np.abs(floats).max() <= 1
    np.testing.assert_array_equal(to_uint8(floats), picture)


@many
@given(*[st.integers(1, 400)] * 2, *[st.integers(1, 40)] * 2)
@example(269, 229, 10, 13)
def test_a_picture_of_any_size_is_fitted_to_any_other(width, height, new_width, new_height):
    grey = fit(Image.new("L", (width, height), 77), (new_height, new_width))
    assert grey.size == (new_width, new_height)
    assert grey.getextrema() == (77, 77)


@st.composite
def pairs(draw):
    """Two pictures large enough for SSIM, and a region."""
    shape = draw(st.tuples(*[st.integers(11, 16)] * 2, st.sampled_from([1, 3])))
    a, b = draw(arrays(np.uint8, shape)), draw(arrays(np.uint8, shape))
    return a, b, draw(arrays(bool, shape[:2]))


@given(pairs())
def test_scores_are_skimages_and_symmetric(pair):
    a, b, _ = pair
    assert psnr(a, a) == math.inf
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(a, b) == pytest.approx(ssim(b, a))
    assert ssim(a, b) <= 1 + 1e-12
    if np.array_equal(a, b):
        return
    assert psnr(a, b) == psnr(b, a)
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b))
    options = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 255}
    inside = np.zeros(a.shape[:2], bool)
    inside[5:-5, 5:-5] = True  # where skimage's own mean looks
    expected = structural_similarity(a, b, channel_axis=2, **options)
    assert ssim(a, b, inside) == pytest.approx(expected)


@given(pairs())
def test_the_scores_of_two_parts_make_up_that_of_the_whole(pair):
    a, b, part = pair
    share = part.mean()

    def error(where=None):
        ratio = psnr(a, b, where)
        return 0 if ratio is None else 255**2 / 10 ** (ratio / 10)

    assert share * error(part) + (1 - share) * error(~part) == pytest.approx(error())
    parts = [(weight, ssim(a, b, p)) for weight, p in ((share, part), (1 - share, ~part))]
    together = sum(weight * score for weight, score in parts if score is not None)
    assert together == pytest.approx(ssim(a, b))
