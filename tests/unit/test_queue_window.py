"""Windows: what is in memory is always the true beginning of the order, however small memory is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpc.core.journal import Journal
from cpc.queue import window as module
from cpc.queue.window import UNTRIED, Key, Tried, Window


class Disk:
    """The eligible rows of one window, as the database has them."""

    def __init__(self) -> None:
        self.rows: dict[Key, Tried] = {}

    def after(self, mark: Key, limit: int) -> list[tuple[int, int, int, int, int]]:
        keys = sorted(key for key in self.rows if key > mark)[:limit]
        return [(*key, *self.rows[key]) for key in keys]

    def refill(self, window: Window) -> None:
        if window.needs_refill and window.watermark is not None:
            window.fill(self.after(window.watermark, module.CAPACITY), module.CAPACITY)


def agrees(window: Window, disk: Disk) -> None:
    held = sorted(key for key in disk.rows if window.watermark is None or key <= window.watermark)
    assert window.entries == held
    assert window.total == len(disk.rows)
    assert window.tried == {key[1]: disk.rows[key] for key in held if disk.rows[key][0]}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAPACITY", 8)
    monkeypatch.setattr(module, "LOW", 3)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(-3, 3), st.integers(0, 3)),
        st.tuples(st.just("claim"), st.just(0), st.just(0)),
        st.tuples(st.just("remove"), st.integers(0, 200), st.just(0)),
        st.tuples(st.just("many"), st.integers(-3, 3), st.integers(1, 30)),
        st.tuples(st.just("rank"), st.integers(-3, 3), st.just(0)),
        st.tuples(st.just("roll back"), st.just(0), st.just(0)),
        st.tuples(st.just("commit"), st.just(0), st.just(0)),
    ),
    max_size=80,
)


class Model:
    """A window and what it should be, moved by the same steps."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.window = Window(1, 1, self.journal)
        self.disk = Disk()
        self.saved: dict[Key, Tried] = {}
        self.jobs = 0

    def take(self, what: str, one: int, two: int) -> None:
        getattr(self, "_" + what.replace(" ", "_"))(one, two)
        agrees(self.window, self.disk)

    def _job(self) -> int:
        self.jobs += 1
        return self.jobs

    def _add(self, rank: int, attempts: int) -> None:
        key, tried = (rank, self._job()), (attempts, 0, attempts)
        self.disk.rows[key] = tried
        self.window.add(key, tried)

    def _claim(self, _one: int, _two: int) -> None:
        self.disk.refill(self.window)
        first = min(self.disk.rows, default=None)
        assert self.window.head == first, "the first of the window is the first of all"
        if first is not None:
            del self.disk.rows[first]
            self.window.remove(first)

    def _remove(self, which: int, _two: int) -> None:
        keys = sorted(self.disk.rows)
        if keys:
            key = keys[which % len(keys)]
            del self.disk.rows[key]
            self.window.remove(key)

    def _many(self, rank: int, count: int) -> None:
        for _ in range(count):
            self.disk.rows[rank, self._job()] = UNTRIED
        self.window.forget(count)

    def _rank(self, rank: int, _two: int) -> None:
        self.disk.rows = {(rank, key[1]): tried for key, tried in self.disk.rows.items()}
        self.window.forget(0)

    def _roll_back(self, _one: int, _two: int) -> None:
        self.journal.undo()
        self.disk.rows = dict(self.saved)

    def _commit(self, _one: int, _two: int) -> None:
        self.journal.forget()
        self.saved = dict(self.disk.rows)


@settings(max_examples=200)
@given(STEPS)
def test_a_window_holds_the_true_beginning_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    model = Model()
    for step in steps:
        model.take(*step)
    order = []
    while model.disk.rows:
        order.append(min(model.disk.rows))
        model.take("claim", 0, 0)
    assert order == sorted(order)


def test_memory_is_bounded_however_deep_the_queue() -> None:
    model = Model()
    for _ in range(200):
        model.take("add", 0, 0)
        assert len(model.window.entries) <= 2 * module.CAPACITY
    assert model.window.total == 200
    assert model.window.watermark is not None


def test_every_job_past_the_watermark_comes_in_order() -> None:
    model = Model()
    model.take("many", 0, 100)
    assert model.window.entries == []
    for expected in range(1, 101):
        assert min(model.disk.rows)[1] == expected
        model.take("claim", 0, 0)
    assert model.window.head is None


def test_a_late_job_of_high_priority_overtakes_what_is_on_disk() -> None:
    model = Model()
    model.take("many", 0, 100)
    model.take("add", -5, 0)
    assert model.window.entries == [], "the watermark is at the bottom: it is read with the next refill"
    model.disk.refill(model.window)
    assert model.window.head == (-5, 101)


def test_the_bottom_is_below_every_rank() -> None:
    window = Window(1, 1, Journal())
    window.forget(1)
    assert window.watermark == (-(1 << 15), 0) < (-30, 0), "and what the database can hold"
