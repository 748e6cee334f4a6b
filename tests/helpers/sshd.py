"""ssh to machines of a test: real servers of OpenSSH, each with a home directory of its own, and the client's own configuration.

    with Ssh(directory) as ssh:
        ssh.serve("inner.example.org", "127.0.0.4", 2222, directory, {"HOME": …})
        environment["PATH"] = f"{ssh.bin}:…"              # now `ssh inner.example.org COMMAND` runs COMMAND there

Keys are made for the test and go with it. Everybody who logs in is the user who runs the test.
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from cpc.worker import tree
from tests.helpers.real_programs import until

#: As root it wants an empty directory that everybody's system has, but nobody makes where no system is started.
_SEPARATION = Path("/run/sshd")


def missing() -> str:
    """What this machine lacks for it; empty when it can be done."""
    if _server() is None or shutil.which("ssh") is None:
        return "OpenSSH (Debian: openssh-server, openssh-client) is not installed"
    return ""


def _server() -> str | None:
    return shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


class Ssh:
    """One person's `ssh`, in `bin`, and the servers that let that person in. `close` ends the servers and all sessions."""

    def __init__(self, directory: Path) -> None:
        self.bin = directory / "bin"
        self._directory = directory
        self._servers: list[subprocess.Popen[bytes]] = []
        self.bin.mkdir(parents=True)
        self._keys(directory / "key")
        self._config = directory / "config"
        self._config.write_text(
            f"User {getpass.getuser()}\nIdentityFile {directory}/key\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {directory}/known\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\n"
            "LogLevel ERROR\nExitOnForwardFailure yes\n"
        )
        program = self.bin / "ssh"
        program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {shlex.quote(str(self._config))} "$@"\n')
        program.chmod(0o755)
        if os.geteuid() == 0:
            _SEPARATION.mkdir(mode=0o755, exist_ok=True)

    def serve(self, name: str, address: str, port: int, directory: Path, environment: Mapping[str, str]) -> None:
        """A server there, in the caller's network namespace. Whoever logs in is in `directory`, with `environment`."""
        place = self._directory / name
        place.mkdir()
        self._keys(place / "key")
        session = place / "session"
        words = [f"export {one}={shlex.quote(value)}\n" for one, value in environment.items()]
        session.write_text(
            f'#!/bin/bash\ncd {shlex.quote(str(directory))} || exit 255\n{"".join(words)}exec bash -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        session.chmod(0o755)
        config = place / "sshd_config"
        config.write_text(
            f"ListenAddress {address}\nPort {port}\nHostKey {place}/key\nAuthorizedKeysFile {self._directory}/key.pub\n"
            f"ForceCommand {session}\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\n"
        )
        server = _server()
        assert server is not None
        log = place / "log"
        with log.open("ab") as output:
            self._servers.append(subprocess.Popen(
                [server, "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            ))  # fmt: skip
        with self._config.open("a") as file:
            file.write(f"Host {name} {address}\n    HostName {address}\n    Port {port}\n    HostKeyAlias {name}\n")
        with (self._directory / "known").open("a") as file:
            file.write(f"{name} {(place / 'key.pub').read_text()}")
        until(lambda: _listens(address, port), f"{name} can be reached by ssh", seen=log.read_text)

    @staticmethod
    def _keys(path: Path) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f", path], check=True)

    def close(self) -> None:
        """No server and no session any more."""
        for server in self._servers:
            tree.end([server.pid])
            server.wait()

    def __enter__(self) -> Ssh:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _listens(address: str, port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1.0)
        return one.connect_ex((address, port)) == 0
