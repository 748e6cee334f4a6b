"""A saved project is an ordinary tar.gz, and nothing hostile gets out of one."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from cpc.core.errors import BadInput, CopernicusError, Damaged, TooLarge
from cpc.dataflow.snapshot import InstanceRow, Snapshot, ValueRow
from cpc.server import archive, keeping
from cpc.server.archive import Memory, Packer, Saved

SAVED = Saved(
    1,
    "p",
    5,
    "3.0",
    Snapshot(3, (), (InstanceRow(1, 0, "a", "m::f", 1),), (ValueRow(1, 0, "x", 0.1),)),
    (Memory(1, b"m", "d"),),
)
DATA = b"bytes" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


def pack(members: list[tuple[str, bytes]], *links: tuple[str, str]) -> bytes:
    packer = Packer()
    pieces = []
    for name, data in members:
        pieces += [packer.begin(name, len(data)), packer.data(data[:7]), packer.data(data[7:])]
    pieces += [packer.link(name, target) for name, target in links]
    return b"".join([*pieces, packer.end()])


def whole() -> list[tuple[str, bytes]]:
    return [
        (archive.NETWORK, archive.encode(SAVED)), (f"files/{DIGEST}", DATA), ("files/" + hashlib.sha256().hexdigest(), b""),
        ("persistent/1/deep/part", b"one"),
    ]  # fmt: skip


def unpack(directory: Path, data: bytes) -> Saved:
    path = directory / "x.tar.gz"
    path.write_bytes(data)
    target = directory / "out"
    target.mkdir(exist_ok=True)
    return archive.unpack(path, target)


def test_what_was_packed_is_unpacked(tmp_path: Path) -> None:
    assert unpack(tmp_path, pack(whole())) == SAVED
    assert (tmp_path / "out/files" / DIGEST).read_bytes() == DATA
    assert (tmp_path / "out/persistent/1/deep/part").read_bytes() == b"one"
    assert [path for path, _, _ in keeping.content(tmp_path / "out/persistent").files] == ["1/deep/part"]


def test_links_within_a_persistent_directory_are_links_again(tmp_path: Path) -> None:
    links = (
        ("persistent/1/last", "deep/part"),
        ("persistent/1/deep/again", "../last"),
        ("persistent/1/later", "no/where"),
    )
    unpack(tmp_path, pack(whole(), *links))
    found = keeping.content(tmp_path / "out/persistent/1")
    assert set(found.links) == {(name.removeprefix("persistent/1/"), target) for name, target in links}
    assert (tmp_path / "out/persistent/1/deep/again").read_bytes() == b"one"


@pytest.mark.parametrize(
    "links",
    [
        (("persistent/1/a", "/etc/passwd"),), (("persistent/1/a", "../2/x"),), (("persistent/1/deep/a", "../../x"),),
        (("persistent/1/a", "."), ("persistent/1/b", "a/../..")), (("persistent/1/a", ""),),
        (("persistent/1/a", "deep"), ("persistent/1/a/b", "part")), (("persistent/1/deep/part", "x"),),
        (("persistent/1/deep", "x"),), (("persistent/1/deep/part/a", "x"),), (("persistent/1/a", "b"), ("persistent/1/a", "c")),
        (("files/" + "0" * 64, "x"),), (("project", "x"),), (("persistent/../a", "x"),), (("persistent/1/../a", "x"),),
    ],
)  # fmt: skip
def test_links_that_no_saved_project_holds_are_refused(tmp_path: Path, links: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(BadInput, match="refused"):
        unpack(tmp_path, pack(whole(), *links))
    assert {path.name for path in tmp_path.iterdir()} == {"x.tar.gz", "out"}


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """Of another program's making: the link comes before the file that would go through it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in whole()[:1]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo("persistent/1/a")
        info.type, info.linkname = tarfile.SYMTYPE, "b"
        tar.addfile(info)
        info = tarfile.TarInfo("persistent/1/a/x")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"data"))
    with pytest.raises(BadInput, match="there twice"):
        unpack(tmp_path, out.getvalue())
    assert not (tmp_path / "out/persistent/1/b").exists()


def test_any_tar_program_can_read_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack(whole()))) as tar:
        assert [member.name for member in tar] == [name for name, _ in whole()]


def tarred(change: Callable[[tarfile.TarInfo], None], data: bytes = b"") -> bytes:
    """A whole archive with one member more, made hostile."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in whole():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo("persistent/1/x")
        info.size = len(data)
        change(info)
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def named(name: str) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.name = name

    return change


def link(kind: bytes, target: str) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, target

    return change


@pytest.mark.parametrize(
    "change",
    [
        named("../evil"), named("/etc/evil"), named("persistent/1/../../evil"), named("persistent/../evil"),
        named("persistent/1/"), named("persistent/x/y"), named("files/../evil"), named("files/abc"), named("evil"),
        named("persistent/1//x"), named(archive.NETWORK), named("persistent/1/deep/part"), named("persistent/1/deep/part/x"),
        link(tarfile.SYMTYPE, "/etc"), link(tarfile.LNKTYPE, "project"), link(tarfile.FIFOTYPE, ""),
        link(tarfile.CHRTYPE, ""), link(tarfile.DIRTYPE, ""),
    ],
)  # fmt: skip
def test_what_no_saved_project_holds_is_refused(tmp_path: Path, change: Callable[[tarfile.TarInfo], None]) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CopernicusError):
        unpack(tmp_path, tarred(change))
    assert not (tmp_path / "evil").exists()
    assert {path.name for path in tmp_path.iterdir()} - {path.name for path in before} <= {"x.tar.gz", "out"}


def test_bytes_that_are_not_those_of_their_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not those of its name"):
        unpack(tmp_path, tarred(named("files/" + "0" * 64), b"other"))


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_LEAST", 1 << 20)
    bomb = bytes(64 << 20)
    with pytest.raises(TooLarge, match="far more"):
        unpack(tmp_path, tarred(named("files/" + hashlib.sha256(bomb).hexdigest()), bomb))


@pytest.mark.parametrize(
    "data", [b"", b"no archive", pack([]), pack([("files/" + DIGEST, DATA)]), pack([("project", b"\x80")])]
)
def test_what_is_no_saved_project_is_refused_in_words(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CopernicusError, match=r"saved project|cannot be read"):
        unpack(tmp_path, data)


def test_every_cut_and_flipped_archive_is_refused_in_words(tmp_path: Path) -> None:
    data = pack(whole())
    for place in range(0, len(data), 41):
        for bad in (data[:place], data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]):
            directory = tmp_path / f"{place}-{len(bad)}"
            directory.mkdir()
            try:
                found = unpack(directory, bad)
            except CopernicusError:
                continue
            assert found == SAVED, "what is not noticed is in the head of gzip alone"


def test_a_format_of_the_future_is_refused_by_its_number(tmp_path: Path) -> None:
    future = msgspec.msgpack.encode({"version": 2, "what": "ever"})
    with pytest.raises(BadInput, match="format 2"):
        unpack(tmp_path, pack([("project", future)]))
    with pytest.raises(Damaged, match="cannot be read"):
        unpack(tmp_path, pack([("project", msgspec.msgpack.encode({"version": 1}))]))
