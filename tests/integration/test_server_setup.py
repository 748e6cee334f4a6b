"""A setup is whole or has not happened, on either database."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from cpc.core.chance import SystemChance
from cpc.core.clock import SystemClock
from cpc.core.errors import CopernicusError
from cpc.server import offline, process, setup, upkeep
from cpc.server.config import Config, Place
from cpc.store import checks, database, migrate
from tests.helpers.server_program import PASSWORD, Server, until

STEPS = ["write_secret", "migrate.initialise", "add_user", "make_bundle", "bundle file", "configuration"]


def config(directory: Path, url: str = "") -> Config:
    run_dir = directory / "run" / "deep"
    return Config(
        name="lab", host="127.0.0.1", listen=("127.0.0.1",), port=1, client_port=2, run_dir=str(run_dir),
        database=url or f"sqlite:///{run_dir}/copernicus.db",
    )  # fmt: skip


def make(directory: Path, wanted: Config, replace: bool = False) -> setup.Made:
    base = directory / "home"
    return setup.make(
        base, Place.named(base, "lab"), wanted, PASSWORD, SystemClock(), SystemChance(), lambda _: replace
    )  # fmt: skip


def break_at(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def broken(*_arguments: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    target, name = {
        "write_secret": (setup, "write_secret"),
        "migrate.initialise": (migrate, "initialise"),
        "add_user": (offline.Offline, "add_user"),
        "make_bundle": (offline.Offline, "make_bundle"),
        "bundle file": (setup.files, "write"),
        "configuration": (Place, "write"),
    }[step]
    monkeypatch.setattr(target, name, broken)


def everything(directory: Path) -> dict[str, bytes]:
    """Every file, except the locks, which say nothing."""
    found = [path for path in directory.rglob("*") if path.is_file() and not path.name.endswith("lock")]
    return {str(path): path.read_bytes() for path in found}


@pytest.mark.parametrize("step", STEPS)
def test_a_setup_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, step):
    break_at(monkeypatch, step)
    with pytest.raises((OSError, CopernicusError)):
        make(tmp_path, config(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", STEPS)
def test_a_forced_setup_that_fails_brings_the_former_server_back(tmp_path, monkeypatch, step):
    make(tmp_path, config(tmp_path))
    before = everything(tmp_path)
    break_at(monkeypatch, step)
    with pytest.raises((OSError, CopernicusError)):
        make(tmp_path, config(tmp_path), replace=True)
    assert everything(tmp_path) == before
    assert not process.is_running(Place.named(tmp_path / "home", "lab"))


@pytest.mark.parametrize("step", ["add_user", "configuration"])
def test_a_setup_that_fails_empties_the_postgresql_database_again(tmp_path, postgresql, monkeypatch, step):
    url = postgresql.database()
    break_at(monkeypatch, step)
    with pytest.raises((OSError, CopernicusError)):
        make(tmp_path, config(tmp_path, url))
    assert list(tmp_path.iterdir()) == []
    with psycopg.connect(url) as look:
        assert look.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_setup_never_takes_a_postgresql_database_that_is_in_use(tmp_path, postgresql):
    url = postgresql.database()
    make(tmp_path / "a", config(tmp_path / "a", url))
    with pytest.raises(CopernicusError, match="tables already"):
        make(tmp_path / "b", config(tmp_path / "b", url), replace=True)
    assert not (tmp_path / "b").exists()
    assert checks.server_id(url)


def test_a_password_in_a_database_url_is_not_shown(tmp_path):
    shown = checks.shown("postgresql://cpc:secret@host/db")
    assert "secret" not in shown
    assert "host/db" in shown


def test_a_server_on_postgresql_lives_through_backup_and_restore(tmp_path, postgresql):
    server = Server(tmp_path)
    server.setup("--database", postgresql.database())
    try:
        server.done("start")
        server.done("bundle", "--name", "field", "-o", str(tmp_path / "field.cnx"))
        server.done("backup", str(tmp_path / "saved.tar"))
        server.kill()
        server.done("start")
        server.done("doctor")
        server.done("stop")
        fresh = postgresql.database()
        assert "not empty" in server.refused("restore", str(tmp_path / "saved.tar"), "--force")
        server.done("restore", str(tmp_path / "saved.tar"), "--force", "--database", fresh)
        assert "field" in server.done("bundles")
        server.done("start")
        server.done("stop")
        url = f"sqlite:///{tmp_path}/moved.db"
        server.done("restore", str(tmp_path / "saved.tar"), "--force", "--database", url)
        server.done("start")
        assert "field" in server.done("bundles")
    finally:
        server.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_servers_never_share_a_database(tmp_path, request, kind):
    """A copied configuration with a run directory and ports of its own, as on another machine."""
    url = (
        request.getfixturevalue("postgresql").database() if kind == "postgresql" else f"sqlite:///{tmp_path}/shared.db"
    )
    server, twin = Server(tmp_path), Server(tmp_path, "twin")
    server.setup("--database", url)
    twin.setup()
    for name in ("authority.key", "authority.crt"):
        (twin.place / name).write_bytes((server.place / name).read_bytes())
    (twin.place / "server.json").write_text(json.dumps(twin.config() | {"database": url}))
    try:
        server.done("start")
        line = twin.refused("start")
        assert "database" in line
        assert "in use" in line
        assert "in use" in twin.refused("bundle", "-o", str(tmp_path / "b.cnx"))
        assert server.status()["answers"]
        server.kill()
        until(lambda: twin.run("start").returncode == 0, "the database is free again")
    finally:
        twin.close()
        server.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_older_database_is_copied_as_it_is_before_it_is_upgraded(tmp_path, request, monkeypatch, kind):
    url = request.getfixturevalue("postgresql").database() if kind == "postgresql" else ""
    wanted = config(tmp_path, url)
    make(tmp_path, wanted)
    order: list[str] = []

    def failing(url: str, revision: str = "head") -> None:
        if revision != "head":
            real(url, revision)
            return
        order.append("upgrade")
        assert list((Path(wanted.run_dir) / "backups").glob("before-*.sqlite"))
        raise RuntimeError("a migration with a defect")

    real = migrate.upgrade
    monkeypatch.setattr(migrate, "upgrade", failing)
    with pytest.raises(CopernicusError, match="is as it was"):
        upkeep.upgrade(wanted, SystemClock(), order.append)
    assert order[-1] == "upgrade"
    (copy,) = (Path(wanted.run_dir) / "backups").glob("before-*.sqlite")
    assert migrate.current(f"sqlite:///{copy}") == migrate.current(wanted.database)
    assert checks.server_id(f"sqlite:///{copy}") == checks.server_id(wanted.database)


def test_a_database_on_a_network_file_system_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(setup.filesystem, "kind_of", lambda *_: "nfs4")
    with pytest.raises(CopernicusError, match=r"nfs4.*postgresql://"):
        make(tmp_path, config(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert not database.is_postgresql(config(tmp_path).database)
