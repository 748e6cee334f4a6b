"""What reads bytes from outside or from a disk: each target takes any bytes, and ends well or with a refusal in words.

A target raises only what is a defect. `make test` gives each of them its corpus and changes of it; `python -m tests.fuzz` lets
atheris find its own way into them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import msgspec

from cpc.client.config import Config
from cpc.core import manifest
from cpc.core.errors import BadInput, CopernicusError, Damaged, Refused
from cpc.core.manifest import Manifest
from cpc.core.offload import inline
from cpc.core.reading import UNREADABLE
from cpc.server.config import Place
from cpc.spool import log
from cpc.spool.spool import LOG, Spool
from cpc.wire import bundle, frames
from cpc.wire.frames import FrameReader
from cpc.wire.identity import Authority, Identity, Name, Role, fingerprint_of, name_of, not_after_of, read_certificate
from cpc.wire.messages import (
    Bulk,
    ChunkData,
    ChunkGet,
    ChunkList,
    ChunkPut,
    ChunksMissing,
    Enrol,
    Enrolled,
    Goodbye,
    Hello,
    Orders,
    Turn,
    Welcome,
)  # fmt: skip
from tests.helpers.http_wire import Client, House
from tests.helpers.memory_disk import MemoryDisk, Platter

MESSAGES: tuple[type, ...] = (
    Hello, Welcome, Turn, Orders, Goodbye, Enrol, Enrolled, Bulk, ChunkGet, ChunkPut, ChunkData, ChunkList, ChunksMissing,
)  # fmt: skip

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}


def target(act: Target) -> Target:
    """Put on the list, under its name."""
    TARGETS[act.__name__] = act
    return act


@target
def frame(data: bytes) -> None:
    """A stream of the machines' door: cut into frames, each read as an envelope, its body as every message there is."""
    reader = FrameReader(1 << 16)
    try:
        reader.feed(data)
        while (found := reader.next()) is not None:
            envelope = frames.read(found)
            for kind in MESSAGES:
                _body(envelope.body, kind)
    except Refused:
        pass
    assert len(reader) <= len(data)


@target
def body(data: bytes) -> None:
    """The body of a message."""
    for kind in MESSAGES:
        _body(data, kind)


def _body(data: bytes, kind: type) -> None:
    try:
        found = frames.decode(data, kind, "fuzz")
    except Refused:
        return
    assert type(found) is kind
    assert frames.decode(msgspec.msgpack.encode(found), kind, "fuzz") == found, (
        "what is read is written so that it is read again"
    )


@target
def paths(data: bytes) -> None:
    """The manifest of a result: whatever is accepted stays in its directory."""
    try:
        found = manifest.check(msgspec.msgpack.decode(data, type=Manifest))
    except (*UNREADABLE, CopernicusError):
        return
    for entry in found.entries:
        assert not entry.path.startswith(b"/")
        assert b".." not in entry.path.split(b"/")
        assert b"\0" not in entry.path


@target
def connection_bundle(data: bytes) -> None:
    """A bundle file."""
    said = refused(Damaged, lambda: bundle.decode(data, "x.cnx"))
    if said:
        assert "x.cnx" in said
        return
    found = bundle.decode(data, "x.cnx")
    assert bundle.decode(bundle.encode(found)) == found


@target
def certificate(data: bytes) -> None:
    """Keys, requests and certificates (PEM)."""
    for read in (_read_certificate, fingerprint_of, not_after_of, _issue, _load):
        try:
            read(data)
        except (Damaged, Refused, BadInput):
            continue


def _read_certificate(data: bytes) -> None:
    name_of(read_certificate(data))


def _issue(data: bytes) -> None:
    authority().issue(data, Name(authority().server_id, Role.WORKER, "w"), 3600.0)


def _load(data: bytes) -> None:
    key, _, rest = data.partition(b"-----END PRIVATE KEY-----\n")
    Identity.load(key + b"-----END PRIVATE KEY-----\n", rest, rest)
    Authority.load(key + b"-----END PRIVATE KEY-----\n", rest)


@lru_cache(maxsize=1)
def authority() -> Authority:
    """One for all."""
    return Authority.create("fuzz")


@target
def spool(data: bytes) -> None:
    """A worker's log of results: what is given back has the check sum that it was written with; a repair lasts."""
    disk = MemoryDisk(Platter(lambda: 0.0))
    disk.make_directory("/w")
    disk.write(f"/w/{LOG}", data)
    opened = Spool.open(disk, "/w", inline)
    for lease in opened.leases():
        kept = opened.read(lease)
        assert kept in data
    whole = [part for part in log.frames(disk, f"/w/{LOG}") if isinstance(part, log.Hole)]
    assert not whole, "a damaged log is written anew"
    again = Spool.open(disk, "/w", inline)
    assert again.leases() == opened.leases()
    assert not again.damage


@target
def settings_files(data: bytes) -> None:
    """The files that server and cpcc keep about themselves."""
    with tempfile.TemporaryDirectory() as directory:
        place = Place(Path(directory))
        for path, read in (
            (place.config_file, place.read),
            (place.directory / "clients.json", lambda: Config(place.directory)),
        ):
            path.write_bytes(data)
            said = refused(Damaged, read)
            assert not said or str(path) in said


def refused(kind: type[CopernicusError], act: Callable[[], object]) -> str:
    """The words of a refusal; "" when there was none."""
    try:
        act()
    except kind as error:
        return error.message
    return ""


@target
def http(data: bytes) -> None:
    """A connection of the people's door: it is answered or closed, and nothing of it is left."""
    house = _house()
    client = Client(house.door)
    client.send(data)
    house.reactor.advance(3000)
    client.lose()
    assert not [call for call in house.reactor.getDelayedCalls() if call.active()]


@lru_cache(maxsize=1)
def _house() -> House:
    return House()
