"""The seam: every kind of method goes through scan, batch, segments and snapshots alike."""

import dataclasses
import re
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compilations
from config_files import ROOT, load_config
from jax.tree_util import Partial
from toy_methods import TOYS, Particles

from repaint_jax import NoiseSchedule, ResampleSchedule, Sampler, inpaint, inpaint_batch, trajectory
from repaint_jax.errors import ArgumentError
from repaint_jax.inpainting.naming import named_method
from repaint_jax.inpainting.run import run_inpainting
from repaint_jax.methods import METHODS, Observation, QuasiNewton, RePaint
from repaint_jax.runtime.batches import Batches, Task

SHAPE = (6, 4, 3)
NOISE = NoiseSchedule.linear(1000).respace(8)
PLAN = ResampleSchedule.create(8, 2, 2)
WALK = {"noise": NOISE, "resampling": PLAN}
KEYS = jax.random.split(jax.random.key(3), 3)
IMAGE = jax.random.uniform(jax.random.key(1), SHAPE, minval=-1, maxval=1)
KNOWN = jax.random.bernoulli(jax.random.key(2), 0.5, SHAPE[:2])
OURS = [construct() for construct in METHODS.values()]
ALL = [*(pytest.param(toy, marks=pytest.mark.slow) for toy in TOYS), *OURS]


def by_name(method):
    return type(method).__name__


def blur(weights, x, t):
    around = sum(jnp.roll(x, shift, axis) for axis in (1, 2) for shift in (-1, 1))
    return jnp.tanh(weights[0] * x + weights[1] * around) + (t / 1000)[:, None, None, None] / 9


MODEL = Partial(blur, jnp.array([0.7, 0.1]))


@pytest.mark.parametrize("method", ALL, ids=by_name)
def test_known_pixels_are_exact_whatever_a_method_does_and_the_hole_is_its_own(method):
    out = np.asarray(inpaint_batch(KEYS, MODEL, IMAGE, KNOWN, method=method, **WALK))
    known = np.asarray(KNOWN)
    np.testing.assert_array_equal(out[:, known], np.broadcast_to(IMAGE[known], out[:, known].shape))
    assert np.isfinite(out).all()
    hole = out[:, ~known]
    assert np.abs(hole - np.asarray(IMAGE)[~known]).mean() > 0.05
    assert np.abs(hole[0] - hole[1]).mean() > 1e-3
    spoilt = jnp.where(KNOWN[..., None], IMAGE, jnp.nan)
    np.testing.assert_array_equal(
        out, inpaint_batch(KEYS, MODEL, spoilt, KNOWN, method=method, **WALK)
    )


@pytest.mark.parametrize(("share", "beta_end"), [(0.36, 0.02), (0.00002, 0.2)])
def test_walks_start_from_the_last_level_of_their_schedule(share, beta_end):
    noise = NoiseSchedule.linear(100, 0.0001, beta_end)
    assert noise.alphas_cumprod[-1] == pytest.approx(share, rel=0.1)
    method = RePaint()
    table = method.tabulate(noise, ResampleSchedule.create(100, num_resamples=1))
    first = jax.tree.map(lambda numbers: numbers[0], table)
    observation = Observation(IMAGE, KNOWN[..., None])
    keys = jax.random.split(jax.random.key(0), 4000)
    x = np.asarray(jax.vmap(lambda key: method.init(key, observation, first).x)(keys))
    left = noise.alphas_cumprod[-1] if share > 0.01 else 0.0  # else pure noise everywhere
    known = np.broadcast_to(KNOWN[..., None], SHAPE)
    mean, variance = np.where(known, left**0.5 * IMAGE, 0), np.where(known, 1 - left, 1)
    np.testing.assert_allclose(x.mean(0), mean, atol=5 / 4000**0.5)
    np.testing.assert_allclose(x.var(0), variance, atol=5 * (2 / 4000) ** 0.5)


@pytest.mark.parametrize("method", ALL, ids=by_name)
def test_a_picture_is_the_same_in_any_batch_and_any_segments(method):
    expected = np.asarray(inpaint_batch(KEYS, MODEL, IMAGE, KNOWN, method=method, **WALK))
    alone = inpaint(KEYS[1], MODEL, IMAGE, KNOWN, method=method, **WALK)
    # quasi_newton divides roundings by its floor, of predictions that are 150 here at first.
    atol = 5e-3 if isinstance(method, QuasiNewton) else 2e-5
    np.testing.assert_allclose(alone, expected[1], atol=atol)
    parts = list(trajectory(KEYS, MODEL, IMAGE, KNOWN, method=method, stops=[1, 4, 9], **WALK))
    assert [steps for steps, _ in parts] == [1, 4, 9, PLAN.num_model_calls]
    np.testing.assert_allclose(parts[-1][1].x, expected, atol=atol)
    steps, state = jax.tree.map(np.asarray, parts[1])  # as a snapshot has it
    rest = trajectory(
        KEYS, MODEL, IMAGE, KNOWN, method=method, stops=[1, 4, 9], resume=(steps, state), **WALK
    )
    *_, (_, resumed) = rest
    np.testing.assert_array_equal(resumed.x, parts[-1][1].x)


@pytest.mark.parametrize("method", ALL, ids=by_name)
def test_a_run_that_is_closed_goes_on_to_the_same_pictures(method, tmp_path):
    rng = np.random.default_rng(0)
    task = Task("a", rng.integers(0, 256, SHAPE, np.uint8), rng.random(SHAPE[:2]) < 0.5, 0)
    sampler = Sampler(NOISE, PLAN, method)

    def progress(stop_after=None):
        made = Batches(MODEL, size=2, key=jax.random.key(0), snapshots=tmp_path)
        with closing(made.run([(task, 0), (task, 1)], sampler)) as walk:
            for i, one in enumerate(walk):
                if i == stop_after:
                    return one
        return one

    whole = progress()
    assert whole.calls == whole.total == sampler.total_calls
    progress(stop_after=5)
    assert len(list(tmp_path.iterdir())) == 1
    again = progress()
    assert again.resumed == sampler.calls[6]
    assert all(map(np.array_equal, again.pictures, whole.pictures))


@pytest.mark.parametrize("method", ALL, ids=by_name)
def test_other_numbers_compile_nothing_and_change_the_picture(method):
    numbers = [
        field.name for field in dataclasses.fields(method) if not field.metadata.get("static")
    ]
    other = dataclasses.replace(method, **{numbers[0]: getattr(method, numbers[0]) / 2})
    before = inpaint_batch(KEYS, MODEL, IMAGE, KNOWN, method=method, **WALK)
    image, known = -IMAGE, ~KNOWN
    model, keys = Partial(blur, jnp.array([0.5, 0.2])), KEYS[::-1]
    with compilations() as compiled:
        after = inpaint_batch(KEYS, MODEL, IMAGE, KNOWN, method=other, **WALK)
        inpaint_batch(keys, model, image, known, method=other, **WALK)
    assert not [name for name in compiled if "_advance" in name or "_begin" in name]
    assert np.abs(before - after).max() > 1e-4


def test_no_two_methods_have_one_structure_or_one_would_run_the_others_program():
    structures = [jax.tree.structure(method) for method in [*TOYS, *OURS]]
    for i, one in enumerate(structures):
        assert [one == other for other in structures] == [i == j for j in range(len(structures))]


def test_what_is_static_is_part_of_the_program():
    before = inpaint(KEYS[0], MODEL, IMAGE, KNOWN, method=Particles(), **WALK)
    with compilations() as compiled:
        after = inpaint(KEYS[0], MODEL, IMAGE, KNOWN, method=Particles(count=2), **WALK)
    assert any("_advance" in name for name in compiled)
    assert not np.array_equal(before, after)


# Methods by name.


def test_a_method_is_named_with_its_values():
    assert named_method("repaint") == RePaint()
    assert named_method("repaint", clip_denoised=False, colour=1) == RePaint(clip_denoised=False)
    named = named_method("repaint(eta=0.5, clip_denoised=True)", clip_denoised=False)
    assert named == RePaint(eta=0.5)
    assert named_method("toy_methods:Particles(count=2)") == Particles(count=2)
    file = Path(__file__).with_name("toy_methods.py")
    assert named_method(f"{file}:Scrambler(strength=0.5)").strength == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a name such as repaint, not ''"),
        ("repaint(", "expected a name such as repaint"),
        ("repiant", "one of repaint, .*or FILE.py:CLASS for one of your own; not 'repiant'"),
        ("repaint(etta=1)", "repaint has no 'etta'; its fields are clip_denoised, variance, eta"),
        ("repaint(0.5)", "expected values by name, as repaint"),
        ("repaint(eta=open('x'))", "expected values by name"),
        ("repaint(eta=2)", ".*eta: from 0 .DDIM. to 1 .DDPM., not 2"),
        ("toy_methods:Nothing", "toy_methods has no method Nothing"),
        ("no_such_module:A", "no_such_module cannot be imported: No module named"),
        ("no_such_file.py:A", "no_such_file.py cannot be imported: .*No such file"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_mend(text, message):
    with pytest.raises(ArgumentError, match=f"^method: {message}"):
        named_method(text)


# The guide.

GUIDE = (ROOT / "docs" / "methods.md").read_text()


def test_a_method_of_ones_own_runs_as_the_guide_says(tiny, tmp_path, monkeypatch):
    source, use = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[:2]
    assert len(source.strip().splitlines()) <= 25
    monkeypatch.chdir(tmp_path)
    Path("my_method.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"model": MODEL, "image": IMAGE, "known": KNOWN, "key": KEYS[0], **WALK}
    exec(use, names)
    np.testing.assert_array_equal(names["picture"][KNOWN], IMAGE[KNOWN])
    named = re.search(r'--config\.method="(my_method\.py:.*?)"', GUIDE)[1]
    config = load_config()
    config.update({"num_samples": 1, "method": named, "model": {"path": str(tiny)}})
    config.noise.num_steps = "4"
    run_inpainting(config, tmp_path / "out")
    assert (tmp_path / "out" / "grid.png").is_file()


def test_every_method_is_in_the_guides_table():
    listed = re.findall(r"^\| \[?`(\w+)", GUIDE, re.MULTILINE)
    assert {*listed} - {"config"} == {*METHODS}
