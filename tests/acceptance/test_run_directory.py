"""What a server stands on: one server to a run directory, and no start on files that are not what they were."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.network_of_processes import PASSWORD, Answer, Network


@pytest.fixture(scope="module")
def lab(make_network: Callable[..., Network]) -> Network:
    """A server of our own."""
    return make_network()


@pytest.fixture
def stopped(lab: Network) -> Iterator[Network]:
    """A server that does not run, whose files are put in order afterwards."""
    if lab.alive:
        lab.stop_server()
    kept = {path: path.read_bytes() for path in (config(lab), database(lab), authority(lab))}
    yield lab
    for path, text in kept.items():
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_bytes(text)
    for path in (database(lab).with_name("copernicus.db-wal"), database(lab).with_name("copernicus.db-shm")):
        path.unlink(missing_ok=True)


def config(network: Network) -> Path:
    """The server's configuration."""
    return network.place / "server.json"


def authority(network: Network) -> Path:
    """The server's identity."""
    return network.place / "authority.key"


def database(network: Network) -> Path:
    """Its SQLite database."""
    return network.run_directory / "copernicus.db"


def start(network: Network, *arguments: str) -> Answer:
    """Try to start it as a daemon."""
    return network.run("cpc-server", *arguments, "start")


def test_two_servers_on_one_run_directory_are_refused(lab: Network) -> None:
    arguments = ("--name", "second", "--port", "0", "--client-port", "0", "-stdin", str(lab.run_directory))
    line = lab.run("cpc-server", "setup", *arguments, stdin=PASSWORD).refused()
    assert str(lab.run_directory) in line
    elsewhere = lab.directory / "other-run"
    lab.run("cpc-server", "setup", *arguments[:-1], str(elsewhere), stdin=PASSWORD).done()
    second = lab.home / "servers" / "second" / "server.json"
    second.write_text(second.read_text().replace(str(elsewhere), str(lab.run_directory)))
    line = start(lab, "-c", "second").err.splitlines()[-1]
    assert str(lab.run_directory) in line
    assert lab.cpcc("ping").done() == "OK\n"


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe nonsense", b'{"name": 3}', b"[]"])
def test_a_damaged_configuration_is_refused_by_name(stopped: Network, text: bytes) -> None:
    config(stopped).write_bytes(text)
    for command in ("start", "status"):
        line = stopped.run("cpc-server", command).refused()
        assert str(config(stopped)) in line
        assert "(" in line  # what to do


@pytest.mark.parametrize("how", ["overwritten", "truncated", "empty", "gone", "a page"])
def test_a_damaged_database_is_refused_by_name(stopped: Network, how: str) -> None:
    path = database(stopped)
    text = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {
                "overwritten": b"nonsense" * 1000,
                "truncated": text[: len(text) // 2],
                "empty": b"",
                "a page": text[:4096] + b"\xa5" * 4096 + text[8192:],
            }[how]
        )
    lines = start(stopped).err.splitlines()
    assert str(path) in lines[-1]
    assert "(" in lines[-1]
    assert stopped.run("cpc-server", "status").code == 1


def test_a_database_of_a_newer_release_is_left_alone(stopped: Network) -> None:
    with sqlite3.connect(database(stopped)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = database(stopped).read_bytes()
    line = start(stopped).err.splitlines()[-1]
    assert "newer" in line
    assert database(stopped).read_bytes() == before


def test_a_damaged_identity_is_refused_by_name(stopped: Network) -> None:
    authority(stopped).write_bytes(b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")
    line = start(stopped).err.splitlines()[-1]
    assert str(authority(stopped)) in line


def test_with_its_files_in_order_it_starts_again(stopped: Network) -> None:
    stopped.start()
    assert stopped.cpcc("ping").done() == "OK\n"
    stopped.stop_server()
