"""Workers and servers of two releases together, as real processes: what both know is used, and who must be upgraded is said.

The other release is today's code with other protocol numbers, more keys in messages, and fewer of those that may be left out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cpc.wire.messages import OLDEST_PROTOCOL, PROTOCOL
from tests.acceptance.conftest import Make, make_network  # noqa: F401 - a fixture
from tests.helpers.network_of_processes import BIN, Network
from tests.upgrade.release import Release

NEXT, STRANGE = PROTOCOL + 1, PROTOCOL + 2
MORE = '''
def body(message: Any) -> Body:
    """A message as this release says it: with keys that others do not know, without some that may be left out."""
    import msgspec.msgpack as packed

    if hasattr(message, "data"):
        message = msgspec.structs.replace(message, data=bytes(message.data))
    return _whole(packed.decode(packed.encode(message)))


_OPTIONAL = ("note", "tail", "wall_seconds", "cpu_seconds", "max_memory", "time_left", "draining", "checkpoint_interval")


def _more(value: object) -> object:
    if isinstance(value, list):
        return [_more(each) for each in value]
    if isinstance(value, dict) and all(isinstance(key, str) and key.islower() for key in value):
        kept = {key: _more(each) for key, each in value.items() if key not in _OPTIONAL}
        return {**kept, "zz-new": [1, {"deep": None}]} if any(key in value for key in _STRUCTURES) else kept
    return value


_STRUCTURES = ("lease", "number", "session", "boot", "digest", "tasks", "settled", "request", "certificate", "entries")


def _whole(data: object) -> Body:
    return _body(_more(data))


def _body(message: Any) -> Body:
'''


def other(directory: Path, name: str, newest: int, oldest: int) -> Release:
    """A release that speaks these protocol numbers."""
    release = Release(directory, name)
    release.replace("wire/messages.py", f"\nPROTOCOL = {PROTOCOL}\n", f"\nPROTOCOL = {newest}\n")
    release.replace(
        "wire/messages.py", f"\nOLDEST_PROTOCOL = {OLDEST_PROTOCOL}\n", f"\nOLDEST_PROTOCOL = {oldest}\n"
    )  # fmt: skip
    release.replace("wire/frames.py", "def body(message: Any) -> Body:\n", MORE)
    release.replace(
        "wire/frames.py", '"caps": said.capabilities})', '"caps": said.capabilities, "zz-new": {"a": [1]}})'
    )
    return release


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The next release: it speaks one number more."""
    return other(tmp_path_factory.mktemp("following"), "9.0.0", NEXT, PROTOCOL)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """One that has dropped our number."""
    return other(tmp_path_factory.mktemp("far"), "12.0.0", STRANGE, STRANGE)


@pytest.fixture(scope="module")
def lab(make_network: Make) -> Network:  # noqa: F811
    """A network of today's release. Who comes back late from a restart is not called lost."""
    return make_network(heartbeat_time="60")


def jobs_run(network: Network) -> None:
    """Jobs with files, a failure, a checkpoint and a cancellation come to their ends."""
    job = network.shell("seq 1 30000 > big; echo said; echo wrong >&2; mkdir d; echo x > d/y")
    assert network.success_of(job).exit_code == 0
    assert network.output(job) == b"said\n"
    assert len(network.output(job, "big")) == 168_894
    assert network.end_of(network.shell("exit 3")).exit_code == 3
    sleeps = network.shell("echo 1 > a.cpt; sleep 1000", checkpoint=("*.cpt",))
    network.running(sleeps)
    network.client.cancel(sleeps)
    assert network.end_of(sleeps).state == "cancelled"


def switch(network: Network, programs: Path) -> None:
    """The server of another release, on the same database."""
    network.stop_server()
    network.bin = programs
    network.start()


def test_workers_and_servers_of_two_releases_work_together(lab: Network, following: Release, tmp_path: Path) -> None:
    lab.bin = following.bin
    newer = lab.worker()
    jobs_run(lab)  # a newer worker, an older server
    lab.dismiss(newer)
    lab.bin = BIN
    older = lab.worker()
    flag = tmp_path / "flag"
    job = lab.shell(f"while [ ! -e {flag} ]; do sleep 0.05; done; echo done")
    lab.running(job)
    switch(lab, following.bin)
    assert lab.client.server_info().protocol == NEXT
    lab.until(lambda: lab.view(older), "it is back")
    jobs_run(lab)  # an older worker, a newer server
    switch(lab, BIN)
    lab.until(lambda: lab.view(older), "it is back again")
    flag.touch()
    assert len(lab.success_of(job).history) == 1, "an upgrade and a way back cost no running job anything"
    lab.dismiss(older)


def linked(one: Network, other: Network) -> bool:
    return all(each.connected for network in (one, other) for each in network.client.peers().all())


def test_servers_of_two_releases_lend_each_other_workers(
    lab: Network,
    following: Release,
    far: Release,
    make_network: Make,  # noqa: F811
) -> None:
    lab.bin = BIN
    newer = make_network(heartbeat_time="60")
    switch(newer, following.bin)
    newer.cpcc("connect-server", "127.0.0.1", str(lab.client_port), "-y").done()
    lab.cpcc("trust", "-all", "-y").done()
    lab.until(lambda: linked(lab, newer), "the two are connected")
    worker = newer.worker()
    jobs_run(lab)  # at the other one's worker: it has none
    newer.dismiss(worker)
    worker = lab.worker()
    job = newer.shell("seq 1 30000 > big; echo said")
    assert (newer.success_of(job).exit_code, len(newer.output(job, "big"))) == (0, 168_894)
    lab.dismiss(worker)
    switch(newer, far.bin)
    for one, who in ((lab, "this server"), (newer, "server ")):
        lab.until(lambda one=one: "no common protocol" in trouble(one), "the reason is shown")
        assert trouble(one).count("no common protocol") == 1
        assert f"(upgrade {who}" in trouble(one), trouble(one)
        assert "no common protocol" in one.cpcc("cs").done()
        lab.until(lambda one=one, who=who: f"(upgrade {who}" in one.server.said, "and in the log")
    switch(newer, BIN)
    lab.until(lambda: linked(lab, newer), "they are connected again")


def trouble(network: Network) -> str:
    """Why a server is not connected with the only one that it knows."""
    return network.client.peers().all()[0].trouble


def test_without_a_common_number_both_sides_say_who_must_be_upgraded(lab: Network, far: Release) -> None:
    lab.bin = far.bin
    newer = lab.start_worker()
    lab.until(lambda: "no common protocol" in newer.said, "the worker says so")
    line = next(line for line in newer.said.splitlines() if "no common protocol" in line)
    assert f"this worker has release 12.0.0 and speaks {STRANGE}" in line
    assert line.endswith("(upgrade the server)"), line
    assert "Traceback" not in newer.said
    assert lab.server is not None
    lab.until(lambda: "(upgrade the server)" in lab.server.said, "and the server's log")  # type: ignore[union-attr]
    assert newer.running, "it goes on trying: the server may be upgraded"
    newer.kill()
    lab.bin = BIN
    lab.worker().kill()  # the next one has its key and certificate
    switch(lab, far.bin)
    lab.bin = BIN
    older = lab.start_worker()
    lab.until(lambda: "(upgrade this worker)" in older.said, "the older worker says so")
    assert "enrolling again" not in older.said
    lab.until(lambda: "(upgrade worker " in lab.server.said, "the server says who")  # type: ignore[union-attr]
