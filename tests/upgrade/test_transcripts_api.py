"""What programs of people asked an old release, today's server answers as it did then, and more at most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Make, make_network  # noqa: F401 - a fixture
from tests.upgrade import shapes, tape
from tests.upgrade.api import Answer
from tests.upgrade.calls import Replay


@pytest.mark.parametrize("recorded", tape.all_of("api.jsonl"), ids=lambda path: path.parent.name)
def test_old_questions_get_their_answers(recorded: Path, make_network: Make) -> None:  # noqa: F811
    replay = Replay(make_network()).run(tape.load(recorded))
    assert replay.wrong == []


THEN = {"method": "GET", "path": "/api/v1/x", "status": 200, "kind": "application/json",
        "answer": {"id": "1", "items": [{"size": 3, "ended": None, "of": {"cores": 1}}]}}  # fmt: skip
REFUSED = {**THEN, "status": 400, "answer": {"code": "bad-input", "message": "no"}}


@pytest.mark.parametrize(
    ("then", "status", "body", "said"),
    [
        (THEN, 200, {"id": "2", "items": [{"size": 4.5, "ended": 7, "of": {"cores": 2, "new": 1}}], "new": 1}, ""),
        (THEN, 200, {"id": "2", "items": []}, ".items[] is not there any more"),
        (THEN, 200, {"id": 2, "items": [{"size": 4, "ended": 7, "of": {"cores": 2}}]}, ".id was text and is number"),
        (THEN, 200, {"items": [{"size": 4, "ended": 7, "of": {"cores": 2}}]}, ".id is not there any more"),
        (
            THEN,
            200,
            {"id": "2", "items": [{"size": 4, "ended": 7, "of": {}}]},
            ".items[].of.cores is not there any more",
        ),
        (THEN, 404, {"code": "not-found"}, "was answered 200 and is answered 404"),
        (REFUSED, 400, {"code": "conflict", "message": ""}, "was refused as bad-input and is refused as conflict"),
    ],
)
def test_what_is_answered_less_is_told_of(then: dict[str, Any], status: int, body: Any, said: str) -> None:
    replay = Replay.__new__(Replay)
    replay._now = {}
    found = replay._compare(then, Answer(status, "application/json", body))
    assert [line[: len(said)] for line in found] == ([said] if said else [])


def test_a_field_that_is_null_now_and_then_keeps_its_type() -> None:
    assert shapes.lost(shapes.of({"a": 1}), shapes.of({"a": None})) == []
    assert shapes.lost(shapes.of({"a": None}), shapes.of({"a": "x"})) == []
    assert shapes.lost(shapes.of({"a": True}), shapes.of({"a": 1})) == [".a was yes or no and is number"]
