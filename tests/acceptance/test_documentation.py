"""What the manual prints can be typed: every command of these pages runs against a real server and worker.

The only differences from the page are in `substitutions`; the only commands that are left out are in NOT_HERE.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.core.chance import SystemChance
from cpc.core.clock import DAY, SECOND, SystemClock
from cpc.wire.identity import Authority, Name, Role
from tests.helpers import sshd
from tests.helpers.manual import Command, Shell, blocks, commands, end_all, section
from tests.helpers.ports import free_ports
from tests.helpers.slurm import Cluster, needed
from tests.helpers.sshd import Ssh

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HELPERS = ROOT / "tests" / "helpers"
SECONDS = 400.0  # for a page: only one that hangs takes so long
PASSWORD = "correct horse battery staple"

#: Pages that begin where nothing is set up yet; for the others, the first five minutes are over.
FROM_NOTHING = ("README.md", "user/first.md", "admin/setup.md", "admin/postgresql.md")
ADMINISTRATION = (
    "setup",
    "workers",
    "operation",
    "security",
    "monitoring",
    "certificates",
    "postgresql",
    "executables",
    "network",
    "pools",
)
PAGES = (
    "README.md",
    *sorted(f"user/{path.name}" for path in (DOCS / "user").glob("*.md")),
    *(f"admin/{name}.md" for name in ADMINISTRATION),
    "tutorial/gromacs.md",
    "tutorial/msm.md",
)
#: What these pages need on the machine.
NEEDS = {"tutorial/gromacs.md": ("gmx", "GROMACS (Debian: gromacs) is not installed")}
PACKAGES = {"tutorial/msm.md": ("openmm", "deeptime")}
#: Pages about pools: there the workers come from a Slurm of this machine.
SLURM = ("user/pools.md", "admin/pools.md")
POSTGRESQL = ("admin/setup.md", "admin/postgresql.md")

#: The package is installed already where tests run.
NOT_HERE = ("pip install .",)

ANSWERS = ((r"(?i)password[^\n]*:", PASSWORD), (r"The same again:", PASSWORD), (r"\[y/N\]:", "y"))

FIRST = """
cpc-server setup ~/copernicus-data
cpc-server start
cpc-worker -c ~/.copernicus/client.cnx smp > worker.log 2>&1 &
cpcc add-server localhost
cpcc login cpc-admin
cpcc start first
until cpcc --quiet workers | grep -q .; do sleep 0.1; done
"""

POOL = """
cpc-server setup ~/copernicus-data
cpc-server start
cpcc add-server localhost
cpcc login cpc-admin
cpcc start first
"""
ADD_POOL = "cpcc pool add hpc slurm --cores 2 --memory 200M --walltime 30m --idle 30s"


#: Machines that are directories here, with servers of their own, and OpenSSH: what they are called → the address that stands
#: for them.
MACHINES = {"other.example.org": "127.0.0.2", "head.example.org": "127.0.0.3", "inner.example.org": "127.0.0.4"}

#: What has happened on other machines before a page begins.
BEFORE = {
    "admin/network.md": [
        command
        for name in ("other.example.org", "inner.example.org")
        for command in (
            f"ssh -t {name} cpc-server setup --host {name} data",
            f"ssh {name} cpc-server start",
            f"ssh {name} cpcc add-server --yes {name}",
            f"ssh -t {name} cpcc login cpc-admin",
            f"ssh {name} cpcc start theirs",
        )
    ]
}


def elsewhere(server: str) -> dict[str, str]:
    """The same for commands that have to do with other machines, where `server` is the port of this one's people."""
    found = {}
    for name, address in MACHINES.items():
        port, client_port = free_ports(2)
        found |= {
            f"cpc-server setup --host {name}":
                f"cpc-server  setup --host {address} --port {port} --client-port {client_port}",
            f"add-server --yes {name}": f"add-server --yes {address} {client_port}",
            f"connect-server {name}": f"connect-server {address} {client_port}",
        }  # fmt: skip
        tunnel = client_port  # of the last one
    (local,) = free_ports(1)
    return {
        "24807:localhost:14807": f"{local}:localhost:{tunnel}",
        "localhost 24807": f"localhost {local}",
        "connect-server --yes jobs.example.org": f"connect-server --yes localhost {server}",
        **found,
        **MACHINES,
    }


def substitutions(home: Path, database: str) -> dict[str, str]:
    """What the page prints → what is typed here: ports, names of hosts, paths, and two programs of the system."""
    ports = free_ports(2)
    python = sys.executable
    return {
        **elsewhere(str(ports[1])),
        "cpc-server setup ": f"cpc-server setup --port {ports[0]} --client-port {ports[1]} ",
        "add-server localhost": f"add-server localhost {ports[1]}",
        "localhost:14807": f"localhost:{ports[1]}",
        "jobs.example.org": "localhost",
        "postgresql://copernicus@db.example.org/copernicus": f"'{database}'",
        "/data/": f"{home}/data/",
        "/backups/": f"{home}/backups/",
        "/etc/copernicus/": f"{home}/etc/",
        "~/copernicus/demo/": f"{ROOT}/demo/",
        "curl -k ": f"{python} {HELPERS / 'get.py'} ",
        "pip install ./wc-plugin": f"{python} {HELPERS / 'install_plugin.py'} wc-plugin site; export PYTHONPATH=$PWD/site",
    }


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A person's home directory; what runs from there is ended with the test."""
    for name in ("work", "data", "backups", "etc"):
        (tmp_path / name).mkdir()
    clock = SystemClock()
    authority = Authority.create("0b4be10d-3a0e-4f3e-8a14-5f0f2a4f9f57", clock, SystemChance())
    site = authority.identity(Name(authority.server_id, Role.SERVER, ""), 90 * DAY / SECOND, ("localhost",))
    (tmp_path / "etc" / "site.crt").write_bytes(site.certificate_pem)
    (tmp_path / "etc" / "site.key").write_bytes(site.key_pem)
    yield tmp_path
    end_all(tmp_path)


@pytest.fixture
def ssh(home: Path) -> Iterator[Ssh]:
    """Lets everybody in to the other machines, each of which is a directory."""
    if lacking := sshd.missing():
        pytest.skip(lacking)
    with Ssh(home / "ssh") as made:
        path = f"{Path(sys.executable).parent}:{made.bin}:{os.environ['PATH']}"
        for (name, address), port in zip(MACHINES.items(), free_ports(len(MACHINES)), strict=True):
            place = home / "machines" / name
            place.mkdir(parents=True)
            made.serve(name, address, port, place, {"HOME": str(place), "PATH": path, "COLUMNS": "120"})
        yield made


def page_commands(page: str) -> list[Command]:
    if page == "README.md":
        text = section((ROOT / page).read_text(), "A first project in five minutes")
        return commands(text, page, indented=True)
    return commands((DOCS / page).read_text(), page)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    """A Slurm for the pages about pools."""
    needed()
    cluster = Cluster(nodes=2)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def before_page(page: str, request: pytest.FixtureRequest) -> list[Command]:
    """What has been done before somebody reads the page."""
    if page in FROM_NOTHING:
        return []
    text = FIRST
    if page in SLURM:
        cluster = request.getfixturevalue("slurm")
        text = f"export SLURM_CONF={cluster.conf}\n{POOL}" + (ADD_POOL if page == "user/pools.md" else "")
    return [Command("before the page", line) for line in text.strip().splitlines() if line]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_does_what_the_page_says(
    page: str, home: Path, request: pytest.FixtureRequest
) -> None:
    program, missing = NEEDS.get(page, ("sh", ""))
    if shutil.which(program) is None:
        pytest.skip(missing)
    for package in PACKAGES.get(page, ()):
        pytest.importorskip(package, reason=f"{package} is not installed (pip install 'copernicus-computing[demo]')")
    database = str(request.getfixturevalue("postgresql").database()) if page in POSTGRESQL else ""
    before = before_page(page, request)
    before += [Command("before the page", line) for line in BEFORE.get(page, [])]
    todo = [one for one in page_commands(page) if one.text not in NOT_HERE]
    assert todo, f"{page} has no commands"
    shell = Shell(home, substitutions(home, database), ANSWERS)
    if any("ssh " in one.text for one in todo):
        shell.programs = request.getfixturevalue("ssh").bin
    ran = shell.run([*before, *todo], SECONDS)
    wrong = [one.wrong for one in ran if one.wrong]
    assert not wrong, "\n\n".join(wrong)


def test_only_installing_the_package_is_left_out() -> None:
    left_out = {one.text for page in PAGES for one in page_commands(page) if one.text in NOT_HERE}
    assert left_out == set(NOT_HERE) == {"pip install ."}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze (Debian: systemd) is not installed")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    units = []
    names = re.findall(r"^`/etc/systemd/system/(.*)`:$", (DOCS / "admin/systemd.md").read_text(), re.MULTILINE)
    texts = [lines for language, _, lines in blocks((DOCS / "admin/systemd.md").read_text()) if language == "ini"]
    for name, lines in zip(names, texts, strict=True):
        units.append(tmp_path / name)
        text = "\n".join(lines).replace("/opt/copernicus/bin", str(Path(sys.executable).parent))
        units[-1].write_text(text + "\n")
    assert len(units) == 2
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    about_ours = [line for line in said.stderr.splitlines() if "copernicus" in line]
    assert (said.returncode, about_ours) == (0, [])
