"""What a page may choose, and how long it is said to take."""

import dataclasses

import pytest
from web_server import paced_pipeline

from repaint_jax.methods import DDNM, METHODS, Hybrid
from repaint_jax.web.choices import Choices, Clock


@pytest.fixture(scope="module")
def pipeline():
    return paced_pipeline()


def test_every_method_comes_in_three_qualities_that_cost_more_and_more(pipeline):
    choices = Choices.of(pipeline)
    assert set(choices.methods) == set(METHODS)
    assert choices.default == ("repaint", "good")
    for choice in choices.methods.values():
        calls = [sampler.total_calls for sampler in choice.qualities.values()]
        assert list(choice.qualities) == ["draft", "good", "fine"]
        assert calls == sorted(set(calls))


def test_the_hybrid_has_most_levels_late_where_the_schedule_has_so_many(pipeline):
    def qualities(pipeline):
        return Choices.of(pipeline).methods["hybrid"].qualities

    assert [each.total_calls for each in qualities(pipeline).values()] == [27, 99, 301]
    late = pipeline.sampler(Hybrid(), num_steps="30,8,8,7", num_resamples=1)
    assert Choices.of(pipeline, late).default == ("hybrid", "good")
    short = dataclasses.replace(pipeline, noise=pipeline.noise.respace(100))
    assert [each.noise.num_steps for each in qualities(short).values()] == [15, 53, 100]


def test_what_is_configured_is_the_default(pipeline):
    same = pipeline.sampler(num_steps=250, num_resamples=10)
    assert Choices.of(pipeline, same).default == ("repaint", "fine")
    other = pipeline.sampler(num_steps=30)
    choices = Choices.of(pipeline, other)
    assert choices.default == ("repaint", "configured")
    assert choices.methods["repaint"].qualities["configured"] is other
    own = pipeline.sampler(DDNM(eta=0.123), num_steps=30)
    choices = Choices.of(pipeline, own)
    assert choices.default == ("ddnm as configured", "configured")
    assert next(iter(choices.methods)) == "ddnm as configured"
    assert set(choices.methods) > set(METHODS)


def test_seconds_are_measured_or_in_proportion_to_the_nearest():
    clock = Clock()
    assert clock.seconds("repaint", 4) is None
    clock.note("repaint", 4, 1.0)
    clock.note("ddnm", 1, 0.5)
    assert clock.seconds("repaint", 4) == 1.0
    assert clock.seconds("repaint", 8) == 2.0
    assert clock.seconds("ddnm", 2) == 1.0
    assert clock.seconds("mmps", 8) == 2.0
    clock.note("repaint", 4, 3.0)
    assert clock.seconds("repaint", 4) == 3.0
