"""Limits: what they say of themselves, and the messages and words that carry them."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest

from cpc.core.errors import BadInput
from cpc.worker import birth, cgroups, pipe, tree
from cpc.worker.limits import Limits


def test_limits_say_how_memory_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "possible", lambda: (2, ""))
    assert Limits().check().describe() == "control groups version 2"
    assert Limits(memory="watch", interval=2).describe().startswith("watching every 2 s and RLIMIT_AS")
    monkeypatch.setattr(cgroups, "possible", lambda: (0, "no control groups are mounted here"))
    assert Limits().describe() == "watching every 0.5 s and RLIMIT_AS (no control groups are mounted here)"
    with pytest.raises(BadInput, match="no control groups are mounted here"):
        Limits(memory="cgroup").check()


def test_the_address_space_is_wider_than_the_memory_and_never_wider_than_allowed() -> None:
    assert birth.address_space(1 << 30) > 2 << 30
    assert birth._below(100, 50) == 50
    assert birth._below(100, resource.RLIM_INFINITY) == 100


def test_a_failed_start_leaves_the_guardians_own_limits_as_they_were(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(birth.NotStarted):
        birth.start(["/no/such/program"], {}, str(tmp_path), ["", "out", "err"], 1 << 30, None)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.E2BIG, "longer than the system allows"),
        (errno.EAGAIN, "no more processes"),
        (errno.ENOMEM, "no memory left"),
        (errno.ETXTBSY, "open for writing"),
        (errno.EIO, "could not be started: Input/output error"),
    ],
)
def test_errors_of_the_system_are_put_into_words(tmp_path: Path, number: int, words: str) -> None:
    import os

    assert words in birth._why(OSError(number, os.strerror(number)), "/bin/x", str(tmp_path), {})


def test_frames_arrive_whole_however_they_are_cut() -> None:
    messages = [("start", 1, ["a"], {"b": "c"}), ("stop", 2, 0.5)]
    data = pipe.pack(messages) + pipe.pack([("close",)])
    unpacker = pipe.Unpacker()
    got = [message for at in range(len(data)) for message in unpacker.feed(data[at : at + 1])]
    assert got == [*messages, ("close",)]


def test_a_frame_that_is_too_long_is_refused_on_both_sides() -> None:
    with pytest.raises(ValueError, match="are more than a frame"):
        pipe.pack([("x" * (pipe.MAX_FRAME + 1),)])
    with pytest.raises(ValueError, match="a frame of"):
        pipe.Unpacker().feed(b"\xff\xff\xff\xff")


def test_a_token_is_over_when_its_process_is_gone_or_another() -> None:
    mine = tree.token("/d")
    directory, space, pid, started = mine.split(".")
    assert not tree.is_over(mine)
    assert tree.is_over(f"{directory}.{space}.{pid}.{int(started) + 1}/7", "/d")
    assert not tree.is_over(f"{directory}.{space}.{pid}.{int(started) + 1}/7", "/other")
    assert not tree.is_over(f"{directory}.1.{pid}.1"), "another process namespace"
    assert not tree.is_over("nonsense")


def test_names_with_brackets_and_blanks_do_not_confuse_the_tree() -> None:
    line = b"42 (a) b (c) S 7 42 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 1 1"
    found = tree.Stat(line)
    assert (found.state, found.parent, found.session, found.started) == ("S", 7, 41, 12345)
