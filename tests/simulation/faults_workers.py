"""What goes wrong at workers: their processes, machines, disks, clocks, keys and allocations."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tests.simulation.databases import Killed
from tests.simulation.plan import Plan

if TYPE_CHECKING:
    from tests.simulation.chaos import Chaos, Fault
    from tests.simulation.workers import Worker

HOUR = 3_600_000_000  # µs
CHANGES = ("write", "append", "truncate", "sync", "rename", "unlink", "make")


def of(plan: Plan) -> list[Fault]:
    """Those that a world of this plan may see, each as often as it is named."""
    return [
        kill_worker, kill_worker, kill_worker_power, kill_worker_at_write, freeze_worker, fill_worker, break_worker_disk,
        break_worker_disk, step_worker_clock, clone, leave, come_under_a_new_name, flap,
    ]  # fmt: skip


def kill_worker(chaos: Chaos) -> bool:
    return chaos.worker().kill(away=chaos.chance.choice([0.5, 20.0, 200.0]))


def kill_worker_power(chaos: Chaos) -> bool:
    """The tail of its log may be zeros."""
    worker, zeros = chaos.worker(), chaos.chance.random() < 0.5
    return worker.kill(power=True, away=chaos.chance.uniform(5.0, 150.0), zeros=zeros)


def kill_worker_at_write(chaos: Chaos) -> bool:
    """Or its machine loses power then. Counted when it comes."""
    worker, power = chaos.worker(), chaos.chance.random() < 0.5
    if worker.agent is None or chaos.world.shares(worker.platter):
        return False
    life, away = worker.lives, chaos.chance.uniform(0.5, 60.0)

    def end() -> None:
        if worker.lives == life and worker.agent is not None:
            worker.world.fault("worker killed at a write")
            worker.kill(power=power, away=away, zeros=True)
            raise Killed

    _at_write(worker, chaos.chance.randrange(30), end)
    return False


def _at_write(worker: Worker, count: int, what: object) -> None:
    """Once, at a coming change of its disk: an OSError, or a call."""
    platter = worker.platter
    left = count

    def broken(operation: str, path: str) -> OSError | None:
        nonlocal left
        if operation not in CHANGES:
            return None
        left -= 1
        if left >= 0:
            return None
        platter.broken = lambda operation, path: None
        if callable(what):
            what()
            return None
        assert isinstance(what, int)
        worker.world.fault("worker's write failed")
        return OSError(what, errno.errorcode[what], path)

    platter.broken = broken


def break_worker_disk(chaos: Chaos) -> bool:
    """One change of it fails: no space, or an input/output error. Counted when it comes."""
    worker = chaos.worker()
    _at_write(worker, chaos.chance.randrange(30), chaos.chance.choice([errno.ENOSPC, errno.EIO]))
    chaos.world.story.tell(worker.name, "a write will fail")
    return False


def freeze_worker(chaos: Chaos) -> bool:
    worker = chaos.worker()
    if not chaos.freeze(worker.host):
        return False
    chaos.world.story.tell(worker.name, "freezes")
    return True


def fill_worker(chaos: Chaos) -> None:
    worker = chaos.worker()
    platter = worker.platter
    platter.capacity = platter.used() + chaos.chance.choice([0, 2000, 1_100_000])
    chaos.world.story.tell(worker.name, "its disk is full")
    chaos.later(5.0, 200.0, lambda: setattr(platter, "capacity", 1 << 40))


def step_worker_clock(chaos: Chaos) -> None:
    worker = chaos.worker()
    worker.host.clock.offset = chaos.chance.choice([-200_000_000, HOUR, -30 * HOUR, 30 * HOUR])
    chaos.world.story.tell(worker.name, f"its clock steps to {worker.host.clock.offset / 1e6:+.0f} s")
    host, network = worker.host, chaos.world.network
    network.disturb(host.name)  # while it is wrong, certificates may be, too

    def right() -> None:
        host.clock.offset = 0
        network.disturb(host.name)

    chaos.later(30.0, 300.0, right)


def clone(chaos: Chaos) -> bool:
    """Somebody has copied a machine with its worker's key: two say that they are the same."""
    return chaos.world.clone(chaos.worker(), chaos.chance.uniform(20.0, 200.0))


def leave(chaos: Chaos) -> bool:
    """SIGTERM."""
    worker = chaos.worker()
    if worker.agent is None or worker.host.reactor.frozen:
        return False
    worker.agent.leave("SIGTERM", at_once=chaos.chance.random() < 0.3)
    return True


def come_under_a_new_name(chaos: Chaos) -> bool:
    """Its key is lost with its process: the server gets a new worker while it still counts on the old one's jobs."""
    worker = chaos.worker()
    if worker.agent is None or worker.clone_of:
        return False
    worker.kill(away=chaos.chance.choice([0.5, 5.0, 100.0]))
    worker.lose_key()
    chaos.world.story.tell(worker.name, "has lost its key")
    return True


def flap(chaos: Chaos) -> bool:
    """Its allocation ends as soon as it begins, again and again."""
    worker = chaos.worker()
    if worker.clone_of:
        return False
    worker.flaps_until = chaos.world.now + chaos.span(10.0, 60.0)
    chaos.world.story.tell(worker.name, "its allocations end at once")
    worker.flap()
    return True
