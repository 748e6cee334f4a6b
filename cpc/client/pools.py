"""Pools in the SDK: batch systems and clouds that the server asks for workers, their allocations and nodes."""

from __future__ import annotations

from collections.abc import Sequence

from cpc.client.calls import Calls, part
from cpc.core import pool_views
from cpc.core.pool_views import PoolSettings

_NONE = PoolSettings()


class PoolCalls(Calls):
    """Calls about pools."""

    def pools(self) -> list[pool_views.PoolView]:
        """All of them."""
        return self._all(pool_views.PoolView, "/pools")

    def pool(self, name: str) -> pool_views.PoolView:
        """One."""
        return self._get(pool_views.PoolView, f"/pools/{part(name)}")

    def plan_pool(self, name: str, scheduler: str, settings: PoolSettings = _NONE) -> pool_views.PoolPlan:
        """What adding it would send to its batch system, and what that says; nothing is changed."""
        body = {"name": name, "scheduler": scheduler, "settings": settings}
        return self._change(pool_views.PoolPlan, "POST", "/pools/plan", body)

    def add_pool(
        self, name: str, scheduler: str, settings: PoolSettings = _NONE, force: bool = False
    ) -> pool_views.PoolView:
        """Add one; `force`: do not ask the batch system before."""
        body = {"name": name, "scheduler": scheduler, "settings": settings, "force": force}
        return self._change(pool_views.PoolView, "POST", "/pools", body)

    def set_pool(
        self, name: str, settings: PoolSettings, force: bool = False, clear: Sequence[str] = ()
    ) -> pool_views.PoolView:
        """Change what is given, after `clear` (of environment, programs, project_limits) was emptied."""
        body = {"settings": settings, "force": force} | ({"clear": list(clear)} if clear else {})
        return self._change(pool_views.PoolView, "PATCH", f"/pools/{part(name)}", body)

    def remove_pool(self, name: str, cancel: bool = False) -> None:
        """Remove it; `cancel`: end its allocations first."""
        self._call("DELETE", f"/pools/{part(name)}", None, cancel=str(cancel).lower())

    def forget_pool(self, name: str) -> pool_views.PoolForgotten:
        """Remove one whose batch system cannot be asked any more; what may still run there is in the answer."""
        return self._change(pool_views.PoolForgotten, "POST", f"/pools/{part(name)}/forget", {})

    def pause_pool(self, name: str, reason: str = "") -> pool_views.PoolView:
        """Ask it for nothing more."""
        return self._change(pool_views.PoolView, "POST", f"/pools/{part(name)}/pause", {"reason": reason})

    def resume_pool(self, name: str) -> pool_views.PoolView:
        """Ask it again."""
        return self._change(pool_views.PoolView, "POST", f"/pools/{part(name)}/resume", {})

    def why_pool(self, name: str) -> pool_views.PoolWhyView:
        """Why it is asked for what it is asked for, or for nothing."""
        return self._get(pool_views.PoolWhyView, f"/pools/{part(name)}/why")

    def doctor_pool(self, name: str) -> list[pool_views.CheckView]:
        """Have its batch system examined."""
        return self._all(pool_views.CheckView, f"/pools/{part(name)}/doctor")

    def probe_pool(self, name: str, node: str = "") -> pool_views.ProbeView:
        """Look at it from one of its nodes; ask on with `probe`, or it ends within a minute."""
        return self._change(pool_views.ProbeView, "POST", f"/pools/{part(name)}/probe", {"node": node})

    def probe(self, allocation: str) -> pool_views.ProbeView:
        """How far such a look is."""
        return self._get(pool_views.ProbeView, f"/allocations/{part(allocation)}/probe")

    def allocations(self, pool: str = "", live: bool = False, limit: int = 1000) -> list[pool_views.AllocationView]:
        """What pools were asked for, newest first; `live`: those only that have not ended."""
        query = {"pool": pool, "live": str(live).lower()}
        return self._some(pool_views.AllocationView, "/allocations", limit, **query)

    def allocation(self, id: str) -> pool_views.AllocationView:
        """One, by id or token."""
        return self._get(pool_views.AllocationView, f"/allocations/{part(id)}")

    def cancel_allocation(self, id: str, reason: str = "") -> pool_views.AllocationView:
        """End it; its workers hand back what they have."""
        path = f"/allocations/{part(id)}/cancel"
        return self._change(pool_views.AllocationView, "POST", path, {"reason": reason})

    def nodes(self, pool: str = "") -> list[pool_views.NodeView]:
        """The nodes of batch systems, with our workers on them."""
        return self._all(pool_views.NodeView, "/nodes", pool=pool)

    def node(self, name: str, pool: str = "") -> pool_views.NodeView:
        """One."""
        return self._get(pool_views.NodeView, f"/nodes/{part(name)}", pool=pool)

    def drain_node(self, name: str, reason: str, finish: bool = True, pool: str = "") -> pool_views.NodeView:
        """Let nothing new start there; with `finish` false jobs are checkpointed and handed back."""
        body = {"reason": reason, "finish": finish, "pool": pool}
        return self._change(pool_views.NodeView, "POST", f"/nodes/{part(name)}/drain", body)

    def resume_node(self, name: str, pool: str = "") -> pool_views.NodeView:
        """Let it be used again."""
        return self._change(pool_views.NodeView, "POST", f"/nodes/{part(name)}/resume", {"pool": pool})
