"""Credentials of machines: each opens its own door only, and one that is revoked or over is really gone."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import pytest

from cpc.client import Client
from cpc.core.chance import SystemChance
from cpc.core.clock import SECOND, SystemClock
from cpc.wire import bundle as bundles
from cpc.wire.identity import Authority, Name, Role
from tests.helpers.network_of_processes import Network, Worker, gone, ssl_context, until


@pytest.fixture(scope="module")
def lab(network: Network) -> Network:
    """Workers come and go with the tests."""
    return network


def make_bundle(network: Network, name: str, *options: str) -> Path:
    """A new bundle's file."""
    path = network.directory / f"{name}.cnx"
    network.cpcc("bundle", "--name", name, *options, "-o", str(path)).done()
    return path


def test_a_revoked_bundle_puts_its_worker_out_at_once_and_nobody_else(lab: Network, tmp_path: Path) -> None:
    path = make_bundle(lab, "lab")
    other = lab.worker("--labels", "other")
    mine = lab.worker("--labels", "mine", bundle=path)
    job = lab.shell(f"[ $CPC_ATTEMPT = 2 ] || {{ echo $$ > {tmp_path}/mine; sleep 1000; }}", labels=("mine",))
    pid = lab.pid(tmp_path / "mine")
    lab.cpcc("revoke-bundle", "lab").done()
    assert put_out(mine)
    assert gone(pid)
    found = lab.in_state(job, "waiting")
    assert (found.failures, found.losses) == (0, 0)
    assert put_out(lab.start_worker(bundle=path, work=mine.directory))
    with lab.working("--labels", "mine"):
        lab.success_of(job)
    assert other.running
    lab.dismiss(other)


def put_out(worker: Worker) -> bool:
    """Whether it ends now, with one line that says why."""
    assert worker.ended() == 1
    lines = [line for line in worker.said.splitlines() if line.startswith("ERROR")]
    return len(lines) == 1 and "revoked" in lines[0]


def test_the_servers_own_command_revokes_in_the_running_server(lab: Network) -> None:
    path = lab.directory / "there.cnx"
    lab.run("cpc-server", "bundle", "--name", "there", "-o", str(path)).done()
    worker = lab.worker(bundle=path)
    lab.run("cpc-server", "revoke-bundle", "there").done()
    assert put_out(worker)


def test_a_bundle_whose_time_is_over_is_refused_in_words(lab: Network) -> None:
    worker = make_bundle(lab, "short", "--expires", "1s")
    client = make_bundle(lab, "short-me", "--role", "client", "--expires", "1s")
    end = max(bundles.read(path).expires for path in (worker, client))
    until(lambda: time.time() * SECOND > end, "its time is over")
    refused = lab.start_worker(bundle=worker)
    assert refused.ended() == 1
    lines = [line for line in refused.said.splitlines() if line.startswith("ERROR")]
    assert len(lines) == 1
    assert "expired" in lines[0]
    line = lab.cpcc("-c", str(client), "whoami").refused()
    assert "expired" in line or "log in" in line


def test_a_workers_bundle_is_no_login(lab: Network) -> None:
    assert "bundle for a worker" in lab.cpcc("-c", str(lab.bundle), "status").refused()
    found = bundles.read(lab.bundle)
    for token in ("", found.certificate.splitlines()[1], found.key.splitlines()[1]):
        for path in ("/api/v1/status", "/api/v1/projects", "/api/v1/workers"):
            assert b" 401 " in raw_http(lab, path, token).splitlines()[0]
    with_certificate = ssl_context(found.authority)
    (lab.directory / "stolen.pem").write_text(found.certificate + found.key)
    with_certificate.load_cert_chain(lab.directory / "stolen.pem")
    assert b" 401 " in raw_http(lab, "/api/v1/status", "", with_certificate).splitlines()[0]


def test_a_clients_bundle_is_good_for_people_only(lab: Network) -> None:
    path = make_bundle(lab, "me", "--role", "client")
    found = bundles.read(path)
    assert found.key == ""
    assert lab.cpcc("-c", str(path), "--json", "whoami").done()
    with Client.from_bundle(path) as client:
        assert client.whoami().name == "cpc-admin"
    said = lab.run("cpc-worker", "-c", str(path), "smp").err
    assert "client bundle" in said
    assert said.count("\n") == 1
    with_token = f"GET /api/v1/status HTTP/1.1\r\nAuthorization: Bearer {found.token}\r\n\r\n"
    assert b"CERTIFICATE_REQUIRED" in answer(lab, ssl_context(found.authority), with_token)
    lab.cpcc("revoke-bundle", "me").done()
    assert "log in" in lab.cpcc("-c", str(path), "whoami").refused()


def test_the_machines_door_wants_a_certificate_of_its_own_authority(lab: Network) -> None:
    """A stranger with a certificate of his own is not even answered."""
    found = bundles.read(lab.bundle)
    assert b"CERTIFICATE_REQUIRED" in answer(lab, ssl_context(found.authority), "\x00\x00\x00\x01hello")
    forged = ssl_context(found.authority)
    (lab.directory / "forged.pem").write_text(forged_identity(found.server))
    forged.load_cert_chain(lab.directory / "forged.pem")
    assert b"UNKNOWN_CA" in answer(lab, forged, "\x00\x00\x00\x01hello")
    with socket.create_connection(("127.0.0.1", lab.port), timeout=60) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in plain.recv(4096)
    assert lab.cpcc("ping").done() == "OK\n"


def forged_identity(server: str) -> str:
    """A worker's certificate with the right names, of another authority."""
    other = Authority.create(server, SystemClock(), SystemChance())
    made = other.identity(Name(server, Role.WORKER, "w"), 3600.0)
    return (made.certificate_pem + made.key_pem).decode()


def raw_http(network: Network, path: str, token: str, context: ssl.SSLContext | None = None) -> bytes:
    """What the people's door answers."""
    context = context or ssl_context(bundles.read(network.bundle).authority)
    with (
        socket.create_connection(("127.0.0.1", network.client_port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        bearer = f"Authorization: Bearer {token}\r\n" if token else ""
        secure.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{bearer}Connection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: secure.recv(65536), b""))


def answer(network: Network, context: ssl.SSLContext, text: str) -> bytes:
    """What the machines' door says to this before it ends the connection."""
    try:
        with (
            socket.create_connection(("127.0.0.1", network.port), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(text.encode())
            return b"".join(iter(lambda: secure.recv(65536), b""))
    except (ssl.SSLError, ConnectionError) as error:
        return type(error).__name__.encode() + str(error).encode()
