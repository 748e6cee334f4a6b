"""Downloads: ranges, ETags, back-pressure, and nothing that a browser would run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from cpc.core.manifest import Entry
from cpc.server.http.download import PIECE, disposition
from tests.helpers.http_wire import House

API = "/api/v1"
DATA = bytes(range(256)) * 10
OUT = f"{API}/jobs/57/outputs"


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    house.services.store_file(DATA, b"out/traj.xtc")
    yield house
    house.close()


def test_an_output_comes_whole_with_its_digest_and_cannot_run_as_a_script(house: House) -> None:
    reply = house.ask("GET", f"{OUT}/out/traj.xtc")
    assert (reply.status, reply.body) == (200, DATA)
    assert reply.headers["etag"] == f'"{hashlib.sha256(DATA).hexdigest()}"'
    assert reply.headers["content-length"] == str(len(DATA))
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in reply.headers["content-security-policy"]
    assert reply.headers["content-disposition"].startswith('attachment; filename="traj.xtc"')


def test_a_file_of_the_project_comes_by_its_digest(house: House) -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    assert house.ask("GET", f"{API}/projects/villin/files/{digest}").body == DATA
    assert house.ask("GET", f"{API}/projects/villin/files/{'0' * 64}").status == 404
    assert house.ask("GET", f"{API}/projects/villin/files/xyz").status == 400
    assert house.ask("GET", f"{API}/projects/secret/files/{digest}").status == 404


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=2550-", 2550, 2560), ("bytes=-5", 2555, 2560), ("bytes=2550-9999", 2550, 2560),
     ("bytes=-9999", 0, 2560)],
)  # fmt: skip
def test_a_range_is_given_as_a_part(house: House, wanted: str, start: int, stop: int) -> None:
    reply = house.ask("GET", f"{OUT}/out/traj.xtc", Range=wanted)
    assert (reply.status, reply.body) == (206, DATA[start:stop])
    assert reply.headers["content-range"] == f"bytes {start}-{stop - 1}/2560"


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "lines=1-2", "bytes=9-3", "bytes=-", "nonsense"])
def test_a_range_that_is_not_understood_is_answered_in_whole(house: House, wanted: str) -> None:
    reply = house.ask("GET", f"{OUT}/out/traj.xtc", Range=wanted)
    assert (reply.status, reply.body) == (200, DATA)


@pytest.mark.parametrize("wanted", ["bytes=2560-", "bytes=99999-100000", "bytes=-0"])
def test_a_range_outside_of_the_file_is_refused_with_its_size(house: House, wanted: str) -> None:
    reply = house.ask("GET", f"{OUT}/out/traj.xtc", Range=wanted)
    assert reply.status == 416
    assert reply.headers["content-range"] == "bytes */2560"


def test_a_range_of_another_version_is_answered_in_whole(house: House) -> None:
    etag = f'"{hashlib.sha256(DATA).hexdigest()}"'
    assert house.ask("GET", f"{OUT}/out/traj.xtc", Range="bytes=0-9", If_Range=etag).status == 206
    assert house.ask("GET", f"{OUT}/out/traj.xtc", Range="bytes=0-9", If_Range='"other"').status == 200


def test_what_the_client_has_already_is_not_sent_again(house: House) -> None:
    etag = f'"{hashlib.sha256(DATA).hexdigest()}"'
    reply = house.ask("GET", f"{OUT}/out/traj.xtc", If_None_Match=f'"x", {etag}')
    assert (reply.status, reply.body) == (304, b"")
    assert house.ask("GET", f"{OUT}/out/traj.xtc", If_None_Match='"x"').status == 200


def test_head_tells_the_size_and_reads_nothing(house: House) -> None:
    client = house.client()
    reply = client.ask("HEAD", f"{OUT}/out/traj.xtc")
    assert (reply.status, reply.headers["content-length"], reply.body) == (200, "2560", b"")
    assert client.ask("GET", f"{API}/whoami").status == 200


def test_an_empty_file_is_a_file(house: House) -> None:
    house.services.store_file(b"", b"empty")
    assert house.ask("GET", f"{OUT}/empty").headers["content-length"] == "0"


def test_names_that_are_not_utf8_are_reached_and_written_safely(house: House) -> None:
    house.services.store_file(b"x", b'a "b"\r\n\xff.txt')
    reply = house.ask("GET", f"{OUT}/a%20%22b%22%0D%0A%FF.txt")
    assert reply.body == b"x"
    assert reply.headers["content-disposition"] == (
        "attachment; filename=\"a _b____.txt\"; filename*=UTF-8''a%20%22b%22%0D%0A%FF.txt"
    )
    assert disposition(b"") == b"attachment; filename=\"file\"; filename*=UTF-8''"


@pytest.mark.parametrize("path", ["../secret", "out/%2e%2e/x", "%2e%2e%2fetc", "out//x", "a%00b", ".", "/etc/passwd"])
def test_a_path_that_leads_out_is_refused(house: House, path: str) -> None:
    reply = house.ask("GET", f"{OUT}/{path}")
    assert reply.status in (400, 404)
    assert reply.json["code"] in ("bad-input", "not-found")
    assert not any(act == "job.output" for act, _ in house.world.asked)


def test_a_directory_is_not_a_file(house: House) -> None:
    house.world.outputs[b"out"] = Entry(b"out", kind="dir")
    reply = house.ask("GET", f"{OUT}/out")
    assert (reply.status, reply.json["message"]) == (404, "output 'out' is a dir, not a file")


def test_a_reader_who_is_slow_slows_the_reading_and_one_who_stops_is_cut_off(house: House) -> None:
    big = b"b" * (PIECE * 4)
    digest = house.services.store_file(big)
    client = house.client()
    client.send(client.head("GET", f"{API}/projects/villin/files/{digest}", {"Authorization": "Bearer alice-token"}))
    # The transport in memory takes everything; a real one says pause. Others have their turn between two pieces.
    assert PIECE < len(client.wire.value()) < 2 * PIECE
    house.reactor.advance(0)
    assert len(client.wire.value()) > len(big)
    slow = house.client()
    slow.wire.full_after = PIECE
    slow.send(slow.head("GET", f"{API}/projects/villin/files/{digest}", {"Authorization": "Bearer alice-token"}))
    sent = len(slow.wire.value())
    assert sent < 2 * PIECE
    slow.wire.drain()
    house.reactor.advance(0)
    assert sent < len(slow.wire.value()) < 3 * PIECE + 1000
    house.reactor.advance(59)
    assert not slow.wire.aborted
    house.reactor.advance(2)
    assert slow.wire.aborted
    slow.lose()
    assert house.ask("GET", f"{API}/whoami").status == 200


def test_a_file_that_ends_too_early_cuts_the_connection(house: House) -> None:
    """The length has been promised: a short answer must not look complete."""
    from tests.helpers.http_wire import logged

    big = b"b" * (PIECE * 2)
    digest = house.services.store_file(big)

    async def open_damaged(who: object, project: str, digest: bytes) -> object:
        async def read(offset: int, length: int) -> bytes:
            return big[:PIECE][offset : offset + length]

        return len(big), read

    house.services.files.open = open_damaged  # type: ignore[method-assign, assignment]
    client = house.client()
    with logged() as events:
        client.send(
            client.head("GET", f"{API}/projects/villin/files/{digest}", {"Authorization": "Bearer alice-token"})
        )
        house.reactor.advance(0)
    assert client.wire.aborted
    assert any("log_failure" in event for event in events)
