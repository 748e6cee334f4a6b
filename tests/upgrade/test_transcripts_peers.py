"""Servers of old releases and of today lend each other workers: one says what its transcript has, the other is real."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cpc.wire import frames, peer_messages
from cpc.wire.peer_messages import Given, Report, ReportAnswer, WorkGiven
from tests.upgrade import tape
from tests.upgrade.old_home import OldHome
from tests.upgrade.old_owner import OldOwner, results_then
from tests.upgrade.old_worker import shapes_then
from tests.upgrade.peer_conversation import PeerConversation
from tests.upgrade.tape import Line
from tests.upgrade.test_transcripts_wire import said_less, with_more

TRANSCRIPTS = tape.all_of("peer.jsonl")


@pytest.fixture(params=TRANSCRIPTS, ids=lambda path: path.parent.name)
def lines(request: pytest.FixtureRequest) -> list[Line]:
    """One release's transcript."""
    return tape.load(request.param)


def test_an_old_home_lends_its_worker_to_an_owner_of_today(lines: list[Line]) -> None:
    home = OldHome(lines).run()
    now = {method: shapes for method, shapes in home.heard.items() if method != "alive"}
    assert said_less({m: shape for m, shape in shapes_then(lines, "owner").items() if m in now}, now) == []
    assert set(shapes_then(lines, "owner")) - {"alive"} <= set(now)


def test_a_home_of_today_lends_its_worker_to_an_old_owner(lines: list[Line]) -> None:
    owner = OldOwner(lines).run()
    for lease, then in results_then(lines).items():
        now = owner.results[lease]
        assert (now["outcome"], now.get("exit_code")) == (then["outcome"], then.get("exit_code"))
        assert now.get("files") == then.get("files")
    then_said = {
        method: shape for method, shape in shapes_then(_questions(lines), "home").items() if method in owner.said
    }
    assert said_less(then_said, owner.said) == []


def _questions(lines: list[Line]) -> list[Line]:
    """Without the home's answers."""
    return [line for line in lines if "r" not in line.get("frame", {})]


def test_every_method_between_servers_is_in_what_would_be_recorded_now() -> None:
    """A new one has to be played, or a release could not be recorded."""
    assert tape.said(PeerConversation().run()) == tape.methods(peer_messages)


def test_no_method_has_left(lines: list[Line]) -> None:
    assert tape.said(lines) <= tape.methods(peer_messages)


def test_unknown_keys_are_ignored_wherever_they_are(lines: list[Line]) -> None:
    """The replay with something new in every map of every frame, both ways."""
    assert OldHome([with_more(line, "home") for line in lines]).run().heard
    assert OldOwner([with_more(line, "owner") for line in lines]).run().results


@pytest.mark.parametrize(
    ("structure", "field"), [(ReportAnswer, "beat"), (WorkGiven, "subscribed"), (peer_messages.Pong, "name")]
)
def test_a_field_that_an_owner_says_no_more_is_found(
    structure: type, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = frames.body

    def without(message: Any) -> frames.Body:
        made = whole(message)
        if not isinstance(message, structure) or not isinstance(made, bytes):
            return made
        return msgspec.msgpack.encode({k: v for k, v in msgspec.msgpack.decode(made).items() if k != field})

    monkeypatch.setattr(frames, "body", without)
    lines = tape.load(TRANSCRIPTS[-1])
    lost = said_less(shapes_then(lines, "owner"), OldHome(lines).run().heard)
    assert any(line.endswith(f".{field} is not there any more") for line in lost), lost


def test_what_an_old_home_may_not_be_asked_any_more_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stricter(Report, frozen=True, kw_only=True):
        mood: str

    monkeypatch.setitem(frames._decoders, Report, msgspec.msgpack.Decoder(Stricter))
    with pytest.raises(AssertionError, match=r"line \d+: .*report.*mood"):
        OldHome(tape.load(TRANSCRIPTS[-1])).run()


def test_orders_that_a_home_does_not_understand_any_more_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(WorkGiven, frozen=True):
        given: tuple[Given, ...] = msgspec.field(default=(), name="lent")

    monkeypatch.setitem(frames._decoders, WorkGiven, msgspec.msgpack.Decoder(Deaf))
    monkeypatch.setattr("tests.upgrade.old_owner.PATIENCE", 200.0)
    with pytest.raises(AssertionError, match="the home of today does not do"):
        OldOwner(tape.load(TRANSCRIPTS[-1])).run()
