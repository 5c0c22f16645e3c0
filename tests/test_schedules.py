"""The noise schedule: betas and respacing as in the reference implementations."""

import json
import re

import numpy as np
import pytest
from conftest import GOLDEN

from repaint_jax import NoiseSchedule
from repaint_jax.schedules import SCHEDULES, check_end

REFERENCE = json.loads((GOLDEN / "noise_schedules.json").read_text())


@pytest.mark.parametrize("name", REFERENCE)
def test_betas_timesteps_and_alphas_cumprod_equal_guided_diffusions(name):
    reference = REFERENCE[name]
    kind = name.split("/")[0]
    noise = getattr(NoiseSchedule, kind)(reference["train_steps"])
    if reference["respacing"]:
        noise = noise.respace(reference["respacing"])
    assert noise.timesteps.tolist() == reference["timesteps"]
    np.testing.assert_allclose(noise.betas, reference["betas"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        noise.alphas_cumprod, reference["alphas_cumprod"], rtol=0, atol=1e-12
    )
    assert noise.betas.dtype == noise.alphas_cumprod.dtype == np.float64


def test_scaled_linear_and_sigmoid_by_hand():
    scaled = NoiseSchedule.scaled_linear(3, 0.01, 0.09)
    np.testing.assert_allclose(scaled.betas, [0.01, 0.04, 0.09], rtol=1e-12)
    sigmoid = NoiseSchedule.sigmoid(3, 0.1, 0.3)
    low = 1 / (1 + np.exp(6))
    np.testing.assert_allclose(sigmoid.betas, [0.1 + 0.2 * low, 0.2, 0.3 - 0.2 * low], rtol=1e-12)


def test_linear_keeps_its_noise_when_the_number_of_steps_changes():
    ends = [NoiseSchedule.linear(n).alphas_cumprod[-1] for n in (500, 1000, 4000)]
    np.testing.assert_allclose(np.log(ends), np.log(ends[1]), rtol=0.02)
    assert NoiseSchedule.linear(10, 0.1, 0.2).betas[[0, -1]].tolist() == [0.1, 0.2]


def test_alpha_cumprod_at_minus_one_is_the_clean_picture():
    noise = NoiseSchedule.linear(1000).respace(10)
    assert noise.alpha_cumprod_at(-1) == 1
    assert noise.alpha_cumprod_at(np.array([0, 9])).tolist() == [
        noise.alphas_cumprod[0],
        noise.alphas_cumprod[9],
    ]


def test_respacing_a_respaced_schedule_keeps_network_time():
    noise = NoiseSchedule.linear(1000).respace(100).respace("4")
    assert noise.timesteps.tolist() == [0, 333, 666, 999]
    assert noise.num_train_steps == 1000
    assert noise.num_steps == 4
    assert NoiseSchedule.linear(1000).respace(1).timesteps.tolist() == [0]


@pytest.mark.parametrize("steps", [0, -1, 1001, "1001", "600,500", "ddim7000", "ddim999"])
def test_more_steps_than_there_are_is_an_error(steps):
    with pytest.raises(ValueError, match=r"of (1000|500) timesteps"):
        NoiseSchedule.linear(1000).respace(steps)


@pytest.mark.parametrize("steps", ["", "many", "ddim", "10;20", "2.5"])
def test_unreadable_respacing_says_what_can_be_written(steps):
    with pytest.raises(ValueError, match='250, "10,20,30", "ddim25" or "logsnr20"'):
        NoiseSchedule.linear(1000).respace(steps)


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        ([], "list of T numbers"),
        ([[0.1]], "list of T numbers"),
        ([0.1, 0.0], r"betas\[1\] is 0"),
        ([0.1, 0.2, 1.0], r"betas\[2\] is 1"),
        ([float("nan")], r"betas\[0\] is nan"),
    ],
)
def test_impossible_betas_are_refused(betas, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule.from_betas(betas)


def test_more_steps_than_any_training_has_are_refused():
    for make in (NoiseSchedule.linear, NoiseSchedule.cosine, NoiseSchedule.sigmoid):
        with pytest.raises(ValueError, match="can have 1000000 steps at most; got 1000000000000"):
            make(10**12)


def test_no_steps_is_no_schedule():
    with pytest.raises(ValueError, match="at least 1 step; got 0"):
        NoiseSchedule.linear(0)


def test_a_schedule_cannot_be_changed_by_accident():
    noise = NoiseSchedule.linear(100)
    with pytest.raises(ValueError, match="read-only"):
        noise.betas[0] = 0.5


@pytest.mark.parametrize(("steps", "left"), [(100, "0.36"), (250, "0.08")])
def test_a_schedule_that_ends_far_from_noise_is_told_with_the_number(steps, left):
    noise = NoiseSchedule.linear(steps, 1e-4, 0.02)  # the betas of 1000 steps
    with pytest.warns(UserWarning, match=rf"ends at alphas_cumprod {left}\d*: ") as warned:
        check_end(noise)
    advised = float(re.search(r"the usual beta_end is ([\d.]+)", str(warned[0].message))[1])
    check_end(NoiseSchedule.linear(steps, 0.1 / steps, advised))


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("respaced", [None, 4, "ddim25"])
def test_the_usual_schedules_are_not(kind, respaced):
    if (kind, respaced) == ("sigmoid_cumprod", "ddim25"):
        pytest.skip("which leaves out the last 39 steps, over which this one goes from 1.3 % to 0")
    noise = SCHEDULES[kind](1000)
    check_end(noise if respaced is None else noise.respace(respaced))
