"""Looks at pools from one of their nodes: what only a node can tell of the way to this server, its clock, files and programs.

A look is an allocation like any other, small and brief, that counts against limits and budget and is found again after a
crash. Instead of a worker it starts `cpc-worker check`, whose credential may say once what it finds and do nothing else.
"""

from __future__ import annotations

from contextlib import suppress

from msgspec.structs import replace

from cpc import __version__
from cpc.api.scheduler import Ran
from cpc.core import ids
from cpc.core.allocation import Check, NodeState
from cpc.core.errors import Conflict, CopernicusError, NotFound, TurnedAway, Unavailable
from cpc.core.pool_views import CheckView, ProbeView
from cpc.core.probe import MARK, NodeReport
from cpc.core.texts import plain
from cpc.pools import probe
from cpc.pools.allocation import Event, Probe, Reason, State
from cpc.pools.facts import Ask
from cpc.server.bundles import Bundles
from cpc.server.gate import Gate
from cpc.server.pools.hand import FASTEST
from cpc.server.pools.keeper import Keeper
from cpc.server.pools.means import Means, read, work_place
from cpc.server.pools.shows import Shows
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from cpc.store import allocations
from cpc.store.allocations import AllocationRow
from cpc.store.pools import PoolRow
from cpc.store.store import Store
from cpc.store.transaction import Tx

#: Seconds that writing a file for the nodes to see may take: a file system that hangs must not stop the server.
_PATIENCE = 5.0
_CLOSED = {
    NodeState.DRAINED: "is drained", NodeState.DRAINING: "is being drained", NodeState.DOWN: "is down",
}  # fmt: skip
#: Writes $2 into $1/$3 if that can be, else into the directory above it. Others may write there too: what they have laid is
#: neither followed nor written over (set -C, mv -T).
_WRITE = """umask 022; set -C
for d in "$1" "$(dirname "$1")"; do
    [ -d "$d" ] && [ -w "$d" ] || continue
    printf %s "$2" > "$d/$3.$$" && mv -fT "$d/$3.$$" "$d/$3" && exit 0
done; exit 3"""
_REMOVE = 'rm -f "$1/$2" "$(dirname "$1")/$2"'


class Probing:
    """`way`: host and port in the bundles of workers."""

    def __init__(
        self, store: Store, gate: Gate, keeper: Keeper, shows: Shows, bundles: Bundles, way: tuple[str, int]
    ) -> None:
        self._store = store
        self._gate = gate
        self._keeper = keeper
        self._book = keeper.book
        self._shows = shows
        self._bundles = bundles
        self._way = way
        self._mark = ""

    # --- for people ---

    async def start(self, call: Call, name: str, node: str) -> ProbeView:
        """Look at a pool from `node` ("": whichever its batch system gives). It ends when nobody asks what it finds.

        NotFound for a node that the pool does not have, Conflict for one that takes nothing, for a limit that is reached,
        and while another look at the same pool is under way.
        """
        row = await self._gate.look(call.who, Act.POOL_PROBE, lambda tx: self._book.pool(tx, name))
        hand = self._keeper.hands.get(row.id)
        if hand is None:
            raise Unavailable(f"pool {row.name} cannot be used: {self._keeper.broken.get(row.id, 'it is being made')}")
        if node and not hand.scheduler.excludes:
            words = f"scheduler {row.facts.scheduler} cannot be told on which node to start anything"
            raise Conflict(words, f"look from any: cpcc doctor {row.name} --node")
        others = await self._others(row, node) if node else ()
        mark = await self._write_mark(row)

        def unit(tx: Tx) -> ProbeView:
            row = self._book.pool(tx, name)
            under_way = [one for one in self._book.of_pool(row.id) if _looks(one)]
            if under_way:
                number = ids.show(under_way[0].id)
                raise Conflict(
                    f"somebody looks at pool {row.name} already: allocation {number}",
                    f"cpcc allocation cancel {number}",
                )
            each, walltime = probe.shape(row.facts)
            # It asks for no node of its own; a queue may give it one all the same.
            whole = 0 if read(row.means, row.name).exclusive else row.facts.node_cores
            denial = self._keeper.survey(tx).rooms[row.id].full(max(each.cores, whole), walltime)
            if denial is not None:
                raise Conflict(f"pool {row.name} is full: {denial.words}", denial.step)
            wanted = Ask(
                pool=row.id, nodes=1, each=each, walltime=walltime, whole=whole,
                probe=Probe(node=node, others=others, mark=mark), why=f"{call.who.name} looks from a node",
            )  # fmt: skip
            (made,) = self._keeper.happening.ask(tx, [wanted])
            tx.after(self._keeper.stir)
            return self._view(tx, made)

        return await self._gate.write(call, Act.POOL_PROBE, unit, answer=ProbeView)

    async def get(self, who: Principal, id: str) -> ProbeView:
        """How far a look is. Whoever asks waits for it: that is what keeps it going."""

        def unit(tx: Tx) -> tuple[ProbeView, AllocationRow]:
            found = allocations.by_token(tx, id) if id.startswith("cpc-") else allocations.get(tx, ids.read(id)[0])
            if found is None or found.facts.probe is None:
                raise NotFound(f"there is no look {id[:80]}", "begin one: cpcc doctor POOL --node")
            row = self._book.live.get(found.token, found)
            self._book.need(frozenset((row.token,)))
            return self._view(tx, row), row

        view, row = await self._gate.look(who, Act.POOL_PROBE, unit)
        hand = self._keeper.hands.get(row.pool)
        if row.facts.state.live and hand is not None and self._book.now - hand.looked_at >= FASTEST:
            hand.look()
        if view.done and row.facts.probe is not None and row.facts.probe.mark:
            await self._remove_mark(row)
        return view

    def _view(self, tx: Tx, row: AllocationRow) -> ProbeView:
        pool = self._book.pools.get(row.pool)
        means = read(pool.means, pool.name) if pool else Means()
        found = probe.ended(row.facts, self._book.name(tx, row.pool), means.worker, means.output, *self._way)
        return ProbeView(
            allocation=self._shows.allocation(tx, row),
            done=bool(found),
            checks=tuple(view(one) for one in found),
        )

    async def _others(self, row: PoolRow, node: str) -> tuple[str, ...]:
        """The nodes of the pool that are not this one, on which things can be started."""
        seen = {one.name: one for one in await self._keeper.hands[row.id].nodes(row.facts.queue)}
        if node not in seen:
            raise NotFound(f"pool {row.name} has no node {node[:80]}", f"see `cpcc nodes {row.name}`")
        closed = _CLOSED.get(seen[node].state)
        if closed:
            why = f" ({seen[node].reason})" if seen[node].reason else ""
            raise Conflict(f"node {node} {closed}{why}: nothing can be started there", f"cpcc resume {node}")
        return tuple(name for name in seen if name != node)

    # --- a file for the node to see ---

    async def _write_mark(self, row: PoolRow) -> str:
        """What was written where workers keep their files; "" where nodes need not see it, or this machine does not."""
        place = work_place(read(row.means, row.name), row.facts.shared_files, row.name)
        if not row.facts.shared_files or not place:
            return ""
        # Pools may have the same place: what others wait for there must stay what it is.
        here = (one.facts.probe.mark for one in self._book.live.values() if one.facts.probe is not None and _looks(one))
        self._mark = mark = next(filter(None, here), self._mark) or self._keeper.tools.chance.token(12).hex()
        with suppress(CopernicusError):
            if not (await self._sh(_WRITE, place, mark, MARK)).code:
                return mark
        return ""

    async def _remove_mark(self, row: AllocationRow) -> None:
        pool = self._book.pools.get(row.pool)
        others = any(_looks(one) for one in self._book.live.values())
        if pool is None or others:
            return
        place = work_place(read(pool.means, pool.name), True, pool.name)
        with suppress(CopernicusError):
            await self._sh(_REMOVE, place, MARK)

    async def _sh(self, script: str, *words: str) -> Ran:
        return await self._keeper.tools.run(("sh", "-c", script, "sh", *words), "", _PATIENCE)

    # --- for the node ---

    async def report(self, bundle: str, fingerprint: str, report: NodeReport) -> tuple[Check, ...]:
        """What a worker program finds; judged, kept if it was asked for, and told to it. TurnedAway at a second time."""

        def unit(tx: Tx) -> tuple[Check, ...]:
            found = self._bundles.good(tx, bundle, fingerprint)
            row = allocations.by_bundle(tx, found.id)
            row = row and self._book.live.get(row.token, row)
            if row is None or row.facts.probe is None:
                return probe.judge(report, None, "", __version__, tx.now)
            asked = row.facts.probe
            if asked.checks or not row.facts.state.live:
                raise TurnedAway(f"allocation {ids.show(row.id)} has told what it found already")
            pool = self._book.pools.get(row.pool)
            checks = probe.judge(_bounded(report), pool.facts if pool else None, asked.mark, __version__, tx.now)
            happen = self._keeper.happening.happen
            happen(tx, row.token, Event.JOINED, ran_on=(report.node,) if report.node else ())
            row = self._book.live[row.token]
            self._book.put(tx, row, replace(row.facts, probe=replace(asked, checks=checks)))
            happen(tx, row.token, Event.DISMISSED, reason=Reason.LEFT, words="it has told what it found")
            return checks

        return await self._store.write(unit)


def _looks(one: AllocationRow) -> bool:
    """Whether it is a look from which something is still to be heard."""
    return one.facts.probe is not None and not one.facts.probe.checks and one.facts.state is not State.LEAVING


def _bounded(report: NodeReport) -> NodeReport:
    """Words of another machine, as far as anybody would read them."""
    short = {name: plain(getattr(report, name), 500) for name in ("host", "node", "release", "platform", "work")}
    said = {name: plain(getattr(report, name), 500) for name in ("platform_trouble", "work_trouble", "munge")}
    tried = tuple(replace(one, host=plain(one.host, 500), words=plain(one.words, 500)) for one in report.tried[:16])
    further = tuple((plain(package, 100), _short(one)) for package, one in report.further[:50])
    programs = report.programs[:1000]
    return replace(report, tried=tried, further=further, programs=programs, **short, **said)


def _short(one: Check) -> Check:
    return replace(one, name=plain(one.name, 100), words=plain(one.words, 500), hint=plain(one.hint, 500))


def view(one: Check) -> CheckView:
    """For people."""
    return CheckView(name=one.name, ok=one.ok, text=one.words, hint=one.hint, doubt=one.doubt)
