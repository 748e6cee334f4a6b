"""A person with a network in project `p`: builds it, changes it, holds it, breaks it and mends it, and knows how it must end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from cpc.core import ids
from cpc.core.edits import (
    Activate,
    AddInstance,
    ClearError,
    Connect,
    Deactivate,
    Disconnect,
    Edit,
    Import,
    RemoveInstance,
    Rerun,
    SetValue,
)
from cpc.core.errors import CopernicusError, NotFound
from cpc.server.principal import Call
from cpc.worker.waiting import sleep
from tests.simulation.clients import Client

if TYPE_CHECKING:
    from tests.simulation.realm import Realm
    from tests.simulation.server import Server

PROJECT = "p"
CHAIN = 4
BEGIN = {"c0:in.a": 1.0, **{f"c{number}:in.b": 1.0 for number in range(CHAIN)}, "a:in.xs[0]": 1.0, "g:in.n": 1}
COUNTING = ("a", "b", "g")  # instances that count their runs
LINKS = (
    *((f"c{number}:out.c", f"c{number + 1}:in.a") for number in range(CHAIN - 1)),
    ("c3:out.c", "neg:in.a"),
    ("c1:out.c", "cmd:in.x"),
    ("cmd:out.value", "sum:in.a"),
    ("neg:out.result", "sum:in.b"),
    ("sum:out.c", "w:in.a"),
    ("w:out.result", "r:in.f"),
    ("c0:out.c", "a:in.xs[1]"),
)
FUNCTIONS = {
    **{f"c{number}": "float::add" for number in range(CHAIN)}, "sum": "float::add", "neg": "toys::negative",
    "cmd": "toys::twice", "w": "toys::write", "r": "toys::read", "g": "toys::grow", "a": "toys::ask", "b": "toys::ask_anew",
}  # fmt: skip
NO_SUCH = SetValue("c0:in.nothing", 1.0)


class Architect(Client):
    """The model is what was acknowledged: `values` that are set, and `extra` instances with theirs.

    A restore takes back some of it, in the middle of whatever is being done: then all of it is made again.
    """

    def __init__(self, world: Realm, name: str, actions: int) -> None:
        super().__init__(world, name, actions)
        self.values: dict[str, float] = dict(BEGIN)
        self.many = [1.0, 2.0, 3.0]
        self.extra: dict[str, float] = {}
        self._made = 0
        self._restored = 0  # restores that the model is right about

    async def _live(self) -> None:
        await self._insist_on(self._begin)
        while self._left:
            self._left -= 1
            await sleep(self.host.reactor, self.chance.uniform(0.1, self.world.plan.span / 30))
            await self._insist_on(self._change)
        await self._insist_on(self._mend)
        while self.world.plan.restores and self.world.troubled:
            await sleep(self.host.reactor, 10.0)
        if self._taken_back:
            await self._insist_on(self._mend)
        self.done = True

    @property
    def _taken_back(self) -> bool:
        """Whether the server has been restored, and the model does not know yet."""
        return self._restored != self.world.restored

    async def _insist_on(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do it, on what the model says; what a restore has made impossible is left, and what it has taken back made again."""
        while True:
            try:
                if self._taken_back:
                    await self._make_again()
                await act()
            except CopernicusError as refusal:
                if not self._taken_back:
                    raise
                self.world.story.tell(self.name, f"is refused: {refusal.message}")
            if not self._taken_back:
                return
            if act not in (self._begin, self._mend):
                act = self._nothing

    async def _begin(self) -> None:
        if "a" not in self._there():
            await self._build()

    def _there(self) -> set[str]:
        """The names of the instances at the top, by the database."""
        return {name for (name,) in self.world.oracle.rows("SELECT name FROM instances WHERE parent = 0")}

    async def _nothing(self) -> None:
        """But to make again what was taken back."""

    async def _make_again(self) -> None:
        """The network is what the model says, whatever it was in the backup."""
        self._restored = self.world.restored
        while (
            await self.insist(
                "looks for transactions", lambda server, call: server.networks.transaction(call.who, PROJECT)
            )
        ).level:
            await self.insist("rolls back", lambda server, call: server.networks.rollback(call, PROJECT))
        there = self._there()
        if "a" not in there:
            await self._build()
        connected = {name for (name,) in self.world.oracle.rows(
            "SELECT i.name FROM links l JOIN instances i ON i.id = l.target WHERE i.parent = 0"
        )}  # fmt: skip
        edits: list[Edit] = [
            RemoveInstance(name) for name in sorted(there) if name[0] == "x" and name not in self.extra
        ]
        edits += [edit for name, value in self.extra.items() if name not in there for edit in self._extra(name, value)]
        edits += [SetValue(item, value) for item, value in self.values.items()]
        if "a" in there and "cmd" not in connected:
            edits.append(Connect("c1:out.c", "cmd:in.x"))
        await self._edit("makes again what was taken back", *edits, SetValue("b:in.xs", self.many))

    async def _edit(self, what: str, *edits: Edit) -> None:
        await self.insist(what, lambda server, call: server.networks.edit(call, PROJECT, edits))

    async def _build(self) -> None:
        await self._edit("imports modules", Import("float"), Import("toys"))
        made = [AddInstance(path, function) for path, function in FUNCTIONS.items()]
        links = [Connect(*link) for link in LINKS]
        values = [SetValue(item, value) for item, value in self.values.items()]
        await self._edit("builds a network", *made, *values, *links, SetValue("b:in.xs", self.many), Activate())

    # --- what it does ---------------------------------------------------------------------------------------------------

    async def _change(self) -> None:
        acts = [self._set] * 4 + [self._set_many] * 2 + [self._hold, self._release] * 2 + [
            self._clear, self._clear, self._rerun, self._refused, self._transact, self._transact, self._replace,
            self._add, self._remove, self._more, self._cut, self._cancel_job, self._retry_job,
        ]  # fmt: skip
        await self.chance.choice(acts)()

    def _number(self) -> float:
        return self.chance.randrange(-4, 24) / 4

    def _setting(self) -> tuple[SetValue, Callable[[], None]]:
        """A change of a value, and what is to be remembered of it."""
        item = self.chance.choice([item for item in BEGIN if item != "g:in.n"])
        value = self._number()
        return SetValue(item, value), lambda: self.values.__setitem__(item, value)

    async def _set(self) -> None:
        edit, remember = self._setting()
        await self._edit(f"sets {edit.item} = {edit.value}", edit)
        remember()

    async def _set_many(self) -> None:
        many = list(self.many)
        for number in range(len(many)):
            many[number] = self.chance.choice([many[number], self._number()])
        await self._edit(f"sets b:in.xs = {many}", SetValue("b:in.xs", many))
        self.many = many

    async def _more(self) -> None:
        number = int(self.values["g:in.n"]) + self.chance.choice([1, 2])
        await self._edit(f"sets g:in.n = {number}", SetValue("g:in.n", number))
        self.values["g:in.n"] = number

    def _some(self) -> str:  # type: ignore[override]
        return self.chance.choice(["", *FUNCTIONS])

    async def _hold(self) -> None:
        path = self._some()
        await self._edit(f"holds {path or 'all'}", Deactivate(path))

    async def _release(self) -> None:
        path = self._some()
        await self._edit(f"activates {path or 'all'}", Activate(path))

    async def _clear(self) -> None:
        await self._edit("clears errors", ClearError(self._some()))

    async def _rerun(self) -> None:
        path = self.chance.choice(["neg", "cmd", "a", "b", "g", "w", "r"])
        try:
            await self._edit(f"runs {path} again", Rerun(path))
        except CopernicusError as refusal:  # it is in error, or has no inputs yet
            self.world.story.tell(self.name, f"is refused: {refusal.message}")

    async def _refused(self) -> None:
        edit, _ = self._setting()
        await self._must_be_refused("sets what is not there", (edit, AddInstance("never", "float::add"), NO_SUCH))

    async def _must_be_refused(self, what: str, edits: Sequence[Edit]) -> None:
        try:
            await self._edit(what, *edits)
        except NotFound:
            return
        if not self._taken_back:  # else a transaction is open again
            self.world.oracle.wrong(f"{self.name} {what}, and is not refused")

    async def _transact(self) -> None:
        """Some changes that are made together, or not at all."""
        chance = self.chance
        await self.insist("begins a transaction", lambda server, call: server.networks.begin(call, PROJECT))
        remembered = []
        for _ in range(chance.randrange(1, 4)):
            edit, remember = self._setting()
            await self._edit(f"will set {edit.item} = {edit.value}", edit)
            remembered.append(remember)
            await sleep(self.host.reactor, chance.uniform(0.0, 10.0))
        bad = chance.random() < 0.3
        if bad:
            await self._edit("will set what is not there", NO_SUCH)
        try:
            if bad or chance.random() < 0.7:
                await self.insist("commits", lambda server, call: server.networks.commit(call, PROJECT))
                for remember in remembered:
                    remember()
                if bad and not self._taken_back:
                    self.world.oracle.wrong("a transaction with an error is committed")
                return
        except NotFound:
            pass
        await self.insist("rolls back", lambda server, call: server.networks.rollback(call, PROJECT))

    async def _replace(self) -> None:
        await self._edit(
            "replaces cmd", RemoveInstance("cmd"), AddInstance("cmd", FUNCTIONS["cmd"]),
            *(Connect(*link) for link in LINKS if any(end.startswith("cmd:") for end in link)), Activate("cmd"),
        )  # fmt: skip

    async def _add(self) -> None:
        self._made += 1
        name, value = f"x{self._made}", self._number()
        await self._edit(f"adds {name}", *self._extra(name, value))
        self.extra[name] = value

    @staticmethod
    def _extra(name: str, value: float) -> list[Edit]:
        connection, setting = Connect("c2:out.c", f"{name}:in.a"), SetValue(f"{name}:in.b", value)
        return [AddInstance(name, "float::add"), connection, setting, Activate(name)]

    async def _remove(self) -> None:
        if self.extra:
            name = self.chance.choice(sorted(self.extra))
            await self._edit(f"removes {name}", RemoveInstance(name))
            del self.extra[name]

    async def _cut(self) -> None:
        """A connection goes, and comes back some time later or in the same change."""
        away, back = Disconnect("cmd:in.x"), Connect("c1:out.c", "cmd:in.x")
        if self.chance.random() < 0.5:
            await self._edit("connects cmd:in.x anew", away, back)
            return
        await self._edit("disconnects cmd:in.x", away)
        await sleep(self.host.reactor, self.chance.uniform(0.0, 20.0))
        await self._edit("connects cmd:in.x again", back)

    # Jobs of the network, one by one, as any other job.

    async def _cancel_job(self) -> None:
        await self._meddle("cancels", "s.array IN (SELECT id FROM jobs) AND o.state < 4")

    async def _retry_job(self) -> None:
        """Also one whose end its step has not been told of yet."""
        await self._meddle("retries", "s.array IN (SELECT id FROM finished WHERE state > 3)")

    async def _meddle(self, what: str, where: str) -> None:
        query = f"SELECT s.array FROM step_jobs s JOIN steps o ON o.id = s.step WHERE {where} ORDER BY o.state, s.array"
        found = self.world.oracle.rows(query)
        if not found:
            return
        shown = ids.show(self.chance.choice(found[:5])[0])

        def work(server: Server, call: Call) -> Awaitable[object]:
            return server.jobs.cancel(call, shown, "by hand") if what == "cancels" else server.jobs.retry(call, shown)

        try:
            await self.insist(f"{what} job {shown}", work)
        except CopernicusError as refusal:  # it has ended, or goes on, since
            self.world.story.tell(self.name, f"is refused: {refusal.message}")

    # --- how it must end ------------------------------------------------------------------------------------------------

    async def _mend(self) -> None:
        """Nothing is negative any more, everything may run; errors of what ran before are cleared until there are none."""
        self.values = {item: abs(value) for item, value in self.values.items()}
        self.many = [abs(value) for value in self.many]
        values = [SetValue(item, value) for item, value in self.values.items()]
        await self._edit("mends it", *values, SetValue("b:in.xs", self.many), Activate())
        while True:
            await sleep(self.host.reactor, 10.0)
            if self.world.oracle.rows("SELECT id FROM instances WHERE state = 3"):
                await self._edit("clears all errors", ClearError())
            elif not self.world.oracle.rows("SELECT id FROM steps WHERE state < 4"):
                return

    def expected(self) -> dict[str, object]:
        """The outputs that follow from what is set."""
        value = self.values
        found: dict[str, object] = {}
        sums = [value["c0:in.a"]]
        for number in range(CHAIN):
            sums.append(sums[-1] + value[f"c{number}:in.b"])
            found[f"c{number}:out.c"] = sums[-1]
        found["neg:out.result"] = -sums[4]
        found["cmd:out.value"] = 2 * sums[2]
        found["sum:out.c"] = found["r:out.result"] = 2 * sums[2] - sums[4]
        found["a:out.ys"] = [2 * value["a:in.xs[0]"], 2 * sums[1]]
        found["b:out.ys"] = [2 * one for one in self.many]
        found["g:out.total"] = float(sum(2 * number for number in range(int(value["g:in.n"]))))
        return found | {f"{name}:out.c": sums[3] + b for name, b in self.extra.items()}
