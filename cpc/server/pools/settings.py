"""A pool's settings as people give them, and the facts that decisions are made from: one into the other, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

from msgspec.structs import replace

from cpc.api import plugins
from cpc.core import names
from cpc.core.allocation import Check
from cpc.core.errors import BadInput
from cpc.core.pool_views import PoolSettings, amounts
from cpc.pools.facts import Pool
from cpc.server.pools.means import Means
from cpc.store import projects
from cpc.store.transaction import Tx

K = TypeVar("K")
V = TypeVar("V")
Clearable = Literal["environment", "programs", "project_limits"]

#: (least, most) of each number; seconds and bytes.
BOUNDS: dict[str, tuple[float, float]] = {
    "nodes": (1, 1 << 16), "cores": (1, 1 << 16), "memory": (0, 1 << 50), "gpus": (0, 1 << 10),
    "walltime": (60, 366 * 86400), "margin": (0, 86400), "max_allocations": (0, 100_000), "max_cores": (0, 1 << 30),
    "budget": (0, 1e12), "idle": (5, 30 * 86400), "backlog": (0, 100_000), "project_cores": (0, 1 << 30), "price": (0, 1e12),
}  # fmt: skip
_SHELL = 64 << 10
_AS_THEY_ARE = (
    "queue", "account", "options", "nodes", "walltime", "margin", "max_allocations", "max_cores", "budget", "idle", "backlog",
    "project_cores", "shared_files", "prologue", "wrap", "direct", "price",
)  # fmt: skip
#: What is made up of many things, and what it is without any.
_EMPTY: dict[str, object] = {"environment": {}, "programs": None, "projects": {}}
_CALLED = {"project_limits": "projects"}
_MEANS = ("worker", "directory", "work", "output", "exclusive")


def apply(tx: Tx, given: PoolSettings, pool: Pool, means: Means, clear: Sequence[Clearable] = ()) -> tuple[Pool, Means]:
    """The pool with what is given changed, after `clear` has been emptied.

    BadInput names the setting; NotFound a project that is not there.
    """
    emptied = [_CALLED.get(name, name) for name in clear]
    pool = replace(pool, **{name: _EMPTY[name] for name in emptied})
    for name, (low, high) in BOUNDS.items():
        value = getattr(given, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise BadInput(f"{name} {value:g} of a pool is not between {low:g} and {high:g}")
    changes: dict[str, object] = {
        name: getattr(given, name) for name in _AS_THEY_ARE if getattr(given, name) is not None
    }  # fmt: skip
    changes["each"] = amounts(given, pool.each)
    if given.labels is not None:
        changes["labels"] = tuple(names.clean(label, "label") for label in given.labels)
    if given.programs is not None:
        programs = dict.fromkeys([*(pool.programs or ()), *(_program(text) for text in given.programs)])
        changes["programs"] = tuple(programs) or None
    if given.project_limits is not None:
        limits = {_project(tx, name): _cores(name, cores) for name, cores in given.project_limits.items()}
        changes["projects"] = _merged(pool.projects, limits)
    if given.environment is not None:
        changes["environment"] = _merged(pool.environment, given.environment)
    if given.platform is not None:
        changes["platform"] = _platform(given.platform)
    if given.exclusive is not None or given.queue is not None:
        changes["node_cores"] = 0  # learned anew
    made = replace(pool, **changes)
    if made.idle < made.idle_least:
        made = replace(made, idle_least=made.idle)
    elif given.idle is not None:
        made = replace(made, idle_least=min(made.idle, Pool.__struct_defaults__[_place("idle_least")]))
    own = {name: getattr(given, name) for name in _MEANS if getattr(given, name) is not None}
    if given.scheduler is not None:
        own["settings"] = {
            name: value for name, value in (means.settings | given.scheduler).items() if value != ""
        }  # fmt: skip
    return _checked(made), replace(means, **own).checked()


def shown(tx: Tx, pool: Pool, means: Means, everything: bool) -> PoolSettings:
    """What is set, as people give it; without `everything`, nothing that may be a secret."""
    found: dict[str, object] = {name: getattr(pool, name) for name in _AS_THEY_ARE}
    found |= {name: getattr(means, name) for name in _MEANS}
    if not everything:
        found |= {"prologue": None}
    limits: dict[str, int | None] = {}
    for number, cores in pool.projects.items():
        row = projects.by_id(tx, number)
        if row is not None and row.deleted is None:
            limits[row.name] = cores
    return PoolSettings(
        **found,  # type: ignore[arg-type]
        cores=pool.each.cores, memory=pool.each.memory, gpus=pool.each.gpus, labels=pool.labels,
        programs=None if pool.programs is None else tuple(f"{name} {version}".strip() for name, version in pool.programs),
        environment=dict(pool.environment) if everything else None,
        project_limits=limits, platform=pool.platform, scheduler=means.settings if everything else None,
    )  # fmt: skip


def _place(name: str) -> int:
    """Where the default of a field of Pool is: those of keyword fields stand in the order of all that have one."""
    return Pool.__struct_fields__.index(name) - (len(Pool.__struct_fields__) - len(Pool.__struct_defaults__))


def _checked(pool: Pool) -> Pool:
    if pool.margin * 2 > pool.walltime:
        raise BadInput(
            f"workers that leave {pool.margin:g} s before the end of {pool.walltime:g} s would do little",
            "ask for more walltime, or set a smaller margin",
        )
    tests: list[tuple[str, str, Callable[[str], bool]]] = [
        ("wrap", pool.wrap, str.isprintable), ("queue", pool.queue, str.isprintable),
        ("account", pool.account, str.isprintable), ("prologue", pool.prologue, lambda text: "\0" not in text),
    ]  # fmt: skip
    for what, text, good in tests:
        if not good(text) or len(text) > _SHELL:
            raise BadInput(f"the {what} of a pool has characters that no command has, or is too long")
    return pool


def _program(text: str) -> tuple[str, str]:
    name, _, version = text.strip().partition(" ")
    if not name or not text.isprintable():
        raise BadInput(f"{text[:80]!r} is not a program with its version", "write for example 'gromacs/mdrun 2022.5'")
    return name, version.strip()


def _project(tx: Tx, name: str) -> int:
    row = projects.by_name(tx, name)
    if row is None:
        from cpc.core.errors import NotFound

        raise NotFound(f"there is no project {name[:80]!r}", "`cpcc projects` lists them")
    return row.id


def _merged(before: Mapping[K, V], given: Mapping[K, V | None]) -> dict[K, V]:
    """What there was, with what is given; None removes."""
    return {name: value for name, value in {**before, **given}.items() if value is not None}


def _cores(project: str, cores: int | None) -> int | None:
    if cores is not None and not 0 <= cores <= 1 << 30:
        raise BadInput(f"{cores} cores for project {project[:80]} are not a limit")
    return cores


def known_platform(name: str) -> tuple[Check, ...]:
    """Nothing, or a Check that is not well for one that no package here has. A node may have more packages (--force)."""
    there = sorted(plugins.names("cpc.platforms.v1", {}))
    if not there or name in there:
        return ()
    words = f"there is no platform {name}: workers would end at once"
    return (
        Check("platform", False, words, f"use one of {', '.join(there)}; with --force, one that only the nodes have"),
    )


def _platform(name: str) -> str:
    clean = names.clean(name, "platform")
    if not clean.isascii():
        raise BadInput(f"{name[:40]!r} is not the name of a platform", "cpc-worker --help lists them")
    return clean
