"""The ground a server stands on: file systems, addresses, its log."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.logger import Logger
from twisted.python.failure import Failure

from cpc.core.errors import BadInput, Conflict
from cpc.server import filesystem, network
from cpc.server.commands import log
from cpc.server.config import Lock
from cpc.server.logs import LogFile, Logs

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:2 - nfs4 files:/home rw
31 30 254:1 / /home/local\\040disk rw - xfs /dev/vdb rw
32 22 0:41 / /mnt/there rw - fuse.sshfs me@there: rw
33 22 0:42 / /mnt/photos rw - fuse.mergerfs a:b rw
34 22 0:43 / /scratch rw - lustre mds:/x rw
35 34 254:2 / /scratch rw - ext4 /dev/vdc rw
not a line
"""


@pytest.mark.parametrize(
    ("path", "kind", "shared"),
    [
        ("/var/lib/x", "ext4", False),
        ("/home/anna/run", "nfs4", True),
        ("/homely", "ext4", False),
        ("/home/local disk/run", "xfs", False),
        ("/mnt/there/x", "fuse.sshfs", True),
        ("/mnt/photos/x", "fuse.mergerfs", False),
        ("/scratch/run", "ext4", False),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_innermost_mount(path, kind, shared):
    from pathlib import Path

    assert filesystem.kind_of(Path(path), MOUNTS) == kind
    assert filesystem.is_network(kind) == shared


@pytest.mark.parametrize("kind", ["lustre", "gpfs", "cifs", "smb3", "ceph", "9p", "fuse.glusterfs"])
def test_network_file_systems_are_known(kind):
    assert filesystem.is_network(kind)


def test_what_others_can_read_is_told(tmp_path):
    tmp_path.chmod(0o700)
    assert filesystem.exposed(tmp_path, MOUNTS) == ""
    tmp_path.chmod(0o750)
    assert "its group" in filesystem.exposed(tmp_path, MOUNTS)
    tmp_path.chmod(0o755)
    assert "everybody" in filesystem.exposed(tmp_path, MOUNTS)


def test_a_server_never_listens_on_everything_unasked():
    assert network.listening("127.0.0.1", ()) == ("127.0.0.1",)
    assert "127.0.0.1" in network.listening("localhost", ())
    assert network.listening("anything.invalid", ("0.0.0.0",)) == ("0.0.0.0",)
    with pytest.raises(BadInput, match="--listen"):
        network.listening("0.0.0.0", ())
    with pytest.raises(BadInput, match="no address of this machine"):
        network.listening("192.0.2.7", ())


def test_a_port_that_somebody_has_is_found():
    (port,) = network.free_ports("127.0.0.1", 1)
    network.check_port("127.0.0.1", port)
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(Conflict, match=str(port)):
            network.check_port("127.0.0.1", port)


def test_the_lock_is_held_by_one(tmp_path):
    first = Lock(tmp_path / "lock", "it")
    with pytest.raises(Conflict):
        Lock(tmp_path / "lock", "it")
    first.release()
    Lock(tmp_path / "lock", "it").release()


# --- the log ---


def test_an_event_is_one_line_in_utc_whatever_it_holds(tmp_path):
    path = tmp_path / "log" / "server.log"
    logs = Logs(LogFile(path))
    logger = Logger(namespace="test", observer=logs)
    logger.info("first {x}", x="a\nb\rc\x85d")
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        logger.failure("it failed")
    logger.error("{missing}")
    logger.warn("\udcff")
    lines = path.read_text().splitlines()
    assert len(lines) == 4
    assert all(line.split()[0].endswith("Z") for line in lines)
    assert "first a | b | c | d" in lines[0]
    assert "it failed" in lines[1]
    assert "ValueError" in lines[1]
    assert path.stat().st_mode & 0o077 == 0


def test_the_level_is_followed_at_once_and_libraries_are_quiet(tmp_path):
    path = tmp_path / "server.log"
    logs = Logs(LogFile(path))
    ours, theirs = Logger("cpc.x", observer=logs), Logger("twisted.x", observer=logs)
    ours.debug("one")
    theirs.info("two")
    theirs.warn("three")
    logs.level = "debug"
    ours.debug("four")
    theirs.info("five")
    logs.level = "error"
    ours.warn("six")
    ours.critical("seven")
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["three", "four", "five", "seven"]


def test_a_log_that_grows_is_turned_over_and_the_oldest_goes(tmp_path):
    path = tmp_path / "server.log"
    file = LogFile(path, size=100, count=3)
    for number in range(40):
        file.write(f"line {number:04}\n")
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["server.log", "server.log.1", "server.log.2"]
    assert all(each.stat().st_size <= 100 for each in tmp_path.iterdir())
    assert shown(path, 15) == [f"line {number:04}\n".encode() for number in range(25, 40)]
    assert shown(path, 0)[-1] == b"line 0039\n"
    assert shown(tmp_path / "none", 5) == []


def shown(path: Path, count: int) -> list[bytes]:
    """The end of a log."""
    out = io.BytesIO()
    log.show(path, count, False, out)
    return out.getvalue().splitlines(keepends=True)


class Reader(io.BytesIO):
    """Who reads a log; `then` is what happens after what there was has been shown."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self._then: Callable[[], object] | None = then

    def flush(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()


@pytest.mark.parametrize("turned", [False, True])
def test_whoever_follows_a_log_gets_each_line_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turned: bool
) -> None:
    """Also what is written between the end that is shown and what follows."""

    class Enough(Exception): ...

    def pause(_: float) -> None:
        raise Enough

    path = tmp_path / "server.log"
    written = LogFile(path, size=10 if turned else 1000)
    for number in range(2):
        written.write(f"line {number}\n")
    monkeypatch.setattr(time, "sleep", pause)
    reader = Reader(lambda: written.write("line 2\n"))
    with pytest.raises(Enough):
        log.show(path, 40, True, reader)
    assert reader.getvalue() == b"line 0\nline 1\nline 2\n"


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path):
    file = LogFile(tmp_path / "server.log")
    import os

    os.dup2(os.open("/dev/full", os.O_WRONLY), file._file)
    file.write("lost\n")
    assert Failure is not None


def test_a_log_that_was_moved_away_goes_on_in_a_fresh_file(tmp_path):
    path = tmp_path / "server.log"
    file = LogFile(path)
    file.write("one\n")
    path.rename(tmp_path / "kept")
    file.reopen()
    file.write("two\n")
    assert path.read_text() == "two\n"
    assert (tmp_path / "kept").read_text() == "one\n"
