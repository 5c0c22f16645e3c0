"""One object and one loop: what a page, a notebook or a script of one's own needs."""

import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import jax
import numpy as np
import pytest
from compilations import compilations

from repaint_jax import RePaint, load_pipeline
from repaint_jax.errors import ArgumentError
from repaint_jax.methods import DDNM, PiGDM
from repaint_jax.pictures.images import astronaut
from repaint_jax.pictures.masks import make_mask

FACE = astronaut(size=32)
KNOWN = make_mask("half", (32, 32))


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline("celeba32")


@pytest.fixture(scope="module")
def short(pipeline):
    """A walk of 30 steps."""
    return pipeline.sampler(num_steps=30, num_resamples=1)


@pytest.mark.slow
def test_a_loop_of_ten_lines_shows_previews_that_come_closer(pipeline, short):
    previews, shares = [], []
    for progress in pipeline.stream(FACE, KNOWN, key=1, num_samples=2, sampler=short):
        shares.append(progress.calls / progress.total)
        if progress.preview:
            previews.append(progress.preview[0].astype(float))
    filled = progress.pictures
    distances = [np.abs(preview - filled[0])[~KNOWN].mean() for preview in previews]

    every_fifth = distances[::5]
    assert sorted(every_fifth, reverse=True) == every_fifth
    assert sorted(shares) == shares
    assert shares[-1] == 1
    assert progress.calls == short.total_calls == 30
    for picture in (*filled, *previews):
        np.testing.assert_array_equal(picture[KNOWN], FACE[KNOWN])
    assert not np.array_equal(filled[0], filled[1])


@pytest.mark.slow
def test_inpaint_is_the_end_of_the_stream_and_samples_do_not_depend_on_each_other(pipeline, short):
    *_, last = pipeline.stream(FACE, KNOWN, key=1, num_samples=3, sampler=short)
    pictures = pipeline.inpaint(FACE, KNOWN, key=1, num_samples=3, sampler=short)
    np.testing.assert_array_equal(pictures, last.pictures)
    alone = pipeline.inpaint(FACE, KNOWN, key=jax.random.key(1), sampler=short)
    assert np.abs(alone[0].astype(int) - pictures[0]).max() <= 1  # another shape rounds differently


@pytest.mark.slow
def test_pigdm_does_not_run_away_from_the_known_pixels_of_a_trained_network(pipeline):
    """Whose predictions in the most noise are off by hundreds."""
    sampler = pipeline.sampler(PiGDM(), num_steps=33, num_resamples=1)
    face = pipeline.inpaint(FACE, KNOWN, key=0, sampler=sampler)[0].astype(int)
    seam = KNOWN[:, :-1] & ~KNOWN[:, 1:]
    change = np.abs(np.diff(face, axis=1))
    assert change[seam].mean() < change.mean()


def test_closing_the_stream_cancels_within_a_segment(pipeline, short):
    calls = []
    model = jax.tree_util.Partial(lambda x, t: counted(calls, pipeline.model, x, t))
    slow = replace(pipeline, model=model)
    with closing(slow.stream(FACE, KNOWN, sampler=short)) as stream:
        next(stream)
    jax.effects_barrier()
    assert 0 < len(calls) <= 4  # of 30: the segment that was looked at, and those under way


def counted(calls, model, x, t):
    jax.debug.callback(lambda t: calls.append(int(t)), t[0])
    return model(x, t)


def test_a_stream_that_is_cancelled_goes_on_where_it_was(pipeline, short, tmp_path):
    job = {"key": 2, "sampler": short, "snapshots": tmp_path}
    with closing(pipeline.stream(FACE, KNOWN, **job)) as stream:
        next(stream)
    (snapshot,) = tmp_path.iterdir()
    steps = [progress.calls for progress in pipeline.stream(FACE, KNOWN, **job)]
    assert steps[0] == 2
    assert not snapshot.exists()


@pytest.mark.parametrize("method", [RePaint(), DDNM()])
def test_another_number_picture_mask_key_or_weight_compiles_nothing(pipeline, method):
    sampler = pipeline.sampler(method, num_steps=3, num_resamples=1)
    pipeline.inpaint(FACE, KNOWN, sampler=sampler)
    others = replace(pipeline, model=jax.tree.map(lambda w: w * 1.01, pipeline.model))
    changed = pipeline.sampler(replace(method, eta=0.5), num_steps=3, num_resamples=1)
    with compilations() as names:
        others.inpaint(FACE[::-1].copy(), ~KNOWN, key=7, sampler=changed)
    assert names == []


WRONG = [
    ((FACE[:16], KNOWN), {}, "image: expected uint8[32, 32, 3]; got uint8[16, 32, 3]"),
    ((FACE / 255, KNOWN), {}, "image: expected uint8[32, 32, 3]; got float64[32, 32, 3]"),
    ((FACE, KNOWN * 255), {}, "known: expected bool[32, 32], True where the picture is kept"),
    ((FACE, KNOWN[:, :4]), {}, "known: expected bool[32, 32], True where the picture is kept"),
    ((FACE, KNOWN), {"num_samples": 0}, "num_samples: at least 1, not 0"),
    ((FACE, KNOWN), {"key": "seed"}, "key: expected a seed or jax.random.key(0), not 'seed'"),
]


@pytest.mark.parametrize(("arguments", "more", "message"), WRONG)
def test_what_is_wrong_is_said_by_the_arguments_name(pipeline, arguments, more, message):
    with pytest.raises(ArgumentError) as raised:
        pipeline.inpaint(*arguments, **more)
    assert message in str(raised.value)
    assert "--" not in str(raised.value)
    assert "config" not in str(raised.value)


@pytest.mark.parametrize(
    ("walk", "argument"), [({"num_steps": 2000}, "noise"), ({"jump_length": 0}, "resampling")]
)
def test_a_walk_that_is_none_is_said_by_its_arguments_name(pipeline, walk, argument):
    with pytest.raises(ArgumentError, match=argument):
        pipeline.sampler(**walk)


def test_importing_the_package_loads_neither_flax_nor_what_pipelines_need():
    code = "import sys, repaint_jax; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "jax" in loaded
    assert not loaded & {"flax", "PIL", "ml_collections", "absl", "tqdm", "safetensors"}
