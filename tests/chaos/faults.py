"""The faults. Each befalls a running ensemble at a moment that can be seen, lasts until something has come of it, and is over."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpc.core.errors import CopernicusError, OverQuota
from cpc.worker import tree
from tests.chaos.books import Books
from tests.chaos.ensemble import MIB, MIN_FREE, Ensemble, Machine
from tests.chaos.moments import LONG, a_result, another_turn, disturbed, moment, one, some_work
from tests.helpers.network_of_processes import until

Act = Callable[[Ensemble], None]


@dataclass(frozen=True)
class Fault:
    """One that can be dealt. `needs`: "", "postgresql", or "disks"."""

    name: str
    act: Act
    needs: str = ""


FAULTS: list[Fault] = []


def fault(needs: str = "") -> Callable[[Act], Act]:
    """Put it into the deck, under the function's name."""

    def add(act: Act) -> Act:
        FAULTS.append(Fault(act.__name__.replace("_", " "), act, needs))
        return act

    return add


def deck(ensemble: Ensemble, names: Sequence[str] = ()) -> list[Fault]:
    """Those that are possible here (or of these names), shuffled by the seed."""
    unknown = set(names) - {each.name for each in FAULTS}
    assert not unknown, f"there is no fault {unknown}"
    there = {"": True, "postgresql": ensemble.database is not None, "disks": not ensemble.missing}
    found = [each for each in FAULTS if there[each.needs] and (not names or each.name in names)]
    ensemble.rng.shuffle(found)
    return found


# --- the server ---


@fault()
def kill_the_server(ensemble: Ensemble) -> None:
    moment(ensemble)
    ensemble.lab.kill_server()
    if ensemble.rng.random() < 0.5:
        seen = ensemble.hold(a_result(ensemble), LONG)
        ensemble.tell("    results wait at a worker" if seen else "    (no result came meanwhile)")
    ensemble.lab.start()


@fault()
def kill_the_server_twice(ensemble: Ensemble) -> None:
    moment(ensemble)
    ensemble.lab.kill_server()
    ensemble.lab.start()
    moment(ensemble)
    ensemble.lab.kill_server()
    ensemble.lab.start()


@fault()
def freeze_the_server(ensemble: Ensemble) -> None:
    moment(ensemble)
    assert ensemble.lab.server is not None
    ensemble.lab.server.send(signal.SIGSTOP)
    ensemble.hold(a_result(ensemble), LONG)
    ensemble.lab.server.send(signal.SIGCONT)


@fault()
def stop_and_start_the_server(ensemble: Ensemble) -> None:
    moment(ensemble)
    ensemble.lab.stop_server()
    ensemble.lab.start()


# --- the database ---


@fault("postgresql")
def kill_the_database(ensemble: Ensemble) -> None:
    moment(ensemble)
    assert ensemble.database is not None
    ensemble.expected_end = True
    ensemble.database.kill()
    some_work(ensemble)
    ensemble.database.start()


@fault("postgresql")
def kill_one_backend_of_the_database(ensemble: Ensemble) -> None:
    moment(ensemble)
    assert ensemble.database is not None
    ensemble.expected_end = True
    ensemble.database.kill_one()
    ensemble.database.start()


@fault("postgresql")
def freeze_the_database(ensemble: Ensemble) -> None:
    moment(ensemble)
    assert ensemble.database is not None
    pids = ensemble.database.freeze()
    ensemble.hold(a_result(ensemble), LONG)
    ensemble.database.thaw(pids)


@fault("postgresql")
def stop_and_start_the_database(ensemble: Ensemble) -> None:
    moment(ensemble)
    assert ensemble.database is not None
    ensemble.expected_end = True
    ensemble.database.stop()
    some_work(ensemble)
    ensemble.database.start()


# --- workers ---


@fault()
def kill_a_worker(ensemble: Ensemble) -> None:
    machine = one(ensemble)
    moment(ensemble)
    pids = tree.below([machine.running.pid])
    machine.running.kill()
    until(lambda: not any(tree.alive(pid) for pid in pids), f"the processes {pids} of a killed worker end")
    if ensemble.rng.random() < 0.5:
        disturbed(ensemble)
    machine.start()


@fault()
def kill_both_workers(ensemble: Ensemble) -> None:
    moment(ensemble)
    for machine in ensemble.machines:
        machine.running.kill()
    for machine in ensemble.machines:
        machine.start()


@fault()
def kill_a_worker_with_guardian_and_keeper(ensemble: Ensemble) -> None:
    """At once, from the top: nobody is left to end the jobs but the next worker in the same directory."""
    machine = one(ensemble)
    moment(ensemble)
    pids = [pid for pid in (machine.running.pid, machine.keeper(), machine.guardian()) if pid]
    for pid in pids:
        tree.send(pid, signal.SIGSTOP)
    left = [pid for pid in tree.below(pids[-1:]) if pid not in pids]
    hidden = [pid for pid in left if not tree.variable(pid, b"CPC_GUARDIAN")]
    for pid in pids:
        tree.send(pid, signal.SIGKILL)
    machine.running.process.wait()
    for pid in hidden:  # it has cleared its environment: the one case in which a process gets away
        tree.send(pid, signal.SIGKILL)
    machine.start()
    left = [pid for pid in left if pid not in hidden]
    until(lambda: not any(tree.alive(pid) for pid in left), f"the next worker ends what is left: {left}")


@fault()
def freeze_a_worker(ensemble: Ensemble) -> None:
    machine = one(ensemble)
    moment(ensemble)
    machine.running.send(signal.SIGSTOP)
    disturbed(ensemble)
    machine.running.send(signal.SIGCONT)


@fault()
def stop_and_start_a_worker(ensemble: Ensemble) -> None:
    machine = one(ensemble)
    moment(ensemble)
    machine.running.send(signal.SIGTERM)
    code = machine.running.ended()
    assert code == 0, f"{machine.name} left with {code}: {machine.running.said[-2000:]}"
    left = [path.name for path in machine.seen.iterdir() if path.is_dir() and path.name != "cache"]
    assert not left, f"a worker that has left in order has left {left}"
    machine.start()


def _guardian(ensemble: Ensemble, which: str, number: signal.Signals) -> None:
    machine = one(ensemble)
    ensemble.hold(lambda: machine.guardian(), 3.0)
    moment(ensemble)
    pid = machine.guardian() if which == "guardian" else machine.keeper()
    if pid:
        tree.send(pid, number)
        if number is signal.SIGSTOP:
            some_work(ensemble)
            tree.send(pid, signal.SIGCONT)
    else:
        ensemble.tell(f"    ({machine.name} has no {which})")


@fault()
def kill_a_guardian(ensemble: Ensemble) -> None:
    _guardian(ensemble, "guardian", signal.SIGKILL)


@fault()
def kill_a_keeper(ensemble: Ensemble) -> None:
    _guardian(ensemble, "keeper", signal.SIGKILL)


@fault()
def freeze_a_guardian(ensemble: Ensemble) -> None:
    _guardian(ensemble, "guardian", signal.SIGSTOP)


@fault()
def freeze_a_keeper(ensemble: Ensemble) -> None:
    _guardian(ensemble, "keeper", signal.SIGSTOP)


@fault()
def drain_and_resume(ensemble: Ensemble) -> None:
    machine = one(ensemble)
    name = ensemble.until(lambda: machine.view, f"{machine.name} is joined").name
    finish = ensemble.rng.random() < 0.5
    ensemble.client.drain(name, "chaos", finish)
    ensemble.tell(f"    {machine.name} {'ends what it has' if finish else 'hands back what it has'}")
    ensemble.until(lambda: ensemble.client.worker(name).state == "drained", f"{machine.name} is drained")
    ensemble.client.resume(name)


@fault()
def cancel_a_job(ensemble: Ensemble) -> None:
    before = set(ensemble.ledger.accepted)
    ensemble.person.ask_for("waits")
    ensemble.until(lambda: ensemble.person.idle, "it is submitted")
    entry = next(each for name, each in ensemble.ledger.accepted.items() if name not in before and "waits" in name)
    if ensemble.rng.random() < 0.7:
        ensemble.until(lambda: ensemble.lab.job(entry.id).state == "running", f"{entry.name} runs")
    ensemble.client.cancel(entry.id, "chaos")
    ensemble.tell(f"    {entry.name}")


# --- disks ---


@fault("disks")
def fill_the_disk_of_the_server(ensemble: Ensemble) -> None:
    moment(ensemble)
    assert ensemble.server_mount is not None
    ensemble.expected_end = True
    leave = ensemble.rng.choice((0, 64 << 10, 2 * MIB, MIN_FREE - 8 * MIB))
    ensemble.server_mount.fill(leave)
    ensemble.tell(f"    {leave >> 10} KiB are left")
    ensemble.hold(lambda: not ensemble.lab.alive or _refuses(ensemble), 2 * LONG)
    ensemble.server_mount.empty()


def _refuses(ensemble: Ensemble) -> bool:
    try:
        return bool(ensemble.client.status().intake_paused)
    except OverQuota:
        return True
    except CopernicusError:
        return False


@fault("disks")
def fill_the_disk_of_a_worker(ensemble: Ensemble) -> None:
    machine = ensemble.machines[0]
    moment(ensemble)
    assert machine.mount is not None
    leave = ensemble.rng.choice((0, 64 << 10, 2 * MIB, 16 * MIB))
    machine.mount.fill(leave)
    ensemble.tell(f"    {leave >> 10} KiB are left")
    # Programs that fail on a full disk are not to blame, if it is still full when the worker looks why they failed: it does so
    # when it has seen their ends, so it is given two turns for that.
    ensemble.hold(lambda: not _programs(machine), 5 * LONG)
    for _ in range(2):
        another_turn(ensemble, machine)
    machine.mount.empty()


def _programs(machine: Machine) -> list[int]:
    """What runs below the guardian."""
    guardian = machine.guardian()
    return tree.children(guardian) if guardian else []


# --- the network ---


@fault()
def reset_connections(ensemble: Ensemble) -> None:
    moment(ensemble)
    one(ensemble).proxy.reset()


@fault()
def cut_the_network_of_a_worker(ensemble: Ensemble) -> None:
    machine = one(ensemble)
    moment(ensemble)
    machine.proxy.refuse()
    disturbed(ensemble)
    machine.proxy.heal()


@fault()
def stall_the_network_of_a_worker(ensemble: Ensemble) -> None:
    machine = one(ensemble)
    moment(ensemble)
    machine.proxy.stall()
    disturbed(ensemble)
    machine.proxy.heal()


@fault()
def a_worker_vanishes_from_the_network(ensemble: Ensemble) -> None:
    machine = one(ensemble)
    moment(ensemble)
    machine.proxy.forget_client()
    some_work(ensemble)


@fault()
def the_server_vanishes_from_the_network(ensemble: Ensemble) -> None:
    machine = one(ensemble)
    moment(ensemble)
    machine.proxy.forget_server()
    some_work(ensemble)


@fault()
def a_slow_network(ensemble: Ensemble) -> None:
    machine = one(ensemble)
    machine.proxy.slow(200 << 10)
    moment(ensemble)
    some_work(ensemble)
    machine.proxy.heal()


@fault()
def cut_uploads(ensemble: Ensemble) -> None:
    before = sum(machine.proxy.cuts for machine in ensemble.machines)
    for machine in ensemble.machines:
        machine.proxy.cut_upload(ensemble.rng.randrange(64 << 10, 3 * MIB))
    seen = ensemble.hold(lambda: sum(machine.proxy.cuts for machine in ensemble.machines) > before, LONG)
    ensemble.tell("    a file was cut" if seen else "    (nothing big was sent)")
    for machine in ensemble.machines:
        machine.proxy.heal()


@fault()
def answers_are_lost(ensemble: Ensemble) -> None:
    before = ensemble.people.cuts
    ensemble.people.swallow_answers()
    ensemble.person.ask(3)
    seen = ensemble.hold(lambda: ensemble.people.cuts > before, LONG)
    ensemble.people.heal()
    ensemble.tell("    one was" if seen else "    (nobody asked)")


# --- what administrators do ---


@fault()
def backup_while_it_runs(ensemble: Ensemble) -> None:
    moment(ensemble)
    there = {entry.id for entry in ensemble.ledger.open()}
    target = ensemble.directory / "backup.tar"
    said = ensemble.lab.run("cpc-server", "backup", str(target), seconds=120.0).done()
    assert target.exists(), said
    left = [path.name for path in target.parent.iterdir() if path.name.startswith(".backup")]
    assert not left, f"a backup has left {left}"
    _restore(ensemble, target, there)
    target.unlink()


def _restore(ensemble: Ensemble, backup: Path, there: set[str]) -> None:
    """It gives back what was acknowledged before it was begun, and every file that is referred to."""
    home = ensemble.directory / "restored"
    run = home / "run"
    home.mkdir()
    database = f"sqlite:///{run}/copernicus.db"
    arguments = ("restore", str(backup), "--run-dir", str(run), "--database", database)
    ensemble.lab.run("cpc-server", *arguments, home=home, seconds=120.0).done()
    with contextlib.closing(Books(database, run)) as books:
        missing = there - books.acknowledged()
        assert not missing, f"the backup lacks {missing}, which were acknowledged before"
        wrong = [*books.wrong(), *books.collected()]
        assert not wrong, f"what was restored is not sound: {wrong}"
    shutil.rmtree(home)


@fault()
def collect_unused_files(ensemble: Ensemble) -> None:
    """Announce that the disk is too small: what is unused goes at once, while results come in."""
    moment(ensemble)
    ensemble.client.set_setting("min_free_space", "1000G")
    ensemble.until(lambda: ensemble.client.status().intake_paused, "intake is paused")
    ensemble.client.set_setting("min_free_space", str(MIN_FREE))
    ensemble.until(lambda: not ensemble.client.status().intake_paused, "intake goes on")
