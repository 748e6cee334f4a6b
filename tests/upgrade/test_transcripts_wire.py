"""Machines of old releases and of today understand each other: one side says what its transcript has, the other is real."""

from __future__ import annotations

import msgspec
import pytest

from cpc.core.errors import Refused
from cpc.wire import frames, messages
from tests.upgrade import shapes, tape
from tests.upgrade.old_server import OldServer, of_worker, results_then
from tests.upgrade.old_worker import OldWorker, shapes_then
from tests.upgrade.tape import Line

NAME = "worker.jsonl"
TRANSCRIPTS = tape.all_of(NAME)


@pytest.fixture(params=TRANSCRIPTS, ids=lambda path: path.parent.name)
def lines(request: pytest.FixtureRequest) -> list[Line]:
    """One release's transcript."""
    return tape.load(request.param)


def said_less(before: dict[str, shapes.Shape], now: dict[str, list[shapes.Shape]]) -> list[str]:
    """What is not said any more, of all methods."""
    return [
        f"{method}: {line}"
        for method, shape in before.items()
        for line in shapes.lost(shape, shapes.merge(now.get(method, [])))
    ]


def test_an_old_worker_lives_its_life_at_the_server_of_today(lines: list[Line]) -> None:
    worker = OldWorker(lines).run()
    assert said_less(shapes_then(lines, "server"), worker.heard) == []


def test_a_worker_of_today_lives_its_life_at_an_old_server(lines: list[Line]) -> None:
    server = OldServer(lines).run()
    for lease, then in results_then(lines).items():
        now = server.results[lease]
        assert (now["outcome"], now.get("exit_code")) == (then["outcome"], then.get("exit_code"))
        assert now.get("files") == then.get("files")
    assert said_less(shapes_then(of_worker(lines), "worker"), server.said) == []


def test_no_method_has_left(lines: list[Line]) -> None:
    assert tape.said(lines) - tape.methods(messages) == {"no-such-method"}


@pytest.mark.parametrize(
    ("structure", "field", "word"),
    [
        (messages.Welcome, "heartbeat_time", "hello: .heartbeat_time is not there any more"),
        (messages.Settled, "verdict", "orders: .settled[].verdict is not there any more"),
        (messages.ChunkData, "data", "chunk-get: .data is not there any more"),
    ],
)
def test_a_field_that_the_server_says_no_more_is_found(
    structure: type, field: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replay bites: what is left out of a body on its way is told of by its path."""
    whole = frames.body

    def without(message: object) -> bytes:
        made = whole(message)
        data = made if isinstance(made, bytes) else bytes(made)
        return msgspec.msgpack.encode(_without(msgspec.msgpack.decode(data), message, structure, field))

    monkeypatch.setattr(frames, "body", without)
    lines = tape.load(TRANSCRIPTS[-1])
    try:
        lost = said_less(shapes_then(lines, "server"), OldWorker(lines).run().heard)
    except (AssertionError, KeyError) as error:
        lost = [str(error)]
    assert lost
    assert any(word in line or field in line for line in lost), lost


def _without(data: dict[str, object], message: object, structure: type, field: str) -> dict[str, object]:
    if isinstance(message, structure):
        return {name: value for name, value in data.items() if name != field}
    if isinstance(message, messages.Orders) and structure is messages.Settled and "settled" in data:
        settled = [{name: value for name, value in each.items() if name != field} for each in data["settled"]]  # type: ignore[attr-defined]
        return {**data, "settled": settled}
    return data


def test_what_an_old_worker_may_not_be_asked_any_more_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that becomes necessary is refused to the worker of then: the replay stops at that line."""

    class Stricter(messages.Turn, frozen=True, kw_only=True):
        mood: str

    monkeypatch.setitem(frames._decoders, messages.Turn, msgspec.msgpack.Decoder(Stricter))
    with pytest.raises(AssertionError, match=r"line \d+: .*turn.*mood"):
        OldWorker(tape.load(TRANSCRIPTS[-1])).run()


def test_orders_that_a_worker_does_not_understand_any_more_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(messages.Orders, frozen=True):
        tasks: tuple[messages.Task, ...] = msgspec.field(default=(), name="jobs")

    monkeypatch.setitem(frames._decoders, messages.Orders, msgspec.msgpack.Decoder(Deaf))
    monkeypatch.setattr("tests.upgrade.old_server.PATIENCE", 200.0)
    with pytest.raises(AssertionError, match="the worker of today does not do"):
        OldServer(tape.load(TRANSCRIPTS[-1])).run()


def test_unknown_keys_are_ignored_wherever_they_are() -> None:
    """The replay with something new in every map of every frame, both ways."""
    lines = tape.load(TRANSCRIPTS[-1])
    assert OldWorker([with_more(line, "worker") for line in lines]).run().heard
    assert OldServer([with_more(line, "server") for line in lines]).run().results


def with_more(line: Line, by: str) -> Line:
    """A line of this side with something new in every map."""
    if line.get("by") != by:
        return line
    mine = {**line["frame"], "zz-new": ["new", {"a": 1}]}
    if "b" in mine:
        mine["b"] = _more(mine["b"])
    return {**line, "frame": mine}


def _more(value: object) -> object:
    if isinstance(value, list):
        return [_more(each) for each in value]
    if isinstance(value, dict) and value != shapes.LEFT_OUT and all(isinstance(key, str) for key in value):
        return {**{key: _more(each) for key, each in value.items()}, "zz-new": [1, {"deep": None}]}
    return value


def test_a_frame_of_no_known_kind_is_refused_in_words() -> None:
    with pytest.raises(Refused, match="neither asks, answers nor greets"):
        frames.read(msgspec.msgpack.encode({"zz": 1}))
