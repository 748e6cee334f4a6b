"""Files up and down: sent once, checked, never outside their directory, never half there."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from cpc.client import transfer
from cpc.core.digest import CHUNK
from cpc.core.errors import BadInput, Conflict, Damaged, Unavailable
from cpc.core.views import FileView, UploadView
from tests.helpers.fake_api import Call, Cut, FakeApi, Raw, Turns, fake_api


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    (tmp_path / "door").mkdir()
    with fake_api(tmp_path / "door") as running:
        yield running


class Uploads:
    """Takes parts as the server does; breaks the connection instead of the answer where `cuts` says."""

    def __init__(self, api: FakeApi, size: int, received: int = 0, cuts: tuple[int, ...] = ()) -> None:
        self.data = bytearray(b"?" * received)
        self.size = size
        self.cuts = set(cuts)
        self.parts = 0
        api.on("POST", "/projects/villin/uploads", lambda call: self.view())
        api.on("PUT", "/uploads/u1", self.put)

    def view(self) -> UploadView:
        done = len(self.data) == self.size
        return UploadView(id="u1", size=self.size, received=len(self.data), done=done, digest="")

    def put(self, call: Call) -> object:
        offset = int(call.query["offset"])
        assert offset % CHUNK == 0
        self.data[offset : offset + len(call.body)] = call.body
        self.parts += 1
        return Cut if self.parts in self.cuts else self.view()


def test_a_file_arrives_in_parts_and_progress_is_told(api: FakeApi, tmp_path: Path) -> None:
    data = os.urandom(9 * (1 << 20))
    (tmp_path / "big").write_bytes(data)
    server = Uploads(api, len(data))
    told: list[int] = []
    with api.client() as client:
        content = transfer.upload(client, tmp_path / "big", progress=lambda done, _: told.append(done))
    assert bytes(server.data) == data
    assert content.digest == hashlib.sha256(data).digest()
    assert told == sorted(told)
    assert told[-1] == len(data)


def test_a_part_whose_answer_was_lost_is_sent_again_to_the_same_place(api: FakeApi, tmp_path: Path) -> None:
    data = os.urandom(9 * (1 << 20))
    (tmp_path / "big").write_bytes(data)
    server = Uploads(api, len(data), cuts=(1, 3))
    with api.client() as client:
        transfer.upload(client, tmp_path / "big")
    assert bytes(server.data) == data
    assert [int(call.query["offset"]) for call in api.asked("PUT", "/uploads/u1")] == [0, 0, 2 * CHUNK, 2 * CHUNK]


def test_an_upload_goes_on_where_it_stopped(api: FakeApi, tmp_path: Path) -> None:
    data = os.urandom(9 * (1 << 20))
    (tmp_path / "big").write_bytes(data)
    Uploads(api, len(data), received=2 * CHUNK)
    with api.client() as client:
        transfer.upload(client, tmp_path / "big")
    assert [int(call.query["offset"]) for call in api.asked("PUT", "/uploads/u1")] == [2 * CHUNK]


def test_what_the_server_has_is_not_sent(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"here already")
    Uploads(api, 12, received=12)
    with api.client() as client:
        transfer.upload(client, tmp_path / "small")
    assert api.asked("PUT", "/uploads/u1") == []


def test_an_empty_file_needs_no_call(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with api.client() as client:
        assert transfer.upload(client, tmp_path / "empty").size == 0
    assert api.calls == []


def test_a_pipe_is_refused_and_does_not_hang(api: FakeApi, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with api.client() as client, pytest.raises(BadInput, match="not a file"):
        transfer.upload(client, tmp_path / "pipe")
    with api.client() as client, pytest.raises(BadInput, match="No such file"):
        transfer.upload(client, tmp_path / "nothing")


# --- down ---


def output(
    api: FakeApi, path: str, data: bytes = b"", *, raw: bytes | None = None, answer: object = None, **fields: object
) -> FileView:
    """An output of job 57 with these bytes."""
    name = quote(raw if raw is not None else path.encode())
    view = {
        "path": path, "kind": "file", "size": len(data), "digest": hashlib.sha256(data).hexdigest(), "mode": 0o644,
        "target": "", "url": f"/api/v1/jobs/57/outputs/{name}",
    } | fields  # fmt: skip

    def whole(call: Call) -> Raw:
        given = call.headers.get("range", "")
        start = int(given.removeprefix("bytes=").rstrip("-")) if given else 0
        return Raw(data[start:], 206 if given else 200)

    api.on("GET", f"/jobs/57/outputs/{path}", answer or whole)
    return FileView(**view)  # type: ignore[arg-type]


def outputs(api: FakeApi, *files: FileView) -> None:
    api.on("GET", "/jobs/57/outputs", list(files))


def test_files_directories_links_and_modes_are_fetched(api: FakeApi, tmp_path: Path) -> None:
    outputs(
        api, output(api, "run.sh", b"#!/bin/sh\n", mode=0o6777), output(api, "d", kind="dir", digest=""),
        output(api, "d/deep/x y.dat", b"\0\1\2"), output(api, "latest", kind="link", target="d/deep", digest=""),
        output(api, "empty", b""),
    )  # fmt: skip
    with api.client() as client:
        written = transfer.fetch(client, "57", tmp_path / "out")
    root = tmp_path / "out"
    assert len(written) == 5
    assert (root / "d/deep/x y.dat").read_bytes() == b"\0\1\2"
    assert os.readlink(root / "latest") == "d/deep"
    assert (root / "empty").read_bytes() == b""
    assert (root / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("raw", [b"../evil", b"/etc/evil", b"a/../../evil", b"a//b", b"."])
def test_a_path_that_leads_out_is_refused(api: FakeApi, tmp_path: Path, raw: bytes) -> None:
    outputs(api, output(api, "x", b"boo", raw=raw))
    with api.client() as client, pytest.raises(BadInput, match="unsafe path"):
        transfer.fetch(client, "57", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["door"]


def test_nothing_is_written_through_a_link_that_is_here(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/d").symlink_to(tmp_path / "elsewhere")
    outputs(api, output(api, "d/x", b"boo"))
    with api.client() as client, pytest.raises(Conflict, match="is a link"):
        transfer.fetch(client, "57", tmp_path / "out", force=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_other_content_is_not_replaced_unless_forced(api: FakeApi, tmp_path: Path) -> None:
    outputs(api, output(api, "x", b"new"))
    (tmp_path / "x").write_bytes(b"mine")
    with api.client() as client:
        with pytest.raises(Conflict, match="--force"):
            transfer.fetch(client, "57", tmp_path)
        assert (tmp_path / "x").read_bytes() == b"mine"
        transfer.fetch(client, "57", tmp_path, force=True)
    assert (tmp_path / "x").read_bytes() == b"new"


def test_what_is_here_already_is_not_fetched_again(api: FakeApi, tmp_path: Path) -> None:
    outputs(api, output(api, "x", b"same", answer=Cut))
    (tmp_path / "x").write_bytes(b"same")
    with api.client() as client:
        transfer.fetch(client, "57", tmp_path)
    assert api.asked("GET", "/jobs/57/outputs/x") == []


def test_a_transfer_that_breaks_off_goes_on(api: FakeApi, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    outputs(api, output(api, "x", data, answer=Turns(Raw(data, cut=100_000), Raw(data[100_000:], 206))))
    with api.client() as client:
        transfer.fetch(client, "57", tmp_path / "out")
    assert (tmp_path / "out/x").read_bytes() == data
    assert api.asked("GET", "/jobs/57/outputs/x")[1].headers["range"] == "bytes=100000-"


def test_a_server_that_begins_anew_is_followed(api: FakeApi, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    outputs(api, output(api, "x", data, answer=Turns(Raw(data, cut=100_000), Raw(data, 200))))
    with api.client() as client:
        transfer.fetch(client, "57", tmp_path / "out")
    assert (tmp_path / "out/x").read_bytes() == data


def test_damaged_bytes_are_not_kept(api: FakeApi, tmp_path: Path) -> None:
    outputs(api, output(api, "x", b"right", answer=Raw(b"wrong")))
    with api.client() as client, pytest.raises(Damaged, match="x did not arrive"):
        transfer.fetch(client, "57", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_transfer_that_never_ends_is_given_up(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpc.client.transport.PATIENCE", 0.01)
    outputs(api, output(api, "x", b"12345", answer=Raw(b"12345", cut=0)))
    with api.client() as client, pytest.raises(Unavailable):
        transfer.fetch(client, "57", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_directory_that_cannot_be_made_is_told(api: FakeApi, tmp_path: Path) -> None:
    outputs(api, output(api, "x", b"1"))
    (tmp_path / "file").touch()
    with api.client() as client, pytest.raises(BadInput, match="cannot write"):
        transfer.fetch(client, "57", tmp_path / "file")


def test_patterns_choose_and_one_that_matches_nothing_is_told(api: FakeApi, tmp_path: Path) -> None:
    outputs(api, output(api, "a.xtc", b"1"), output(api, "b.log", b"2"), output(api, "d/c.xtc", b"3"))
    with api.client() as client:
        transfer.fetch(client, "57", tmp_path / "out", ["**/*.xtc", "*.xtc"])
        with pytest.raises(BadInput, match=r"no output that matches '\*\.gro'"):
            transfer.fetch(client, "57", tmp_path / "out2", ["*.gro"])
        assert transfer.read(client, "57", "b.log") == b"2"
    assert not (tmp_path / "out/b.log").exists()
    assert not (tmp_path / "out2").exists()


def test_a_name_that_is_no_text_survives(api: FakeApi, tmp_path: Path) -> None:
    outputs(api, output(api, "�", b"1", raw=b"\xff.dat", answer=Raw(b"1")))
    api.on("GET", "/jobs/57/outputs/�.dat", Raw(b"1"))
    with api.client() as client:
        transfer.fetch(client, "57", tmp_path / "out")
    assert os.listdir(os.fsencode(tmp_path / "out")) == [b"\xff.dat"]
