"""What a task becomes on this node: a command line and an environment. The seam to platforms and executables."""

from __future__ import annotations

from typing import Protocol

import msgspec

from cpc.core import ids
from cpc.core.resources import Amounts
from cpc.wire.messages import Task


class Command(msgspec.Struct, frozen=True):
    """What to start. `announced`: the program is one that the worker announced, so that it must be there.
    `lost`: the exit code that says of no program how it has ended; 0: there is none."""

    argv: tuple[str, ...]
    env: dict[str, str] = {}
    announced: bool = False
    lost: int = 0


class Starter(Protocol):
    """Turns tasks into commands for one platform."""

    def command(self, task: Task, key: str, directory: str) -> Command:
        """The command of this task, which runs in `directory`. NotFound when its program is not here (any more)."""

    def release(self, key: str) -> None:
        """The attempt with this key has ended: give back hosts and the like."""

    def by_name(self, granted: Amounts) -> bool:
        """Whether `command` sets aside things that have names, as GPUs do, so that they must be free before."""


class PlainStarter:
    """Runs the argv as it is: for simulation, and for workers without executables."""

    def command(self, task: Task, key: str, directory: str) -> Command:
        return Command(task.argv, {}, bool(task.executable))

    def release(self, key: str) -> None:
        return None

    def by_name(self, granted: Amounts) -> bool:
        return False


def clean(environment: dict[str, str]) -> dict[str, str]:
    """The worker's environment as jobs may see it: nothing of Copernicus itself, of its service manager or its venv."""
    dropped = ("CPC_", "LISTEN_", "NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM", "VIRTUAL_ENV", "PYTEST_")
    return {name: value for name, value in environment.items() if not name.startswith(dropped)}


def job_environment(command: Command, task: Task) -> dict[str, str]:
    """What the job sees beside the node's environment: Copernicus's own variables, the platform's, then the job's wishes.

    `CPC_INDEX` and table columns of an array come in the task's own environment.
    """
    cores = str(max(1, task.granted.cores))
    facts = {
        "CPC_JOB": ids.show(task.lease.job, task.is_element),
        "CPC_ATTEMPT": str(task.lease.attempt),
        "CPC_CORES": cores,
        "CPC_GPUS": str(task.granted.gpus),
        "CPC_MEMORY": str(task.granted.memory),
        "CPC_PROJECT": ids.show(task.project),
        "OMP_NUM_THREADS": cores,  # else every job would take all cores of the node
    }
    return {**facts, **command.env, **task.env}
