"""Pools, in memory: for tests of the people's door."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cpc.core.errors import NotFound
from cpc.core.pool_views import (
    AllocationView,
    CheckView,
    NodeView,
    NodeWorkerView,
    PoolForgotten,
    PoolPlan,
    PoolSettings,
    PoolView,
    PoolWhyView,
    ProbeView,
)
from cpc.core.views import Page, Reason
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from tests.helpers.fake_world import NOW, World, paged

CHECK = CheckView(name="munge", ok=True, text="credentials are made and accepted")

DOUBT = CheckView(
    name="clocks", ok=True, text="the clock of n1 is 40s behind this machine's", hint="set both by NTP", doubt=True
)


def pool_view(**changes: object) -> PoolView:
    view = PoolView(
        name="hpc", id="1", scheduler="slurm", state="active", note="", settings=PoolSettings(nodes=1, cores=4, idle=900.0),
        waiting=1, running=2, leaving=0, cores=8, workers=2, spent=3.5, wait=40.0, created=NOW,
    )  # fmt: skip
    return msgspec.structs.replace(view, **changes)


def allocation_view(**changes: object) -> AllocationView:
    view = AllocationView(
        id="7", pool="hpc", token="cpc-00000000-1-7", native="4711", state="running", reason="", words="",
        why="12 jobs of commands wait", project="", nodes=1, cores=4, walltime=14400.0, ran_on=("n1",), workers=("hpc-7-ab",),
        restarts=0, asked=NOW, started=NOW, ends=NOW, ended=None,
    )  # fmt: skip
    return msgspec.structs.replace(view, **changes)


def node_view(**changes: object) -> NodeView:
    view = NodeView(
        name="n1", pool="hpc", state="mixed", reason="", reason_by="", cores=8, cores_used=4, gpus=0, memory=1 << 35,
        memory_free=1 << 34, memory_trend=-float(1 << 30), queues=("batch",),
        workers=(NodeWorkerView(name="hpc-7-ab", state="busy", jobs=("57",)),),
    )  # fmt: skip
    return msgspec.structs.replace(view, **changes)


def why_view() -> PoolWhyView:
    return PoolWhyView(pool="hpc", state="active", reasons=(Reason(kind="idle", text="hpc: no job waits"),))


def probe_view(**changes: object) -> ProbeView:
    view = ProbeView(allocation=allocation_view(state="waiting", waiting="Resources"))
    return msgspec.structs.replace(view, **changes)


class FakePools:
    def __init__(self, world: World) -> None:
        self.world = world

    def _known(self, name: str) -> None:
        if name not in ("hpc", "7", "n1"):
            raise NotFound(f"there is no {name}")

    async def page(self, who: Principal) -> Page:
        return Page(items=(pool_view(),))

    async def get(self, who: Principal, name: str) -> PoolView:
        self._known(name)
        return pool_view()

    async def plan(self, who: Principal, name: str, scheduler: str, given: PoolSettings) -> PoolPlan:
        self.world.admit(who, Act.POOL_ADD)
        return PoolPlan(call="sbatch", script="#!/bin/bash\n", checks=(CHECK,))

    async def add(self, call: Call, name: str, scheduler: str, given: PoolSettings, force: bool) -> PoolView:
        return self.world.once(call, Act.POOL_ADD, lambda: pool_view(name=name, scheduler=scheduler, settings=given))

    async def set(self, call: Call, name: str, given: PoolSettings, force: bool, clear: Sequence[str] = ()) -> PoolView:
        self._known(name)
        return self.world.once(call, Act.POOL_SET, lambda: pool_view(settings=given))

    async def remove(self, call: Call, name: str, cancel: bool) -> object:
        self._known(name)
        return self.world.once(call, Act.POOL_REMOVE, lambda: None)

    async def forget(self, call: Call, name: str) -> PoolForgotten:
        self._known(name)
        gone = PoolForgotten(pool="hpc", scheduler="slurm", left=(allocation_view(),))
        return self.world.once(call, Act.POOL_REMOVE, lambda: gone)

    async def pause(self, call: Call, name: str, reason: str) -> PoolView:
        self._known(name)
        return self.world.once(call, Act.POOL_PAUSE, lambda: pool_view(state="paused", note=reason))

    async def resume(self, call: Call, name: str) -> PoolView:
        self._known(name)
        return self.world.once(call, Act.POOL_PAUSE, pool_view)

    async def why(self, who: Principal, name: str) -> PoolWhyView:
        self._known(name)
        return why_view()

    async def doctor(self, who: Principal, name: str) -> Page:
        self.world.admit(who, Act.POOL_DOCTOR)
        return Page(items=(CHECK,))

    async def probe(self, call: Call, name: str, node: str) -> ProbeView:
        self._known(name)
        return self.world.once(call, Act.POOL_PROBE, probe_view)

    async def probed(self, who: Principal, id: str) -> ProbeView:
        self.world.admit(who, Act.POOL_PROBE)
        self._known(id)
        return probe_view(done=True, checks=(CHECK,))

    async def allocations(self, who: Principal, pool: str, live: bool, after: str, limit: int) -> Page:
        return paged([allocation_view()], after, limit)

    async def allocation(self, who: Principal, id: str) -> AllocationView:
        self._known(id)
        return allocation_view()

    async def cancel(self, call: Call, id: str, reason: str) -> AllocationView:
        self._known(id)
        return self.world.once(call, Act.ALLOCATION_CANCEL, lambda: allocation_view(state="leaving", words=reason))

    async def nodes(self, who: Principal, pool: str) -> Page:
        return Page(items=(node_view(),))

    async def node(self, who: Principal, name: str, pool: str) -> NodeView:
        self._known(name)
        return node_view()

    async def drain(self, call: Call, name: str, pool: str, reason: str, finish: bool) -> NodeView:
        self._known(name)
        return self.world.once(call, Act.NODE_DRAIN, lambda: node_view(state="draining", reason=reason))

    async def undrain(self, call: Call, name: str, pool: str) -> NodeView:
        self._known(name)
        return self.world.once(call, Act.NODE_RESUME, lambda: node_view(state="idle"))
