"""The real disk of the file store: whatever the size, and however the file system is written, a file is what was given."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from cpc.core.digest import CHUNK
from cpc.store.disk import BLOCK, DIRECT, STEP, RealDisk

DATA = os.urandom(CHUNK + 1)
SIZES = [0, 1, DIRECT - 1, DIRECT, DIRECT + 1, DIRECT + BLOCK - 1, STEP - 1, STEP, STEP + BLOCK + 7, CHUNK - 1, CHUNK]


def takes_direct(directory: Path) -> bool:
    handle = os.open(directory / "probe", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, os.O_DIRECT)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def cached(path: Path, offset: int) -> bool:
    """Whether a block of a file is in the page cache."""
    with path.open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("size", SIZES)
def test_a_file_holds_what_was_given(tmp_path, size):
    disk = RealDisk(tmp_path)
    disk.create("file", memoryview(DATA)[1 : size + 1])  # not at any boundary in memory
    assert (tmp_path / "file").read_bytes() == DATA[1 : size + 1]
    disk.create("file", DATA[:7])
    assert (tmp_path / "file").read_bytes() == DATA[:7]


def test_large_files_do_not_fill_the_page_cache(tmp_path):
    if not takes_direct(tmp_path):
        pytest.skip("this file system writes by way of the page cache only")
    RealDisk(tmp_path).create("file", DATA[:CHUNK])
    assert not any(cached(tmp_path / "file", offset) for offset in range(0, CHUNK, STEP))


def test_several_threads_do_not_mix_their_bytes(tmp_path):
    disk = RealDisk(tmp_path)

    def write(number: int) -> None:
        for _ in range(3):
            disk.create(f"{number}", memoryview(DATA)[number : number + DIRECT + STEP])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert (tmp_path / f"{number}").read_bytes() == DATA[number : number + DIRECT + STEP]


@pytest.mark.parametrize("after", [0, 1])
def test_a_file_system_that_has_no_such_writes_gets_others(tmp_path, monkeypatch, after):
    """Some refuse the flag, some the write, some only writes that they do not like."""
    real, calls = os.write, []

    def write(file: int, data: memoryview) -> int:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
            calls.append(len(data))
            if len(calls) > after:
                raise OSError(errno.EINVAL, "not so")
        return real(file, data)

    monkeypatch.setattr(os, "write", write)
    RealDisk(tmp_path).create("file", DATA)
    assert (tmp_path / "file").read_bytes() == DATA
    assert len(calls) in (0, after + 1)


def test_a_write_that_is_cut_short_goes_on_where_it_stood(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[: max(1, len(data) // 2)]))
    RealDisk(tmp_path).create("file", DATA)
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(file: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="no space"):
        RealDisk(tmp_path).create("file", DATA)
