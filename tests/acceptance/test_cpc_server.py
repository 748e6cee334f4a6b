"""cpc-server as its administrator uses it: real processes, from setup to restart."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core.chance import SystemChance
from cpc.core.clock import SystemClock
from cpc.server import offline, upkeep
from cpc.server.config import Place
from cpc.wire import bundle as bundles
from tests.helpers.real_programs import PATIENCE
from tests.helpers.server_program import PASSWORD, Server, until


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Server]:
    """Nothing set up yet."""
    server = Server(tmp_path)
    yield server
    server.close()


@pytest.fixture
def server(fresh: Server) -> Server:
    """Set up and stopped."""
    fresh.setup()
    return fresh


@pytest.fixture
def running(server: Server) -> Server:
    """Set up and started."""
    server.done("start")
    return server


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- setup ---


def test_setup_says_what_comes_next_and_keeps_its_secrets(fresh):
    said = fresh.setup()
    assert "cpc-server -c lab start" in said
    assert "cpcc add-server -n lab 127.0.0.1" in said
    assert "cpcc login cpc-admin" in said
    for path in (fresh.place / "authority.key", fresh.place / "worker.cnx", fresh.home / "client.cnx"):
        assert mode(path) == 0o600
    assert mode(fresh.run_dir) == 0o700
    assert mode(fresh.run_dir / "copernicus.db") == 0o600
    bundle = bundles.read(fresh.place / "worker.cnx")
    assert bundle.role == "worker"
    assert bundle.addresses == (("127.0.0.1", fresh.config()["port"]),)
    shown = said.partition("--fingerprint ")[2].split()[0]
    assert ":".join(shown[at : at + 4] for at in range(0, 64, 4)) in said
    assert PASSWORD not in said


def test_the_spellings_of_the_original_still_work(tmp_path):
    server = Server(tmp_path, "old")
    said = server.done(
        "setup", "-force", "-servername", "old", "-host", "localhost", "-p", PASSWORD, "--port=0", "--client-port=0",
        str(server.run_dir),
    )  # fmt: skip
    assert "Made server old" in said
    assert server.config()["host"] == "localhost"
    assert "heartbeat_time" in server.done("config-values")
    server.done("create-connection-bundle", "-o", str(tmp_path / "b.cnx"))
    assert (tmp_path / "b.cnx").exists()


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        ((), "short\n", "shorter than 8"),
        ((), "", "no password"),
        ((), "cpc-admin\n", "user's name"),
        (("--port", "15000", "--client-port", "15000"), PASSWORD, "both ports"),
        (("--database", "mysql://x/y"), PASSWORD, "not a database URL"),
        (("--database", "sqlite:///relative.db"), PASSWORD, "absolute"),
        (("--database", "postgresql://nobody@127.0.0.1:1/x"), PASSWORD, "cannot be opened"),
        (("--host", "no.such.host.invalid"), PASSWORD, "cannot be resolved"),
        (("--host", "192.0.2.1"), PASSWORD, "no address of this machine"),
    ],
)
def test_a_setup_that_cannot_be_is_refused_in_one_line_and_leaves_nothing(fresh, arguments, stdin, expected):
    line = fresh.refused("setup", *arguments, "-stdin", str(fresh.run_dir), stdin=stdin)
    assert expected in line
    assert not fresh.home.exists()
    assert not fresh.run_dir.exists()


def test_setup_never_overwrites_unasked_and_forced_it_keeps_what_was_there(server):
    key = (server.place / "authority.key").read_bytes()
    line = server.refused("setup", "--stdin", str(server.run_dir), stdin=PASSWORD)
    assert "exists already" in line
    assert (server.place / "authority.key").read_bytes() == key
    server.setup("-force")
    assert (server.place / "authority.key").read_bytes() != key
    kept = list((server.home / "replaced").glob("lab-*/authority.key"))
    assert [path.read_bytes() for path in kept] == [key]
    assert list(server.run_dir.glob("copernicus.db.replaced-*"))
    assert bundles.read(server.home / "client.cnx") == bundles.read(server.place / "worker.cnx")
    server.done("start")


def test_without_host_only_this_machine_can_connect(server):
    assert server.config()["listen"] == ["127.0.0.1"]


@pytest.mark.parametrize(("again", "code"), [("correct-horse", 0), ("something-else", 130)])
def test_the_password_is_asked_for_twice_and_never_shown(fresh, again, code):
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        fresh.argv("setup", "--port", "0", "--client-port", "0", str(fresh.run_dir)), start_new_session=True,
        env={**os.environ, "CPC_HOME": str(fresh.home)}, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    said = ""
    for question, answer in (("Password of cpc-admin", PASSWORD), ("The same again", again)):
        while question not in said:
            said += os.read(ours, 4096).decode()
        os.write(ours, answer.encode() + b"\n")
    if code:
        while "do not match" not in said:
            said += os.read(ours, 4096).decode()
        process.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # the end of a terminal
        while data := os.read(ours, 4096):
            said += data.decode()
    os.close(ours)
    assert process.wait(120) == code, said
    assert PASSWORD not in said
    assert (fresh.place / "server.json").exists() == (code == 0)


# --- start, status, stop ---


def test_a_server_whose_database_was_taken_over_ends_at_once_and_says_why(running):
    config = Place(running.place).read()
    clock, chance = SystemClock(), SystemChance()
    with offline.services(config, upkeep.authority(Place(running.place), clock, chance), clock, chance):
        pass
    running.run("config", "log_level", "warn")
    until(lambda: not running.status()["running"], "it has ended")
    assert "another server has taken over" in running.log
    running.done("start")


def test_a_server_starts_answers_and_stops(server):
    stopped = server.run("status")
    assert stopped.returncode == 1
    assert "stopped" in stopped.stdout
    server.done("start")
    status = server.status()
    assert status["running"]
    assert status["answers"]
    assert status["pid"] == server.pid
    assert status["version"] == 1
    assert "no backup" in " ".join(status["warnings"])
    assert "has stopped" in server.done("stop")
    assert not server.status()["running"]
    assert not (server.place / "control.token").exists()
    assert "was not running" in server.done("stop")


def test_a_second_server_is_refused_in_words(running):
    line = running.refused("start")
    assert f"running as process {running.pid}" in line
    other = Server(running.directory, "twin")
    shutil.copytree(running.place, other.place, ignore=shutil.ignore_patterns("server.lock", "server.pid", "log"))
    assert "run directory" in other.refused("start")
    assert running.status()["answers"]


def test_a_port_that_is_taken_is_told_by_start_itself(server):
    with socket.socket() as other:
        other.bind(("127.0.0.1", server.config()["client_port"]))
        other.listen()
        line = server.refused("start")
    assert str(server.config()["client_port"]) in line
    assert "cannot" in line
    assert "cannot" in server.log
    assert not (server.place / "server.pid").exists()
    server.done("start")


def test_a_killed_server_starts_again(running):
    first = running.pid
    running.kill()
    assert not running.status()["running"]
    running.done("start")
    assert running.status()["answers"]
    assert running.pid != first


def test_a_stale_process_file_never_makes_stop_signal_a_stranger(running):
    running.kill()
    with subprocess.Popen(["sleep", "100"]) as stranger:
        (running.place / "server.pid").write_text(f"{stranger.pid}\n12345\n")
        assert "was not running" in running.done("stop")
        assert stranger.poll() is None
        stranger.kill()


def test_restart_is_another_process_and_stop_now_ends_one_that_hangs(running):
    first = running.pid
    running.done("restart")
    assert running.pid != first
    os.kill(running.pid, signal.SIGSTOP)
    assert "has stopped" in running.done("stop", "--now", "--timeout", "0.5")
    assert not running.status()["running"]


def test_stop_without_now_gives_up_in_words(running):
    pid = running.pid
    os.kill(pid, signal.SIGSTOP)
    line = running.refused("stop", "--timeout", "0.3")
    assert "--now" in line
    os.kill(pid, signal.SIGCONT)
    until(lambda: not running.status()["running"], "the stopped server stops after all")


def test_in_the_foreground_it_serves_systemd(server):
    path = str(server.directory / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(120)
        process = subprocess.Popen(
            server.argv("start", "--foreground"), stderr=subprocess.PIPE, text=True,
            env={**os.environ, "CPC_HOME": str(server.home), "NOTIFY_SOCKET": path},
        )  # fmt: skip
        ready = manager.recv(1000).decode()
        assert "READY=1" in ready
        assert f"MAINPID={process.pid}" in ready
        process.send_signal(signal.SIGHUP)
        assert "RELOADING=1" in manager.recv(1000).decode()
        assert "READY=1" in manager.recv(1000).decode()
        process.send_signal(signal.SIGTERM)
        assert "STOPPING=1" in manager.recv(1000).decode()
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert "takes workers" in errors
    assert "stopped" in errors


def test_two_signals_stop_it_once(server):
    process = subprocess.Popen(
        server.argv("start", "-dev"), stderr=subprocess.PIPE, text=True,
        env={**os.environ, "CPC_HOME": str(server.home)},
    )  # fmt: skip
    until(lambda: server.status()["answers"], "it answers")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_hangup_goes_on_in_a_fresh_log(running):
    log = running.place / "log" / "server.log"
    log.rename(log.with_suffix(".moved"))
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: log.exists() and "read again" in running.log, "there is a fresh log")


# --- bundles, settings, log ---


@pytest.mark.parametrize("started", [False, True])
def test_bundles_are_made_listed_and_revoked_whether_it_runs_or_not(server, started):
    if started:
        server.done("start")
    target = server.directory / "w.cnx"
    server.done("bundle", "--name", "cluster", "--expires", "3", "-o", str(target))
    first = bundles.read(target)
    assert (first.role, first.name) == ("worker", "cluster")
    assert abs(first.expires / 1e6 - time.time() - 3 * 86400) < 300
    server.done("bundle", "--role", "client", "--user", "cpc-admin", "-o", str(target))
    assert bundles.read(target).token
    assert bundles.read(target.with_name("w.cnx.bak")) == first
    listed = server.done("bundles")
    assert "cluster" in listed
    assert "client of cpc-admin" in listed
    server.done("revoke-bundle", "cluster")
    assert "cluster" not in server.done("bundles")
    assert "revoked" in server.done("bundles", "--all")
    assert "no bundle" in server.refused("revoke-bundle", "cluster")
    assert "there is a bundle" in server.refused("bundle", "--name", "worker", "-o", str(target))


@pytest.mark.parametrize("started", [False, True])
def test_settings_are_changed_whether_it_runs_or_not(server, started):
    if started:
        server.done("start")
    server.done("config", "heartbeat-time", "45")
    assert server.done("config", "heartbeat_time").strip() == "45"
    assert "not between" in server.refused("config", "heartbeat_time", "0.1")
    assert "no setting" in server.refused("config", "heart", "1")
    assert "not a port" in server.refused("config", "port", "eighty")
    said = server.done("config", "client_port", str(server.config()["client_port"]))
    assert ("restart" in said) == started
    if started:
        assert "while the server runs" in server.refused("config", "run_dir", "/tmp")


def test_the_log_level_is_followed_while_it_runs(running):
    running.done("config", "log_level", "error")
    os.kill(running.pid, signal.SIGTERM)
    until(lambda: not running.status()["running"], "it stops")
    assert "stopping" not in running.log


def test_log_shows_the_end_and_follows(running):
    assert "takes workers" in running.done("log", "-n", "1")
    follower = subprocess.Popen(running.argv("log", "-f", "-n", "0"), stdout=subprocess.PIPE, text=True,
                                env={**os.environ, "CPC_HOME": str(running.home)})  # fmt: skip
    try:
        assert follower.stdout is not None
        assert "takes workers" in follower.stdout.readline()
        running.done("stop")
        assert "stopping" in follower.stdout.readline()
    finally:
        follower.kill()
        follower.communicate()


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("stat",), 2),
        (("start", "--quickly"), 2),
        (("setup",), 2),
        (("setup", "--port", "70000", "x"), 2),
        (("revoke-bundle",), 2),
        (("status", "--home"), 2),
        (("bundle", "--role", "king"), 2),
        (("status",), 1),
        (("start",), 1),
        (("backup", "x"), 1),
        (("restore", "no-such-file"), 1),
        (("log",), 1),
        (("doctor",), 1),
    ],
)
def test_every_mistake_is_one_line_and_the_right_exit_code(fresh, arguments, code):
    result = subprocess.run(
        [*fresh.argv()[:1], *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "CPC_HOME": str(fresh.home)},
    )  # fmt: skip
    assert result.returncode == code, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("cpc-server: ")


def test_help_and_version_need_no_server(fresh):
    env = {**os.environ, "CPC_HOME": str(fresh.home)}
    command = fresh.argv()[0]
    for arguments in (("--help",), ("help",), ("help", "setup"), ("version",)):
        result = subprocess.run(
            [command, *arguments], capture_output=True, text=True, timeout=PATIENCE, env=env, check=False
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout
