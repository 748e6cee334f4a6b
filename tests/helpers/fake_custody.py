"""Results in custody, for tests of the people's door."""

from __future__ import annotations

from cpc.core.errors import NotFound
from cpc.core.views import CustodyView, Page
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from tests.helpers.fake_world import World, paged


class FakeCustody:
    def __init__(self, world: World) -> None:
        self.world = world
        self.kept: dict[str, CustodyView] = {}

    async def page(self, who: Principal, after: str, limit: int) -> Page:
        self.world.admit(who, Act.CUSTODY_LIST)
        return paged(list(self.kept.values()), after, limit)

    async def drop(self, call: Call, name: str) -> CustodyView:
        def change() -> CustodyView:
            if name not in self.kept:
                raise NotFound(f"there is no result {name!r} in custody")
            return self.kept.pop(name)

        return self.world.once(call, Act.CUSTODY_DROP, change)
