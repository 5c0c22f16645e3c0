"""Strokes: each pixel whose centre lies in the shape, and no other."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repaint_jax.web import strokes
from repaint_jax.web.refusals import Refused
from repaint_jax.web.strokes import THINNEST, hole_of

SHAPE = (24, 32)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
COORDINATES = st.one_of(st.integers(-10, 40), st.floats(-10, 40, width=32))
LINES = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=6)


def brush(points, size, kind="brush"):
    return {"kind": kind, "size": size, "points": [list(point) for point in points]}


def distances(points):
    """From each pixel's centre to a line of points, segment by segment."""
    found = np.full(SHAPE, np.inf)
    for (x1, y1), (x2, y2) in zip(points, points[1:] or points, strict=False):
        squared = (x2 - x1) ** 2 + (y2 - y1) ** 2
        along = ((X - x1) * (x2 - x1) + (Y - y1) * (y2 - y1)) / squared if squared else 0 * X
        along = np.clip(along, 0, 1)
        near = np.hypot(X - x1 - along * (x2 - x1), Y - y1 - along * (y2 - y1))
        found = np.minimum(found, near)
    return found


@given(LINES, st.floats(THINNEST, 40))
def test_a_stroke_covers_the_centres_within_half_its_size(points, size):
    distance = distances(points)
    covered = hole_of([brush(points, size)], SHAPE)
    clear = np.abs(distance - size / 2) > 1e-9 * (1 + size)  # but for the last digit
    np.testing.assert_array_equal(covered[clear], (distance <= size / 2)[clear])


@given(LINES, st.floats(THINNEST, 40))
def test_strokes_of_many_segments_are_painted_in_parts(points, size):
    whole = hole_of([brush(points, size)], SHAPE)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(strokes, "_ROWS_AT_ONCE", 1)
        np.testing.assert_array_equal(hole_of([brush(points, size)], SHAPE), whole)


@given(st.tuples(st.floats(0, 31.99), st.floats(0, 23.99)), st.floats(0.001, 1))
def test_no_dot_is_so_small_that_it_is_lost(point, size):
    hole = hole_of([brush([point], size)], SHAPE)
    assert hole[int(point[1]), int(point[0])]
    assert hole.sum() <= 4


@given(COORDINATES, COORDINATES, COORDINATES, COORDINATES)
def test_a_rectangle_covers_the_centres_in_it_and_the_pixel_it_begins_in(x1, y1, x2, y2):
    low, high = np.minimum((x1, y1), (x2, y2)), np.maximum((x1, y1), (x2, y2))
    columns, rows = (low[0] <= X) & (high[0] >= X), (low[1] <= Y) & (high[1] >= Y)
    grid = np.arange(-20, 60)
    if not ((grid + 0.5 >= low[0]) & (grid + 0.5 <= high[0])).any():
        columns = np.floor(X) == np.floor(low[0])
    if not ((grid + 0.5 >= low[1]) & (grid + 0.5 <= high[1])).any():
        rows = np.floor(Y) == np.floor(low[1])
    hole = hole_of([{"kind": "rectangle", "from": [x1, y1], "to": [x2, y2]}], SHAPE)
    np.testing.assert_array_equal(hole, columns & rows)


def test_operations_apply_in_their_order():
    known = np.ones(SHAPE, bool)
    known[3:9, 3:9] = False
    dot = brush([(6, 6)], 4)
    painted = hole_of([dot], SHAPE)
    operations = [
        (dot, painted),
        ({"kind": "mask", "id": "m"}, ~known),
        (brush([(6, 6)], 4, "eraser"), ~known & ~painted),
        ({"kind": "invert"}, known | painted),
        ({"kind": "clear"}, np.zeros(SHAPE, bool)),
        ({"kind": "rectangle", "from": [-5, -5], "to": [99, 99]}, np.ones(SHAPE, bool)),
    ]
    for count, (_, expected) in enumerate(operations, 1):
        done = [operation for operation, _ in operations[:count]]
        hole = hole_of(json.loads(json.dumps(done)), SHAPE, {"m": known}.__getitem__)
        np.testing.assert_array_equal(hole, expected)
    assert known.sum() == known.size - 36  # the uploaded mask is left as it was


@pytest.mark.parametrize(
    "operation",
    [
        "brush", None, {}, {"kind": "spray"}, {"kind": "brush"}, {"kind": "mask", "id": "m"},
        brush([], 3), brush([(1, 2, 3)], 3), brush([("a", 2)], 3), brush([(float("nan"), 2)], 3),
        brush([(1e9, 2)], 3), brush([(10**400, 2)], 3), brush([([1], 2)], 3), brush([(1, 2)], 0),
        brush([(1, 2)], -1), brush([(1, 2)], True), brush([(1, 2)], "3"), brush([(1, 2)], 1e5),
        brush([(1, 2)], float("nan")), {"kind": "rectangle", "from": [1, 2]},
    ],
)  # fmt: skip
def test_what_is_no_stroke_is_refused(operation):
    with pytest.raises(Refused) as refused:
        hole_of([operation], SHAPE)
    assert refused.value.status == 422


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(Refused, match="another size") as refused:
        hole_of([{"kind": "mask", "id": "m"}], SHAPE, lambda name: np.ones((3, 3), bool))
    assert refused.value.status == 422


@pytest.mark.parametrize(
    "operations",
    [
        [brush([(0, 0), (0, 9999)] * 5000, 24000)],
        [{"kind": "invert"}] * 20000,
        [{"kind": "rectangle", "from": [0, 0], "to": [9, 9]}] * 20000,
    ],
)
def test_no_request_paints_for_minutes(operations, monkeypatch):
    for name in ("_stroke", "_rectangle"):
        monkeypatch.setattr(strokes, name, lambda *arguments: None)
    monkeypatch.setattr(np, "logical_not", lambda hole, out: None)
    with pytest.raises(Refused, match="too much is painted") as refused:
        hole_of(operations, (4000, 6000))
    assert refused.value.status == 413
