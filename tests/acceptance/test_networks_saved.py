"""Projects as networks: saved and loaded as they were, and closed to those who may not see or change them."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from tests.helpers.network_of_processes import PASSWORD, Network, Person
from tests.helpers.network_project import JOBS, Make, Project, lab, project
from tests.helpers.toy_modules import EXAMPLE

__all__ = ["lab", "project"]


# --- saved and loaded ---


def test_a_saved_project_is_the_same_elsewhere_to_the_last_bit(
    project: Project, make_network: Make, tmp_path: Path
) -> None:
    """C5, and X16, second half: also from SQLite to a server with another identity."""
    project.upload(EXAMPLE, tmp_path)
    project("set", "add:in.b", "0.1")
    project("set", "addmul:in.a", "0.2")
    project("deactivate", "add")
    before = [project("get", item, "--json") for item in ("addmul:in", "addmul:out", "add:in", "add:out")]
    states = project.states()
    project("save", project.name, str(tmp_path / "p.tar.gz"))
    there = make_network()
    there.cpcc("load", str(tmp_path / "p.tar.gz"), "again").done()
    loaded = Project.__new__(Project)
    loaded.network, loaded.name = there, "again"
    assert [loaded("get", item, "--json") for item in ("addmul:in", "addmul:out", "add:in", "add:out")] == before
    assert loaded.states() == states
    loaded("activate")
    loaded("set", "addmul:in.b", "1")
    project("activate")
    project("set", "addmul:in.b", "1")
    assert loaded.get("add:out.c") == project.get("add:out.c")


def test_a_saved_project_keeps_its_files(project: Project, tmp_path: Path) -> None:
    project.upload(JOBS.format(runs="/dev/null", gate="/nosuch"), tmp_path)
    project("set", "d:in.x", "3")
    project.becomes("d:out.y", "6")
    project("save", project.name, str(tmp_path / "p.tar.gz"))
    lab = project.network
    lab.cpcc("load", str(tmp_path / "p.tar.gz"), f"{project.name[:50]}-again").done()
    assert lab.cpcc("getf", "d:out.copy", "-p", f"{project.name[:50]}-again").done() == "6\n"


def hostile(saved: Path, member: tarfile.TarInfo, target: Path) -> None:
    """The archive with one member more at its end."""
    with (
        gzip.open(saved) as source,
        tarfile.open(fileobj=source, mode="r|") as old,
        tarfile.open(target, "w:gz") as new,
    ):
        for one in old:
            new.addfile(one, old.extractfile(one) if one.isfile() else None)
        new.addfile(member, io.BytesIO(b"x" * member.size) if member.isfile() else None)


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../escaped", tarfile.REGTYPE, ""), ("/tmp/escaped", tarfile.REGTYPE, ""), ("link", tarfile.SYMTYPE, "/etc/passwd"),
        ("link", tarfile.LNKTYPE, "../../x"), ("device", tarfile.CHRTYPE, ""), ("pipe", tarfile.FIFOTYPE, ""),
    ],
)  # fmt: skip
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    project: Project, tmp_path: Path, name: str, kind: bytes, link: str
) -> None:
    """X18."""
    lab = project.network
    project("import", "float")
    project("save", project.name, str(tmp_path / "p.tar.gz"))
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, 3 if kind == tarfile.REGTYPE else 0
    hostile(tmp_path / "p.tar.gz", member, tmp_path / "bad.tar.gz")
    said = lab.cpcc("load", str(tmp_path / "bad.tar.gz"), "hostile")
    assert (said.code, said.out) == (1, "")
    assert said.err.count("\n") == 1
    assert "hostile" not in lab.cpcc("projects", "--quiet").done().split()
    assert not list(lab.run_directory.rglob("escaped"))


def test_what_is_no_project_makes_none(lab: Network, tmp_path: Path) -> None:
    (tmp_path / "not.tar.gz").write_bytes(gzip.compress(b"dear reader"))
    said = lab.cpcc("load", str(tmp_path / "not.tar.gz"), "none")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "none" not in lab.cpcc("projects", "--quiet").done().split()


# --- who may what ---


@pytest.fixture(scope="module")
def maria(lab: Network) -> Person:
    """A regular user."""
    lab.cpcc("add-user", "--stdin", "maria", stdin=f"{PASSWORD}\n").done()
    return Person(lab, "maria", lab.directory / "maria")


def test_a_member_builds_networks_but_brings_no_code(lab: Network, maria: Person, tmp_path: Path) -> None:
    maria.run("start", "hers").done()
    (tmp_path / "net.xml").write_text(EXAMPLE)
    maria.run("upload", str(tmp_path / "net.xml")).done()
    maria.run("activate").done()
    assert maria.run("get", "add:out.c").done() == "add:out.c: 41\n"
    code = '<cpc><function id="f" type="python"><inputs/><outputs/><controller import="os" function="os.abort"/></function></cpc>'
    (tmp_path / "code.xml").write_text(code)
    said = maria.run("upload", str(tmp_path / "code.xml"))
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "install" in said.err


def test_others_see_nothing_of_a_project(project: Project, maria: Person, tmp_path: Path) -> None:
    project.upload(EXAMPLE, tmp_path)
    for words in (
        ("ls",),
        ("get", "add:out.c"),
        ("set", "add:in.b", "1"),
        ("save", project.name),
        ("graph",),
        ("commit",),
    ):
        said = maria.run(*words, "-p", project.name)
        assert (said.code, said.out) == (1, ""), words
        assert "none that you may see" in said.err, said.err
    project("grant-access", "maria", "viewer")
    assert maria.run("get", "add:out.c", "-p", project.name).done() == "add:out.c: 41\n"
    assert maria.run("set", "add:in.b", "1", "-p", project.name).code == 1
    assert project.get("add:in.b") == "6"
