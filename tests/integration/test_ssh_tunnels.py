"""Tunnels as the manual tells administrators to make them: OpenSSH between two machines with firewalls, all ports as installed.

The words of the manual are typed on the machine outside; the one inside is called by a name that only `ssh` can look up.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import namespaces, sshd
from tests.helpers.manual import Command, Shell, commands, end_all, section
from tests.helpers.namespaces import Wire
from tests.helpers.sshd import Ssh

LACKING = namespaces.missing() or sshd.missing()
pytestmark = pytest.mark.skipif(bool(LACKING), reason=LACKING)

PAGE = Path(__file__).parents[2] / "docs" / "admin" / "network.md"
PASSWORD = "correct horse battery staple"
ANSWERS = ((r"(?i)password[^\n]*:", PASSWORD), ("The same again:", PASSWORD))
INSIDE = "inner.example.org"
OUTSIDE = "jobs.example.org"
SECONDS = 900.0  # for all commands of a block together; on two processors with a load of 22 the first one takes 65

#: Two servers that have never heard of each other; the one outside has a worker.
BEGIN = """
cpc-server setup --host 10.99.0.1 data
cpc-server start
cpcc add-server --yes localhost
cpcc login cpc-admin
cpcc start ours
setsid cpc-worker -c ~/.copernicus/client.cnx smp > worker.log 2>&1 &
ssh -t inner.example.org cpc-server setup --host inner.example.org --listen 0.0.0.0 data
ssh inner.example.org cpc-server start
ssh inner.example.org cpcc add-server --yes localhost
ssh -t inner.example.org cpcc login cpc-admin
ssh inner.example.org cpcc start theirs
"""
#: A worker outside runs a job of the server inside.
A_JOB = "ssh inner.example.org cpcc run -- echo a job"
CONNECTED = "until cpcc ping inner.example.org; do sleep 0.1; done"
#: The master of a tunnel answers that it ends, and then it ends; a port that is still open cannot be opened again.
CLOSED = "while (exec 3<>/dev/tcp/127.0.0.1/24807) 2>/dev/null; do sleep 0.1; done"
#: They forget each other: the one inside only after it has heard that the trust is over, and the one outside when that is sure.
PART = """
cpcc revoke inner.example.org
until ssh inner.example.org cpcc connected-servers | grep Revoked; do sleep 0.1; done
cpcc refuse-server inner.example.org
ssh inner.example.org cpcc refuse-server 10.99.0.1
"""


class Machines:
    """`outer` and `inner`, each with its own home directory and an ssh server."""

    def __init__(self, directory: Path) -> None:
        self.wire = Wire("outer", "inner")
        self.outer, self.inner = self.wire["outer"], self.wire["inner"]
        self.homes = [directory / "outer", directory / "inner"]
        self.ssh = Ssh(directory / "ssh")
        for name, host, home in zip((OUTSIDE, INSIDE), (self.outer, self.inner), self.homes, strict=True):
            (home / "work").mkdir(parents=True)
            path = f"{Path(sys.executable).parent}:{self.ssh.bin}:{os.environ['PATH']}"
            with host:
                self.ssh.serve(name, host.address, 22, home / "work", {"PATH": path, "HOME": str(home)})

    def type(self, text: str) -> None:
        """These commands on the machine outside; an AssertionError when one is refused."""
        self.run([Command("here", line) for line in text.strip().splitlines()])

    def run(self, todo: list[Command]) -> None:
        shell = Shell(self.homes[0], {}, ANSWERS, self.ssh.bin)
        with self.outer:
            ran = shell.run(todo, SECONDS)
        wrong = [one.wrong for one in ran if one.wrong]
        assert not wrong, "\n\n".join(wrong)

    def close(self) -> None:
        for home in self.homes:
            end_all(home)
        self.ssh.close()
        self.wire.close()


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    made = Machines(tmp_path_factory.mktemp("ssh"))
    try:
        made.type(BEGIN)
        yield made
    finally:
        made.close()


def test_the_tunnel_of_the_manual_is_needed_for_the_request_only(machines: Machines) -> None:
    """Only ssh comes in to the server inside; it may call out."""
    machines.inner.only_outbound(22)
    machines.run(commands(section(PAGE.read_text(), "Through a tunnel"), PAGE.name))
    again = f"ssh {INSIDE} cpc-server stop\nssh {INSIDE} cpc-server start\n{CONNECTED}\n{A_JOB}"
    machines.type(f"{CLOSED}\n{CONNECTED}\n{A_JOB}\n{again}{PART}")


def test_a_tunnel_that_is_kept_carries_everything_and_may_break(machines: Machines) -> None:
    """Nothing but ssh from outside to inside comes through: the tunnel is the only way, and is made again when it is lost."""
    machines.inner.heal()
    machines.inner.only_outbound(22)
    machines.inner.only_inbound()
    tunnel = f"ssh -f -N -M -S tunnel -L 24807:localhost:14807 -L 23807:localhost:13807 {INSIDE}"
    machines.type(f"""
{tunnel}
cpcc connect-server --yes localhost 24807
ssh {INSIDE} cpcc trust --all --yes
{CONNECTED}
{A_JOB}
kill -9 $(ssh -S tunnel -O check {INSIDE} 2>&1 | tr -dc 0-9)
until cpcc connected-servers | grep unreachable; do sleep 0.1; done
{CLOSED}
rm -f tunnel
{tunnel}
{CONNECTED}
{A_JOB}
{PART}
ssh -S tunnel -O exit {INSIDE}
{CLOSED}
""")


def test_the_server_inside_makes_the_tunnel(machines: Machines) -> None:
    """Nobody comes in to the server inside, which may call out: it brings its own port to the machine outside."""
    machines.inner.heal()
    machines.type(f"ssh {INSIDE} ssh -f -N -M -S tunnel -R 24807:localhost:14807 {OUTSIDE}")
    machines.type("cpcc connect-server --yes localhost 24807")
    machines.type(f"ssh {INSIDE} cpcc trust --all --yes\nssh {INSIDE} ssh -S tunnel -O exit {OUTSIDE}")
    machines.type(f"{CONNECTED}\n{A_JOB}")
