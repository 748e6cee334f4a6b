"""For all tests: the two databases, the setting that turns every skip into a failure, and where examples come from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from cpc.store.store import Store
from tests.helpers import postgres
from tests.helpers.stores import create, open_store, result, sqlite_url

STRICT = "CPC_TEST_NO_SKIPS"
#: So many examples of each property, other ones each time; without it they are the same each time.
WIDE = int(os.environ.get("CPC_TEST_EXAMPLES", "0"))

# How long one example takes says nothing on a machine that others use as well.
settings.register_profile(
    "copernicus", deadline=None, derandomize=not WIDE, max_examples=WIDE or 100,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("copernicus")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """With CPC_TEST_NO_SKIPS=1 a test that would be skipped fails: CI has installed what it needs."""
    report = yield
    if os.environ.get(STRICT) and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which {STRICT} forbids: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgres.Server]:
    """A PostgreSQL server. Not in pytest's own directory, which the next pytest to start closes to other users."""
    with tempfile.TemporaryDirectory(prefix="cpc-postgresql-", ignore_cleanup_errors=True) as directory:
        server = postgres.Server(Path(directory) / "data")
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database of each kind with our tables: one suite holds the two equal."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    url = str(request.getfixturevalue("postgresql").database())
    create(url)
    return url


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store on a fresh database of each kind."""
    opened = open_store(database_url)
    yield opened
    from twisted.internet.defer import ensureDeferred

    result(ensureDeferred(opened.close()))
