"""A small network among all that chaos befalls: what is set ends as twice its double, and each answer counts once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cpc.client import Client
from cpc.core.edits import Activate, AddInstance, Connect, Import
from cpc.core.errors import Unavailable

if TYPE_CHECKING:
    from tests.chaos.ensemble import Ensemble

PROJECT = "loom"
ITEM = "spin:in.x"
MODULE = Path(__file__).parents[1] / "fixtures" / "modules" / "loom.py"


def build(client: Client, library: Path) -> None:
    """The project, its module and its network; nothing runs before a value is set."""
    library.mkdir(exist_ok=True)
    shutil.copy(MODULE, library)
    client.create_project(PROJECT)
    client.network(PROJECT).edit(
        Import("loom"), AddInstance("spin", "loom::spin"), AddInstance("weave", "loom::weave"),
        Connect("spin:out.y", "weave:in.x"), Activate(),
    )  # fmt: skip


def at_rest(ensemble: Ensemble) -> bool:
    """Whether what was set last has come to its end; an error does so, too."""
    ensemble.supervise()
    network, wanted = ensemble.client.network(PROJECT), ensemble.ledger.woven
    try:
        if any(network.item(name).own == "error" for name in ("spin", "weave")):
            return True
        woven = not wanted or network.get("weave:out.y") == 4 * wanted
    except Unavailable:
        return False
    return woven and not ensemble.open_steps()


def wrong(ensemble: Ensemble) -> Iterator[str]:
    """When it is at rest: what should not be, in words."""
    client = ensemble.client
    network = client.network(PROJECT)
    for name in ("spin", "weave"):
        found = network.item(name)
        if found.own != "active":
            yield f"{name} is {found.own}: {found.error}"
            return
    answered = sum(
        row.kind == "answered" and row.details["instance"] == "weave" for row in network.record(limit=1 << 20)
    )
    runs, told = network.get("weave:out.runs"), network.get("weave:out.told")
    if (runs or 0) != answered:
        yield f"weave has counted {runs} runs, and {answered} answers are on record"
    jobs = client.jobs(PROJECT, limit=1 << 20)
    succeeded = sum(job.state == "succeeded" and job.name.startswith("weave") for job in jobs)
    if (told or 0) != succeeded:
        yield f"weave was told of {told} jobs, and {succeeded} have succeeded"
    for job in jobs:
        if job.state != "succeeded":
            yield f"job {job.id} ({job.name}) of the network is {job.state}"
