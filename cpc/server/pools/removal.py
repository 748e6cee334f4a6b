"""How a pool goes: when all it has has ended, or, where nobody can ask its batch system any more, at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpc.core.errors import Conflict, Unavailable
from cpc.core.pool_views import PoolForgotten
from cpc.pools.allocation import Event, Reason
from cpc.server.gate import Gate
from cpc.server.pools.keeper import Keeper
from cpc.server.pools.shows import Shows
from cpc.server.principal import Call
from cpc.server.roles import Act
from cpc.store.pools import PoolRow
from cpc.store.transaction import Tx


class Removal:
    """`pause` asks a pool for nothing more, within a unit."""

    def __init__(
        self, gate: Gate, keeper: Keeper, shows: Shows, pause: Callable[[Tx, PoolRow, str, str], PoolRow]
    ) -> None:
        self._gate = gate
        self._keeper = keeper
        self._book = keeper.book
        self._shows = shows
        self._pause = pause

    async def remove(self, call: Call, name: str, cancel: bool) -> None:
        """What it has must have ended; with `cancel` all of it is cancelled first, and it is asked for nothing more: then
        call again. Conflict, Unavailable in words."""

        def unit(tx: Tx) -> str:
            row = self._book.pool(tx, name)
            live = self._book.of_pool(row.id)
            if live and not cancel:
                raise Conflict(
                    f"pool {row.name} has {len(live)} allocation(s) that have not ended",
                    f"end them first: cpcc pool rm --cancel {row.name}",
                )
            if live and row.id in self._keeper.broken:
                raise Conflict(
                    f"pool {row.name} has {len(live)} allocation(s) that nobody can end: {self._keeper.broken[row.id]}",
                    "mend that first, so that none of them is left behind; or, if it cannot be mended, "
                    f"cpcc pool rm --forget {row.name}",
                )
            if live:
                self._pause(tx, row, "it is being removed", call.who.actor)
                words = f"its pool is removed by {call.who.name}"
                for one in live:
                    self._keeper.happening.happen(
                        tx, one.token, Event.CANCELLED, reason=Reason.CANCELLED, words=words
                    )  # fmt: skip
                if left := len(self._book.of_pool(row.id)):
                    return f"{left} allocation(s) of pool {row.name} are being cancelled"
            self._gone(tx, row, call.who.actor, ())
            return ""

        left = await self._gate.write(call, Act.POOL_REMOVE, unit, answer=str)
        if left:
            raise Unavailable(left, "call again when they have ended: cpcc allocations")

    async def forget(self, call: Call, name: str) -> PoolForgotten:
        """It goes at once: its workers are put out and can come back no more, and what runs in its batch system is nobody's.

        Conflict where the batch system can be asked: then it can be told to end them.
        """

        def unit(tx: Tx) -> PoolForgotten:
            row = self._book.pool(tx, name)
            live = self._book.of_pool(row.id)
            if live and not self._trouble(row):
                raise Conflict(
                    f"the batch system of pool {row.name} answers: {len(live)} allocation(s) need not be left behind",
                    f"end them: cpcc pool rm --cancel {row.name}",
                )
            left = tuple(self._shows.allocation(tx, one) for one in live)
            words = f"its pool is forgotten by {call.who.name}: it may still run"
            for one in live:
                self._keeper.happening.happen(tx, one.token, Event.FORGOTTEN, reason=Reason.FORGOTTEN, words=words)
            self._gone(tx, row, call.who.actor, [one.native or one.token for one in live])
            return PoolForgotten(pool=row.name, scheduler=row.facts.scheduler, left=left)

        return await self._gate.write(call, Act.POOL_REMOVE, unit, answer=PoolForgotten)

    def _trouble(self, row: PoolRow) -> str:
        """Why its batch system cannot be asked, if it cannot."""
        hand = self._keeper.hands.get(row.id)
        return hand.trouble if hand is not None else self._keeper.broken.get(row.id, "it is being made")

    def _gone(self, tx: Tx, row: PoolRow, actor: str, forgotten: Sequence[str]) -> None:
        """`forgotten`: what may still be in its batch system."""
        self._book.remove_pool(tx, row.id)
        tx.event(actor, "pool.removed", subject=row.id, pool=row.name, forgotten=list(forgotten))
        tx.after(lambda: self._keeper.pool_removed(row.id))
