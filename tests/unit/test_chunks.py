"""A chunk on disk is whole and durable before anybody can refer to it, whatever the disk does."""

from __future__ import annotations

import errno
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpc.core.digest import CHUNK
from cpc.core.errors import BadInput, Damaged, TooLarge, Unavailable
from cpc.store import chunks
from cpc.store.chunks import SMALL, ChunkFiles
from cpc.store.disk import RealDisk
from tests.helpers.disks import FakeDisk, PowerCut

BIG = b"x" * (SMALL + 1)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_a_chunk_comes_back_as_it_was(tmp_path):
    files = ChunkFiles(RealDisk(tmp_path / "run"))
    data = bytes(range(256)) * 1000
    assert files.write([(sha(data), memoryview(data))]) == [None]
    assert files.read(sha(data), len(data), 0, len(data)) == data
    assert files.read(sha(data), len(data), 10, 5) == data[10:15]
    assert files.read(sha(data), len(data), len(data) - 2, 100) == data[-2:]
    assert files.fault(sha(data), len(data)) == ""
    path = tmp_path / "run" / "chunks" / sha(data).hex()[:2] / sha(data).hex()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not list((tmp_path / "run" / "chunks" / "tmp").iterdir())


def test_a_small_chunk_is_not_a_file(tmp_path):
    files = ChunkFiles(RealDisk(tmp_path))
    assert files.write([(sha(b"tiny"), b"tiny")]) == [None]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("digest", "piece", "error", "words"),
    [
        (b"short", BIG, BadInput, "32 bytes"),
        (sha(b"other"), BIG, BadInput, sha(b"other").hex()),
        (sha(b""), b"", BadInput, "not empty"),
        (sha(b"0" * (CHUNK + 1)), b"0" * (CHUNK + 1), TooLarge, "at most"),
    ],
)
def test_what_is_not_the_chunk_of_that_name_is_refused_by_name(digest, piece, error, words):
    disk = FakeDisk()
    outcome = ChunkFiles(disk).write([(digest, piece), (sha(BIG), BIG)])
    assert isinstance(outcome[0], error)
    assert words in outcome[0].message
    assert outcome[1] is None
    assert list(disk.names) == [chunks.path(sha(BIG))]


def test_several_chunks_share_the_sync_of_their_directory():
    disk = FakeDisk()
    files = ChunkFiles(disk)
    same = []
    number = 0
    while len(same) < 4:
        data = b"%d" % number + BIG
        number += 1
        if sha(data)[0] == 7:
            same.append((sha(data), data))
    assert files.write(same) == [None] * 4
    assert disk.syncs == 1


def test_damage_is_noticed(tmp_path):
    files = ChunkFiles(RealDisk(tmp_path))
    files.write([(sha(BIG), BIG)])
    path = tmp_path / chunks.path(sha(BIG))
    path.write_bytes(b"y" + BIG[1:])
    assert "changed" in files.fault(sha(BIG), len(BIG))
    path.write_bytes(BIG[:-1])
    assert "instead of" in files.fault(sha(BIG), len(BIG))
    with pytest.raises(Damaged, match=sha(BIG).hex()):
        files.read(sha(BIG), len(BIG), 0, len(BIG))
    path.unlink()
    assert files.fault(sha(BIG), len(BIG)) == "missing"
    with pytest.raises(Damaged, match="missing"):
        files.read(sha(BIG), len(BIG), 0, 1)
    # Sent again, it is mended.
    assert files.write([(sha(BIG), BIG)]) == [None]
    assert files.fault(sha(BIG), len(BIG)) == ""


def test_a_link_planted_in_the_store_is_not_followed(tmp_path):
    files = ChunkFiles(RealDisk(tmp_path))
    files.write([(sha(BIG), BIG)])
    path = tmp_path / chunks.path(sha(BIG))
    path.unlink()
    secret = tmp_path / "secret"
    secret.write_bytes(BIG)
    path.symlink_to(secret)
    with pytest.raises(Damaged):
        files.read(sha(BIG), len(BIG), 0, 10)


def test_names_that_are_no_chunks_are_left_alone(tmp_path):
    files = ChunkFiles(RealDisk(tmp_path))
    files.write([(sha(BIG), BIG)])
    prefix = sha(BIG)[0]
    directory = tmp_path / "chunks" / f"{prefix:02x}"
    for name in ("README", sha(BIG).hex().upper() + "0", "00" * 31, "zz"):
        (directory / name).write_bytes(b"")
    assert [digest for digest, _ in files.listed(prefix)] == [sha(BIG)]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_an_error_at_any_write_is_said_and_leaves_nothing(error):
    for after in range(5):
        disk = FakeDisk()
        files = ChunkFiles(disk)
        files.write([(sha(b"warm" + BIG), b"warm" + BIG)])
        disk.fail(after, error)
        outcome = files.write([(sha(BIG), BIG), (sha(b"2" + BIG), b"2" + BIG)])
        assert any(isinstance(one, Unavailable) for one in outcome), after
        assert not [name for name in disk.names if name.startswith(chunks.TEMPORARY)], after
        assert files.write([(sha(BIG), BIG)]) == [None]
        assert files.fault(sha(BIG), len(BIG)) == ""


@settings(max_examples=100)
@given(cut=st.integers(0, 14), eager=st.booleans(), count=st.integers(1, 3), again=st.booleans())
def test_what_was_answered_survives_a_power_cut_at_any_point(cut, eager, count, again):
    disk = FakeDisk()
    files = ChunkFiles(disk)
    pieces = [(sha(data), data) for data in (b"%d" % number + BIG for number in range(count))]
    durable: list[tuple[bytes, bytes]] = []
    if again:
        files.write(pieces[:1])
        durable = pieces[:1]
    disk.cut(cut)
    try:
        for piece in pieces:
            assert files.write([piece]) == [None]
            durable.append(piece)
    except PowerCut:
        pass
    disk.power_loss(eager)
    files = ChunkFiles(disk)
    files.sweep_temporary(1)
    for digest, data in durable:
        assert files.fault(digest, len(data)) == ""
    # A chunk file that is there has its bytes: it got its name only after they were flushed.
    for prefix in range(256):
        for digest, found in files.listed(prefix):
            assert files.fault(digest, found.size) == ""
    assert disk.list(chunks.TEMPORARY) == []
