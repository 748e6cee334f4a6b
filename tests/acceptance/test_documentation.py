"""What the manual prints can be typed: every command of these pages runs against a real server and worker.

The only differences from the page are in SUBSTITUTIONS; the only commands that are left out are in NOT_HERE.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.manual import Command, Shell, commands, section

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SECONDS = 120.0
PASSWORD = "correct horse battery staple"

#: Pages that begin where nothing is set up yet; for the others, the first five minutes are over.
FROM_NOTHING = ("README.md", "user/first.md", "admin/setup.md")
PAGES = ("README.md", *sorted(str(path.relative_to(DOCS)) for path in (DOCS / "user").glob("*.md")),
         "admin/setup.md", "admin/workers.md")  # fmt: skip

#: They install packages on the machine that runs the tests, which are there already.
NOT_HERE = ("pip install",)

ANSWERS = ((r"(?i)password[^\n]*:", PASSWORD), (r"The same again:", PASSWORD), (r"\[y/N\]:", "y"))

FIRST = """
cpc-server setup ~/copernicus-data
cpc-server start
cpc-worker -c ~/.copernicus/client.cnx smp > worker.log 2>&1 &
cpcc add-server localhost
cpcc login cpc-admin
cpcc start first
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def substitutions(home: Path) -> dict[str, str]:
    """What the page prints → what is typed here."""
    port, client_port = free_ports(2)
    return {
        "cpc-server setup ": f"cpc-server setup --port {port} --client-port {client_port} ",
        "add-server localhost": f"add-server localhost {client_port}",
    }


def test_what_is_not_run_is_as_small_as_it_can_be() -> None:
    assert NOT_HERE == ("pip install",)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "work").mkdir()
    made = Shell(tmp_path, substitutions(tmp_path), ANSWERS)
    yield made
    end_everything(tmp_path)


def end_everything(home: Path) -> None:
    """Servers and workers of this home: those whose own files say so."""
    for pid_file in (home / ".copernicus" / "servers").glob("*/server.pid"):
        end(int(pid_file.read_text().split()[0]))
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit() and f"HOME={home}".encode() in environment(directory).split(b"\0"):
            end(int(directory.name))


def environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def page_commands(page: str) -> list[Command]:
    if page == "README.md":
        text = section((ROOT / page).read_text(), "A first project in five minutes")
        return commands(text, page, indented=True)
    return commands((DOCS / page).read_text(), page)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_does_what_the_page_says(page: str, shell: Shell) -> None:
    before = [] if page in FROM_NOTHING else [Command("before the page", line) for line in FIRST.strip().splitlines()]
    todo = [one for one in page_commands(page) if not one.text.startswith(NOT_HERE)]
    assert todo, f"{page} has no commands"
    ran = shell.run([*before, *todo], SECONDS)
    wrong = [one.wrong for one in ran if one.wrong]
    assert not wrong, "\n\n".join(wrong)
