"""Schedulers by name: ours, and those of installed packages."""

from __future__ import annotations

from importlib import metadata

import pytest

from cpc.api import Scheduler
from cpc.core.errors import BadInput, NotFound
from cpc.plugins.schedulers.slurm import Slurm
from cpc.server.pools import schedulers
from cpc.server.pools.schedulers import scheduler_class, scheduler_names


class Half(Scheduler):
    """A plugin that somebody has only begun."""

    name = "half"


def test_schedulers_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scheduler_names()[:2] == ("slurm", "slurm-rest")
    assert scheduler_class("slurm") is Slurm
    values = {"half": f"{__name__}:Half", "bad": f"{__name__}:pytest", "gone": "no_such_package:X"}
    points = [metadata.EntryPoint(name, value, schedulers.GROUP) for name, value in values.items()]
    monkeypatch.setattr(
        metadata, "entry_points", lambda group, name="": [one for one in points if name in ("", one.name)]
    )
    assert scheduler_names() == ("slurm", "slurm-rest", "half", "bad", "gone")
    with pytest.raises(BadInput, match="lacks adopt and cancel and check and"):
        scheduler_class("half")
    with pytest.raises(BadInput, match="not a subclass"):
        scheduler_class("bad")
    with pytest.raises(BadInput, match=r"scheduler gone \(no_such_package:X\) cannot be loaded"):
        scheduler_class("gone")
    with pytest.raises(NotFound, match="no scheduler 'pbs'") as missing:
        scheduler_class("pbs")
    assert "slurm, slurm-rest" in missing.value.hint


def test_built_in_schedulers_are_declared_as_entry_points_too() -> None:
    declared = {point.name: point.value for point in metadata.entry_points(group=schedulers.GROUP)}
    assert declared == schedulers.BUILT_IN
    assert all(scheduler_class(name).name == name for name in declared)
