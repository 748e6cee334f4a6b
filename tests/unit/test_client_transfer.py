"""Files up and down: only what is missing travels, all that arrives is checked, nothing lands outside of the directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.client import transfer
from cpc.client.client import Client
from cpc.client.transport import Transport
from cpc.client.trust import Pin
from cpc.core.digest import CHUNK
from cpc.core.errors import BadInput, Conflict, CopernicusError, Damaged
from cpc.core.spec import JobSpec
from tests.helpers.small_server import SmallServer
from tests.helpers.small_server_world import Output

BIG = b"".join(bytes([number % 251]) * (1 << 20) for number in range(21)) + b"tail"  # five whole chunks and a bit


@pytest.fixture
def api(tmp_path: Path) -> Iterator[SmallServer]:
    with SmallServer(tmp_path) as running:
        running.world.submit("villin", JobSpec(argv=("true",)), "alice")
        yield running


@pytest.fixture
def alice(api: SmallServer) -> Iterator[Client]:
    pin = Pin(server="srv-1", authority=api.authority.certificate_pem.decode())
    client = Client(Transport(api.host, api.port, pin, "alice-token"), "villin")
    yield client
    client.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "results"
    made.mkdir()
    return made


def finish(api: SmallServer, *outputs: Output) -> None:
    api.world.end("57", outputs=list(outputs))


# --- up ---


def test_a_file_goes_up_in_parts_of_at_most_8_mib(api: SmallServer, alice: Client, tmp_path: Path) -> None:
    path = tmp_path / "traj.xtc"
    path.write_bytes(BIG)
    seen: list[tuple[int, int]] = []
    content = transfer.upload(alice, path, progress=lambda done, whole: seen.append((done, whole)))
    assert api.world.files == {content.digest.hex(): BIG}
    assert [len(one.body) for one in api.asked("PUT", "/uploads/1")] == [2 * CHUNK, 2 * CHUNK, len(BIG) - 4 * CHUNK]
    assert seen[-1] == (len(BIG), len(BIG))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_content_that_the_project_has_is_not_sent_again(api: SmallServer, alice: Client, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"the same")
        transfer.upload(alice, tmp_path / name)
    assert len(api.asked("PUT", ".*")) == 1


def test_an_upload_goes_on_where_it_stopped(api: SmallServer, alice: Client, tmp_path: Path) -> None:
    path = tmp_path / "traj.xtc"
    path.write_bytes(BIG)
    content = transfer.address(path)
    chunks = [one.hex() for one in content.chunks]
    state = alice.announce({"digest": content.digest.hex(), "size": content.size, "chunks": chunks})
    api.world.take(state.id, 0, BIG[: 3 * CHUNK])
    transfer.upload(alice, path)
    assert [one.query["offset"] for one in api.asked("PUT", ".*")] == [str(3 * CHUNK), str(5 * CHUNK)]


def test_a_part_whose_reply_is_lost_is_sent_again(api: SmallServer, alice: Client, tmp_path: Path) -> None:
    path = tmp_path / "traj.xtc"
    path.write_bytes(BIG)
    api.faults.lose_reply["/uploads/1"] = 1
    content = transfer.upload(alice, path)
    assert api.world.files[content.digest.hex()] == BIG


def test_a_file_that_changes_under_way_is_refused(
    api: SmallServer, alice: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"one")
    content = transfer.address(path)
    path.write_bytes(b"two")
    with pytest.raises(BadInput, match="changed while it was sent"):
        transfer.send(alice, path, content)
    assert not api.world.files


@pytest.mark.parametrize("name", ["nosuch", ".", "pipe"])
def test_what_cannot_be_read_is_named(alice: Client, place: Path, name: str) -> None:
    os.mkfifo(place / "pipe")
    with pytest.raises(BadInput, match="cannot read"):
        transfer.upload(alice, place / name)


# --- down ---


def test_outputs_arrive_as_they_were(api: SmallServer, alice: Client, place: Path) -> None:
    finish(
        api, Output(b"run.sh", b"#!/bin/sh\n", mode=0o755), Output(b"out", kind="dir"), Output(b"out/traj.xtc", BIG),
        Output(b"empty"), Output(b"out/last", kind="link", target="traj.xtc"), Output("d\xe9j\xe0 %41?#.txt".encode(), b"x"),
        Output(b"raw-\xff\xfe", b"bytes"),
    )  # fmt: skip
    transfer.fetch(alice, "57", place)
    assert (place / "out/traj.xtc").read_bytes() == BIG
    assert os.access(place / "run.sh", os.X_OK)
    assert (place / "empty").read_bytes() == b""
    assert os.readlink(place / "out/last") == "traj.xtc"
    assert (place / "d\xe9j\xe0 %41?#.txt").read_bytes() == b"x"
    assert sorted(os.listdir(os.fsencode(place))) == sorted(
        [b"run.sh", b"out", b"empty", "d\xe9j\xe0 %41?#.txt".encode(), b"raw-\xff\xfe"]
    )


def test_a_download_goes_on_where_the_connection_broke(api: SmallServer, alice: Client, place: Path) -> None:
    finish(api, Output(b"traj.xtc", BIG))
    api.faults.cut_after["outputs/traj.xtc"] = 7 << 20
    transfer.fetch(alice, "57", place)
    assert (place / "traj.xtc").read_bytes() == BIG
    first, second = api.asked("GET", ".*/traj.xtc")
    assert "range" not in first.headers
    assert second.headers["range"] != "bytes=0-"


def test_bytes_that_are_not_the_servers_are_never_kept(api: SmallServer, alice: Client, place: Path) -> None:
    finish(api, Output(b"traj.xtc", BIG))
    api.faults.corrupt["outputs/traj.xtc"] = 100
    with pytest.raises(Damaged, match=r"traj\.xtc"):
        transfer.fetch(alice, "57", place)
    assert list(place.iterdir()) == []


def test_another_file_is_not_replaced_unless_asked(api: SmallServer, alice: Client, place: Path) -> None:
    finish(api, Output(b"a.txt", b"new"))
    (place / "a.txt").write_text("mine")
    with pytest.raises(Conflict, match=r"a\.txt"):
        transfer.fetch(alice, "57", place)
    assert (place / "a.txt").read_text() == "mine"
    transfer.fetch(alice, "57", place, force=True)
    assert (place / "a.txt").read_text() == "new"


def test_a_file_that_is_here_already_is_not_fetched_again(api: SmallServer, alice: Client, place: Path) -> None:
    finish(api, Output(b"a.txt", b"same"))
    for _ in range(2):
        transfer.fetch(alice, "57", place)
    assert len(api.asked("GET", ".*/outputs/.*")) == 1


def test_patterns_choose_and_one_that_matches_nothing_is_an_error(api: SmallServer, alice: Client, place: Path) -> None:
    finish(api, Output(b"a.txt", b"a"), Output(b"b.log", b"b"), Output(b"deep/c.txt", b"c"))
    transfer.fetch(alice, "57", place, ["*.txt"])
    assert [one.name for one in place.iterdir()] == ["a.txt"]
    with pytest.raises(BadInput, match="nosuch"):
        transfer.fetch(alice, "57", place, ["*.txt", "nosuch"])


@pytest.mark.parametrize("path", [b"../evil", b"a/../../evil", b"/etc/evil", b"a//b", b"./evil", b"..", b"x" * 300])
def test_a_path_that_leads_out_is_refused(api: SmallServer, alice: Client, place: Path, path: bytes) -> None:
    finish(api, Output(path, b"evil"))
    with pytest.raises(CopernicusError):
        transfer.fetch(alice, "57", place)
    assert not list(place.parent.rglob("*evil*"))
    assert list(place.iterdir()) == []


def test_nothing_is_written_through_a_link(api: SmallServer, alice: Client, place: Path) -> None:
    outside = place.parent / "outside"
    outside.mkdir()
    (place / "way").symlink_to(outside)
    (place / "file").symlink_to(outside / "target")
    finish(api, Output(b"way/evil", b"evil"))
    with pytest.raises(Conflict, match="is a link"):
        transfer.fetch(alice, "57", place)
    api.world.outputs["57"] = [Output(b"file", b"evil")]
    with pytest.raises(Conflict):
        transfer.fetch(alice, "57", place)
    transfer.fetch(alice, "57", place, force=True)
    assert (place / "file").read_bytes() == b"evil"
    assert not (place / "file").is_symlink()
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "a/../../outside"])
def test_a_link_that_leads_out_is_not_made(api: SmallServer, alice: Client, place: Path, target: str) -> None:
    finish(api, Output(b"innocent", kind="link", target=target))
    with pytest.raises(CopernicusError):
        transfer.fetch(alice, "57", place)
    assert list(place.iterdir()) == []


def test_results_may_not_gain_special_mode_bits(api: SmallServer, alice: Client, place: Path) -> None:
    finish(api, Output(b"tool", b"#!", mode=0o106777))
    transfer.fetch(alice, "57", place)
    assert (place / "tool").stat().st_mode & 0o7000 == 0


def test_an_unwritable_place_is_named(api: SmallServer, alice: Client, place: Path) -> None:
    finish(api, Output(b"a.txt", b"a"))
    (place / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write"):
        transfer.fetch(alice, "57", place / "file" / "below")
