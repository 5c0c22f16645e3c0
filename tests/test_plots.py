"""Schedules as pictures and trajectories as films."""

import numpy as np
import pytest
from PIL import Image

from repaint_jax import ResampleSchedule
from repaint_jax.pictures.plots import plot_schedule, save_film


def test_every_call_of_a_short_trajectory_is_filmed():
    plan = ResampleSchedule.create(20, 5, 2)
    assert plan.film_stops() == list(range(1, plan.num_model_calls + 1))


def test_a_film_of_the_papers_schedule_shows_the_noise_go_up_as_often_as_the_jumps_allow():
    plan = ResampleSchedule.create(250)
    stops = plan.film_stops(120)
    assert 80 <= len(stops) <= 125
    assert stops[-1] == plan.num_model_calls
    levels = plan.t_next[np.array(stops) - 1]
    assert np.sum(np.diff(levels) > 0) >= 35


def test_a_film_without_jumps_is_evenly_spaced():
    stops = ResampleSchedule.create(1000, 10, 1).film_stops(90)
    assert set(np.diff(stops)) <= {33, 34}


@pytest.mark.parametrize("channels", [1, 3])
def test_the_film_puts_a_dot_on_the_schedule(tmp_path, channels):
    plan = ResampleSchedule.create(8, 2, 2)
    stops = plan.film_stops()
    frames = [np.full((16, 12, channels), 100, np.uint8)] * len(stops)
    save_film(tmp_path / "film.gif", frames, stops, plan)
    centres = []
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == len(stops)
        for index in range(film.n_frames):
            film.seek(index)
            frame = np.array(film.convert("RGB")).astype(int)
            red = (frame[..., 0] - frame[..., 1] > 60) & (frame[..., 2] < 130)
            rows, columns = np.nonzero(red)
            centres.append((columns.mean(), -rows.mean()))
    x, height = np.transpose(centres)
    assert np.all(np.diff(x) > 0)
    # The dot's height is the time of the next call; t = -1 at the end.
    times = plan.t_next[np.array(stops) - 1]
    assert np.corrcoef(height, times)[0, 1] > 0.99


def test_the_plot_says_what_the_schedule_costs(tmp_path):
    plot_schedule(ResampleSchedule.create(20, 5, 2), tmp_path / "new" / "schedule.png")
    with Image.open(tmp_path / "new" / "schedule.png") as picture:
        assert picture.size == (1350, 600)
        blue = np.array(picture.convert("RGB")).astype(int)
    assert np.sum(blue[..., 2] - blue[..., 0] > 80) > 500  # the line is there
