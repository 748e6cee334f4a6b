"""When a fault comes, and how long it lasts: by what can be seen, chosen by the seed."""

from __future__ import annotations

from collections.abc import Callable

from cpc.core.errors import CopernicusError
from tests.chaos.ensemble import MIB, Ensemble, Machine

LONG = 6.0  # seconds that a fault lasts at most: three times the heartbeat time


def moment(ensemble: Ensemble) -> None:
    """Wait for a moment at which it hurts."""
    notes = len(list(ensemble.notes.iterdir()))
    up = sum(machine.proxy.up for machine in ensemble.machines)
    result = a_result(ensemble)
    kind = ensemble.rng.choice(("at once", "a job begins", "a file is on its way", "a result is on disk"))
    seen = ensemble.hold(
        {
            "at once": lambda: True,
            "a job begins": lambda: len(list(ensemble.notes.iterdir())) > notes,
            "a file is on its way": lambda: sum(each.proxy.up for each in ensemble.machines) > up + MIB // 4,
            "a result is on disk": result,
        }[kind],
        3.0,
    )
    ensemble.tell(f"    when {kind}" if seen else f"    ({kind}: did not come about)")


def a_result(ensemble: Ensemble) -> Callable[[], bool]:
    """Tells whether another result has come onto the disk of a worker."""
    before = [machine.spooled for machine in ensemble.machines]
    return lambda: any(
        machine.spooled > spooled for machine, spooled in zip(ensemble.machines, before, strict=True)
    )  # fmt: skip


def one(ensemble: Ensemble) -> Machine:
    """One of the machines."""
    return ensemble.rng.choice(ensemble.machines)


def disturbed(ensemble: Ensemble) -> None:
    """Let it last for a moment, or until the server takes a worker for lost."""
    if ensemble.rng.random() < 0.5:
        seen = ensemble.hold(ensemble.another_is_lost, 2 * LONG)
        ensemble.tell("    until the worker was taken for lost" if seen else "    (it was not taken for lost)")
    else:
        some_work(ensemble)


def some_work(ensemble: Ensemble) -> None:
    """Until another job has begun or left a result, or for a while."""
    notes = len(list(ensemble.notes.iterdir()))
    ensemble.hold(lambda: len(list(ensemble.notes.iterdir())) > notes + 1, LONG / 3)


def another_turn(ensemble: Ensemble, machine: Machine) -> None:
    """The server has heard of this worker once more."""
    ago = 0.0

    def heard() -> bool:
        nonlocal ago
        view = machine.view if answers(ensemble) else None
        before, ago = ago, view.last_heard if view else 0.0
        return ago < before

    ensemble.hold(heard, LONG)


def answers(ensemble: Ensemble) -> bool:
    try:
        ensemble.client.whoami()
    except CopernicusError:
        return False
    return True
