"""The people's door over real sockets and real TLS, with a client that is not ours."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.helpers.http_running import Running, running_server

API = "/api/v1"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running_server("--tls") as running:
        yield running


def context(server: Running) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=server.authority)
    made.set_alpn_protocols(["http/1.1"])
    return made


@contextmanager
def connected(server: Running) -> Iterator[http.client.HTTPSConnection]:
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context(server), timeout=60)
    with closing(connection):
        yield connection


@pytest.fixture
def connection(server: Running) -> Iterator[http.client.HTTPSConnection]:
    with connected(server) as connection:
        yield connection


def ask(
    server: Running, connection: http.client.HTTPSConnection, method: str, path: str, body: object = None
) -> object:
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    connection.request(method, API + path, None if body is None else json.dumps(body), headers)
    return json.loads(connection.getresponse().read())


def test_a_client_that_pins_the_authority_is_answered_over_one_connection(
    server: Running, connection: http.client.HTTPSConnection
) -> None:
    for _ in range(3):
        answer = ask(server, connection, "GET", "/whoami")
        assert isinstance(answer, dict)
        assert answer["name"] == "alice"
    assert isinstance(connection.sock, ssl.SSLSocket)
    assert connection.sock.selected_alpn_protocol() == "http/1.1"
    assert connection.sock.version() == "TLSv1.3"


def test_a_client_that_pins_another_authority_refuses(server: Running) -> None:
    stranger = http.client.HTTPSConnection("127.0.0.1", server.port, context=ssl.create_default_context(), timeout=60)
    with closing(stranger), pytest.raises(ssl.SSLCertVerificationError):
        stranger.request("GET", f"{API}/server")


def test_plain_http_is_not_answered(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as plain:
        plain.sendall(b"GET /api/v1/server HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP/1.1 200" not in plain.recv(65536)


def test_an_upload_and_its_download_are_the_same_bytes(
    server: Running, connection: http.client.HTTPSConnection
) -> None:
    from cpc.core.digest import CHUNK, of_chunks

    data = os.urandom(CHUNK + 12345)
    content = of_chunks([data[:CHUNK], data[CHUNK:]])
    announced = ask(
        server, connection, "POST", "/projects/villin/uploads",
        {"digest": content.digest.hex(), "size": content.size, "chunks": [chunk.hex() for chunk in content.chunks]},
    )  # fmt: skip
    assert isinstance(announced, dict)
    token = {"Authorization": f"Bearer {server.token}"}
    connection.request("PUT", f"{API}/uploads/{announced['id']}?offset=0", data, token)
    assert json.loads(connection.getresponse().read())["done"]
    connection.request("GET", f"{API}/projects/villin/files/{content.digest.hex()}", headers=token)
    assert connection.getresponse().read() == data


def test_a_refused_upload_is_answered_although_the_client_goes_on_sending(
    server: Running, connection: http.client.HTTPSConnection
) -> None:
    """A client that writes its whole body before it reads must still see the refusal."""
    connection.request("PUT", f"{API}/uploads/none?offset=0", b"x" * (8 << 20), {"Authorization": "Bearer wrong"})
    reply = connection.getresponse()
    assert reply.status == 401
    assert json.loads(reply.read())["code"] == "not-logged-in"


def test_a_watcher_sees_an_event_at_once(server: Running, connection: http.client.HTTPSConnection) -> None:
    connection.request("GET", f"{API}/events/stream", headers={"Authorization": f"Bearer {server.token}"})
    reply = connection.getresponse()
    assert reply.readline() == b": watching\n"
    with connected(server) as other:
        ask(server, other, "POST", "/projects/villin/jobs", {"spec": {"argv": ["true"]}})
    lines: list[bytes] = []
    while not lines or not lines[-1].startswith(b"data: "):
        lines.append(reply.readline())
    data = json.loads(lines[-1].removeprefix(b"data: "))
    assert data["kind"] == "job.submitted"
    reply.close()


def test_a_client_that_does_not_speak_is_not_served_and_does_not_disturb(
    server: Running, connection: http.client.HTTPSConnection
) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.sendall(b"\x16\x03\x01")
        assert isinstance(ask(server, connection, "GET", "/whoami"), dict)


def test_many_clients_at_once_are_all_answered(server: Running) -> None:
    found: list[object] = []

    def work() -> None:
        with connected(server) as own:
            found.extend(ask(server, own, "GET", "/jobs/57") for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 160
    assert all(isinstance(answer, dict) and answer["id"] == "57" for answer in found)


def test_a_call_costs_little(server: Running, connection: http.client.HTTPSConnection) -> None:
    """Bounds with a wide margin what is measured at about a third of a millisecond."""
    ask(server, connection, "GET", "/whoami")
    before = _cpu(server.pid)
    start = time.perf_counter()
    for _ in range(300):
        ask(server, connection, "POST", "/projects/villin/jobs", {"spec": {"argv": ["true"]}, "dry_run": True})
    spent, wall = _cpu(server.pid) - before, time.perf_counter() - start
    print(f"server CPU {spent / 300 * 1e3:.2f} ms a call, {wall / 300 * 1e3:.2f} ms in all")
    assert spent / 300 < 0.003


def _cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
