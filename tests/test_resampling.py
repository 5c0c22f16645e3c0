"""The resample schedule: the authors' walks, and any other."""

import json

import numpy as np
import pytest
from conftest import GOLDEN

from repaint_jax import ResampleSchedule

REFERENCE = json.loads((GOLDEN / "resample_schedules.json").read_text())


@pytest.mark.parametrize("reference", REFERENCE, ids=lambda r: str(r["params"]))
def test_walks_and_call_counts_equal_the_authors(reference):
    params = reference["params"]
    walk = ResampleSchedule.from_times(reference["times"])
    assert walk.times.tolist() == reference["times"]
    assert walk.num_model_calls == reference["reverse_steps"]
    if params["n_sample"] == 1 and "jump2_length" not in params:
        made = ResampleSchedule.create(
            params["t_T"],
            params["jump_length"],
            params["jump_n_sample"],
            params.get("start_resampling"),
        )
        assert made.times.tolist() == reference["times"]


@pytest.mark.parametrize(
    ("steps", "jump", "resamples", "start", "calls"),
    [
        (250, 10, 10, None, 2410),
        (250, 10, 5, None, 1210),
        (250, 10, 15, None, 3610),
        (250, 5, 5, None, 1230),
        (250, 5, 10, None, 2455),
        (250, 5, 15, None, 3680),
        (250, 1, 5, None, 1246),
        (250, 1, 10, None, 2491),
        (250, 1, 15, None, 3736),
        (250, 1, 2, None, 499),
        (250, 10, 2, None, 490),
        (100, 10, 10, None, 910),
        (50, 10, 10, None, 410),
        (100, 5, 9, 50, 500),
        (250, 10, 1, None, 250),
        (10, 10, 7, None, 10),
        (1, 1, 1, None, 1),
    ],
)
def test_network_calls_of_the_papers_settings(steps, jump, resamples, start, calls):
    assert ResampleSchedule.create(steps, jump, resamples, start).num_model_calls == calls


def test_the_papers_schedule_has_4570_transitions_and_216_jumps():
    plan = ResampleSchedule.create(250)
    moves = np.diff(plan.times)
    assert moves.size == 4570
    assert np.sum(moves == -1) == 2410
    assert np.sum(moves == 1) == 2160
    assert plan.num_jumps == 216
    assert plan.num_steps == 250


def test_scan_steps_lead_from_call_to_call():
    plan = ResampleSchedule.from_times([3, 2, 1, 2, 3, 2, 1, 0, -1, 2, 1, 0, -1])
    assert plan.t.tolist() == [3, 2, 3, 2, 1, 0, 2, 1, 0]
    assert plan.t_next.tolist() == [2, 3, 2, 1, 0, 2, 1, 0, -1]
    assert plan.num_jumps == 2
    one_leap = ResampleSchedule.from_times([3, 2, 1, 3, 2, 1, 0, -1, 2, 1, 0, -1])
    assert one_leap.t.tolist() == plan.t.tolist()


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([], "at least two"),
        ([-1], "at least two"),
        ([3, 2, 1, 0], "end in -1"),
        ([1, 2, 1, 0, -1], "starts at 1 and rises to 2"),
        ([3, 1, 0, -1], r"times\[0:2\] is \[3, 1\]"),
        ([2, 2, 1, 0, -1], r"times\[0:2\] is \[2, 2\]"),
        ([2, 1, 0, -1, -2, -1], r"times\[3:5\] is \[-1, -2\]"),
    ],
)
def test_lists_that_are_no_walk_are_refused_where_they_go_wrong(times, message):
    with pytest.raises(ValueError, match=message):
        ResampleSchedule.from_times(times)


def test_a_walk_without_end_is_refused_before_it_is_made():
    with pytest.raises(ValueError, match="take 2400000000010 network calls; at most 10000000"):
        ResampleSchedule.create(250, 10, 10**10)


def test_fractions_are_no_timesteps():
    with pytest.raises(TypeError):
        ResampleSchedule.from_times([1.5, 0.5, -0.5])


@pytest.mark.parametrize("argument", ["num_steps", "jump_length", "num_resamples"])
def test_t_j_and_r_start_at_one(argument):
    arguments = {"num_steps": 10, "jump_length": 2, "num_resamples": 2, argument: 0}
    with pytest.raises(ValueError, match=f"{argument} must be at least 1; got 0"):
        ResampleSchedule.create(**arguments)
