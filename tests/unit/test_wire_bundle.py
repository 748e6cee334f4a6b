"""A bundle is one private file; what is wrong with one is said with its name and the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cpc.core.errors import BadInput, Damaged, NotFound
from cpc.wire import bundle
from cpc.wire.bundle import Bundle

WORKER = Bundle(
    role="worker", name="cluster-7", server="0b2c", server_name="lab", addresses=(("lab.example.org", 13807),),
    client_addresses=(("lab.example.org", 14807),), authority="PEM A", key="PEM K", certificate="PEM C", expires=17,
)  # fmt: skip
CLIENT = Bundle(
    role="client", name="ci", server="0b2c", server_name="lab", client_addresses=(("10.0.0.1", 14807),),
    authority="PEM A", token="t0ken", user="anna",
)  # fmt: skip


@pytest.mark.parametrize("what", [WORKER, CLIENT])
def test_a_bundle_is_read_as_it_was_written_and_is_private(tmp_path: Path, what: Bundle) -> None:
    path = tmp_path / "client.cnx"
    path.write_text("an older, longer file, readable by all" * 100)
    path.chmod(0o644)
    bundle.write(what, path)
    assert bundle.read(path) == what
    assert bundle.is_private(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["client.cnx"]


def test_a_bundle_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "client.cnx"
    bundle.write(CLIENT, path)
    with pytest.raises(BadInput, match=r"no-such-dir/client\.cnx"):
        bundle.write(WORKER, tmp_path / "no-such-dir" / "client.cnx")
    directory = tmp_path / "directory"
    directory.mkdir()
    with pytest.raises(BadInput):
        bundle.write(WORKER, directory)
    assert sorted(os.listdir(tmp_path)) == ["client.cnx", "directory"]
    assert bundle.read(path) == CLIENT


def change(**parts: object) -> bytes:
    return msgspec.json.encode({**msgspec.to_builtins(WORKER), **parts})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not a readable"),
        (b"{", "not a readable"),
        (b"[]", "not a readable"),
        (b"\xff\xfe{}", "not a readable"),
        (b"[" * 100_000, "not a readable"),
        (b" " * 300_000, "too long"),
        (change(expires="never"), r"\$\.expires"),
        (change(addresses=[["host"]]), r"\$\.addresses"),
        (change(addresses=[["host", 70_000]]), "impossible address"),
        (change(addresses=[["", 1]]), "impossible address"),
        (change(version=2), "version 2"),
        (change(version=0), "version 0"),
        (change(role="king"), "king"),
        (change(key=""), "no key"),
        (change(addresses=[]), "no addresses"),
        (change(role="client"), "no token"),
    ],
)
def test_a_damaged_bundle_is_named(tmp_path: Path, text: bytes, says: str) -> None:
    path = tmp_path / "mine.cnx"
    path.write_bytes(text)
    with pytest.raises(Damaged, match=says) as caught:
        bundle.read(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_keys_of_a_newer_release_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "new.cnx"
    path.write_bytes(change(colour="blue"))
    assert bundle.read(path) == WORKER


def test_a_missing_or_unreadable_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"gone\.cnx"):
        bundle.read(tmp_path / "gone.cnx")
    with pytest.raises(BadInput, match=str(tmp_path)):
        bundle.read(tmp_path)


def test_the_file_asked_for_comes_first_then_home_then_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(NotFound, match="looked for"):
        bundle.find(None, home)
    (here / "client.cnx").touch()
    assert bundle.find(None, home) == Path("client.cnx")
    (home / "client.cnx").touch()
    assert bundle.find(None, home) == home / "client.cnx"
    with pytest.raises(NotFound, match=r"other\.cnx"):
        bundle.find("other.cnx", home)
    (here / "other.cnx").touch()
    assert bundle.find("other.cnx", home) == Path("other.cnx")


def test_reading_bundles_imports_nothing_heavy() -> None:
    code = (
        "import sys, cpc.wire.bundle;"
        "print([m for m in ('twisted', 'OpenSSL', 'cryptography', 'msgpack', 'asyncio', 'ssl', 'tempfile') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
