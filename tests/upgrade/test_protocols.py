"""The last two protocol numbers and at least 24 months are served: by the record of releases, not by memory."""

from __future__ import annotations

import pytest

from cpc.wire.messages import OLDEST_PROTOCOL, PROTOCOL
from tests.upgrade import tape
from tests.upgrade.fixture import all_fixtures

MONTHS = 24 * 31 * 86_400 * 1_000_000  # µs


def must_serve(history: list[tuple[int, int]], newest: int) -> set[int]:
    """Numbers that a release which speaks `newest` serves. `history`: (when µs, newest number) of each release."""
    last = max(when for when, _ in history)
    numbers = {newest, *({newest - 1} if newest > 1 else ())}
    for _, number in history:
        followed = [when for when, later in history if later > number]
        if not followed or last - min(followed) < MONTHS:
            numbers.add(number)
    return numbers


@pytest.mark.parametrize(
    ("history", "newest", "expected"),
    [
        ([(0, 1)], 1, {1}),
        ([(0, 1)], 2, {1, 2}),
        ([(0, 1), (5, 2), (6, 3)], 3, {1, 2, 3}),
        ([(0, 1), (5, 2), (6 + MONTHS, 3)], 3, {2, 3}),
        ([(0, 1), (5, 2), (6, 3), (7 + MONTHS, 4)], 5, {3, 4, 5}),
        ([(0, 1), (5, 2), (9 + MONTHS, 2)], 2, {1, 2}),
    ],
)
def test_how_long_a_number_is_served(history: list[tuple[int, int]], newest: int, expected: set[int]) -> None:
    assert must_serve(history, newest) == expected


def test_every_number_that_must_be_served_is() -> None:
    history = [(about.recorded, about.protocol) for about in (each.about() for each in all_fixtures())]
    served = set(range(OLDEST_PROTOCOL, PROTOCOL + 1))
    lost = must_serve(history, PROTOCOL) - served
    assert not lost, f"protocol {', '.join(map(str, sorted(lost)))} is not served any more, but is still out there"


@pytest.mark.parametrize("name", ["worker.jsonl", "peer.jsonl"])
def test_every_number_that_is_served_has_a_transcript(name: str) -> None:
    """Of a release that spoke it as its newest; a number that no release has spoken yet is in the making."""
    spoken = set()
    for path in tape.all_of(name):
        spoken.add(next(line["frame"]["p"] for line in tape.load(path) if "p" in line.get("frame", {})))
    assert set(range(OLDEST_PROTOCOL, PROTOCOL)) - spoken == set()
    assert OLDEST_PROTOCOL in spoken
