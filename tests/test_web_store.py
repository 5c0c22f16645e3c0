"""What people brought is theirs, and forgotten in time."""

import re

import pytest

from repaint_jax.web.refusals import Refused
from repaint_jax.web.store import Store


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def missing(store, owner, name):
    with pytest.raises(Refused, match="there is no such thing") as refused:
        store.get(owner, name)
    return refused.value.status == 404


def test_a_thing_is_its_owners_alone(clock):
    store = Store("thing", clock=clock)
    name = store.put("me", "mine")
    assert store.get("me", name) == "mine"
    assert missing(store, "you", name)
    assert missing(store, "me", "../" + name)


def test_ids_are_of_128_random_bits():
    store = Store("thing")
    names = {store.put("me", i) for i in range(1000)}
    assert len(names) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in names)
    ones = sum(int(name, 16).bit_count() for name in names) / (1000 * 128)
    assert abs(ones - 0.5) < 5 * 0.5 / (1000 * 128) ** 0.5  # five standard errors


def test_after_an_hour_it_is_forgotten_though_nobody_asks(clock):
    store = Store("thing", clock=clock)
    store.put("me", "mine")
    clock.now = 3600
    store.forget()
    assert len(store) == 1
    clock.now = 3601
    store.forget()
    assert len(store) == 0


def test_what_is_worked_on_has_its_hour_anew(clock):
    store = Store("thing", clock=clock)
    seen, used = store.put("me", "seen"), store.put("me", "used")
    clock.now = 3000
    store.get("me", seen)
    store.get("me", used, renew=True)
    clock.now = 3601
    assert missing(store, "me", seen)
    assert store.get("me", used) == "used"


def test_beyond_its_bytes_the_oldest_go_but_never_the_last(clock):
    store = Store("thing", most_bytes=10, clock=clock)
    first, second = store.put("me", 1, 4), store.put("me", 2, 4)
    store.get("me", first, renew=True)
    third = store.put("me", 3, 4)
    assert missing(store, "me", second)
    assert store.get("me", first) == 1
    store.put("me", 4, 99)
    assert missing(store, "me", first)
    assert missing(store, "me", third)
    assert len(store) == 1
