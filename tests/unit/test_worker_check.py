"""What `cpc-worker check` sees of the node that it was started on, without a server."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from cpc.core.probe import MARK, Way, way_of, words_for
from cpc.worker import check
from cpc.worker.search import PathSearch


def test_a_work_directory_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    work = tmp_path / "a" / "work"
    trouble, free, marks = check.directory(str(work))
    assert (trouble, marks) == ("", ())
    assert free > 0
    assert not work.exists()
    work.mkdir()
    (work.parent / MARK).write_text("above")
    (work / MARK).write_text("here")
    (work / "other").write_text("stays")
    assert check.directory(str(work)) == ("", pytest.approx(free, rel=0.5), ("here", "above"))
    assert sorted(path.name for path in work.iterdir()) == [MARK, "other"]


def test_a_work_directory_in_which_a_worker_has_begun_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"

    def begun(place: str) -> tuple[str, ...]:
        (work / "w1").mkdir()
        return ()

    monkeypatch.setattr(check, "_marks", begun)
    assert check.directory(str(work))[0] == ""
    assert (work / "w1").is_dir()


def test_a_work_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    trouble, *_ = check.directory(str(tmp_path / "file" / "work"))
    assert "Not a directory" in trouble or "File exists" in trouble
    if os.geteuid() == 0:
        strange = tmp_path / "strange"
        strange.mkdir()
        os.chown(strange, 12345, 12345)
        assert "belongs to another user (12345)" in check.directory(str(strange))[0]


def test_how_far_the_way_goes_is_told_apart() -> None:
    assert check.reach("no-such-host.invalid", 1)[0] is Way.UNKNOWN_HOST
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        way, said = check.reach("127.0.0.1", port)
        assert way is Way.REFUSED
        assert said.startswith("127.0.0.1: ")
        one.listen()
        assert check.reach("localhost", port) == (Way.OPEN, "")


def test_silence_and_no_route_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {1: TimeoutError("timed out"), 2: OSError(errno.EHOSTUNREACH, "No route to host")}

    def connect(self: socket.socket, address: tuple[str, int]) -> None:
        raise errors[address[1]]

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert check.reach("127.0.0.1", 1)[0] is Way.SILENT
    assert check.reach("127.0.0.1", 2) == (Way.NO_ROUTE, "127.0.0.1: No route to host")


def test_every_way_that_ends_early_has_words_and_a_code_that_no_shell_gives() -> None:
    for way in Way:
        if way is Way.OPEN:
            continue
        assert 10 < way < 64
        assert way_of(way.value) is way
        words, hint = words_for(way, "n1", "head", 13807)
        assert "n1" in words
        assert "{" not in words + hint
        assert hint
    assert [way_of(code) for code in (0, -1, 1, 2, 10, 17, 127)] == [None] * 7


def test_munge_is_asked_by_the_socket_that_slurm_uses(tmp_path: Path) -> None:
    def program(name: str, text: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def search() -> PathSearch:
        return PathSearch({"PATH": f"{tmp_path}:/usr/bin:/bin"})

    program("scontrol", "echo 'AuthInfo                = socket=/x/munge,cred_expire=5'")
    program("munge", '[ "$1" = --socket=/x/munge ] && echo MUNGE:abc:')
    program(
        "unmunge", '[ "$1" = --socket=/x/munge ] && grep -q MUNGE:abc: || { echo STATUS: Invalid credential; exit 1; }'
    )
    assert check.munge(search()) == "ok"
    program("munge", "echo MUNGE:other:")
    assert check.munge(search()) == "STATUS: Invalid credential"
    program("scontrol", "echo 'slurm_load_ctl_conf error: Unable to contact slurm controller' >&2; exit 1")
    assert check.munge(search()) == "STATUS: Invalid credential"  # at its usual place, which is not that socket
    program("unmunge", 'grep -q MUNGE:other: && [ -z "$1" ]')
    assert check.munge(search()) == "ok"
