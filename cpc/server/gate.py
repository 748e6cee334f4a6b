"""The gate: every act on what the server keeps passes here, and the rules are applied here and nowhere else.

A changing call is one unit of the writer, in this order: is it a repeat (then the stored answer), is the caller still a
user, is the token still good, does the role allow it; then the work; then its answer is kept under the call's key, and
the audit gets its line. All of it is one commit, so a call that was answered is never carried out twice.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred

from cpc.core import ids
from cpc.core.clock import DAY
from cpc.core.errors import BadInput, Conflict, Gone, NotFound, NotLoggedIn
from cpc.server.principal import Call, Principal
from cpc.server.roles import RULES, Act, Role, allowed, in_project
from cpc.server.seal import Seal
from cpc.store import answers, members, projects, tokens
from cpc.store.projects import ProjectRow
from cpc.store.store import Store
from cpc.store.transaction import Tx

T = TypeVar("T")

ANSWER_TIME = 30 * DAY
MAX_KEY = 64
_NEW: Any = object()


class Gate:
    """Runs units of work for principals, if the table of roles allows it."""

    def __init__(self, store: Store, seal: Seal) -> None:
        self._store = store
        self._seal = seal
        # Per batch or snapshot under way: the role was checked, and in which projects only being super user helped.
        self._checked: dict[int, list[int]] = {}
        # Per unit under way: who it is for, with the rights that the database gives now.
        self._current_of: dict[int, Principal] = {}

    def write(
        self,
        call: Call,
        act: Act,
        unit: Callable[[Tx], T],
        *,
        project: str | int | None = None,
        answer: Any = Any,
        secret: bool = False,
    ) -> Deferred[T]:
        """Carry out a changing call once; a repeat gets the same answer. `answer` is the type that `unit` returns.

        For an act in a project give its name or id; or leave it out and call `check` in the unit, once the unit has
        found out which project it is. With `secret` the kept answer is sealed. The unit must raise refusals before
        it writes. Raises what `check` raises; Conflict for the key of another call; Gone for an expired one.
        """

        def decide(tx: Tx) -> T:
            who = self._current(tx, call.who)
            known = self._known(tx, call, answer)
            if known is not _NEW:
                return known  # type: ignore[no-any-return]
            before = self._store.writer.last_event
            value = self._run(tx, who, act, project, unit)
            overruled = self._checked.pop(id(tx))
            if not overruled and RULES[act].audited and self._store.writer.last_event == before:
                overruled = [0]
            for at in overruled:
                tx.event(who.actor, f"audit.{act}", project=at)
            self._keep(tx, call, value, secret)
            return value

        return self._store.write(decide)

    def read(
        self, who: Principal, act: Act, unit: Callable[[Tx], T], *, project: str | int | None = None
    ) -> Deferred[T]:
        """What `unit` finds in a read-only snapshot, if `who` may do `act`. The project as in `write`."""

        def look(tx: Tx) -> T:
            value = self._run(tx, self._current(tx, who), act, project, unit)
            self._checked.pop(id(tx))
            return value

        return self._store.read(look)

    def look(
        self, who: Principal, act: Act, unit: Callable[[Tx], T], *, project: str | int | None = None
    ) -> Deferred[T]:
        """As `read`, but in the writer, where what is in memory may be read. `unit` writes nothing, so it costs no commit."""

        def decide(tx: Tx) -> T:
            value = self._run(tx, self._current(tx, who), act, project, unit)
            self._checked.pop(id(tx))
            return value

        return self._store.write(decide)

    def check(self, tx: Tx, who: Principal, act: Act, project: int = 0, what: str = "") -> Principal:
        """Within a unit: may `who` do `act` in the project with this id? The principal as it is now.

        `what` ("job 57") is what is reported as not found to those who have no role in the project. NotLoggedIn,
        Denied or NotFound.
        """
        known = self._current_of.get(id(tx))
        if known != who or known is None:
            known = self._current(tx, who)
        self._allow(tx, known, act, project, what)
        return known

    def project(self, tx: Tx, name_or_id: str | int, who: Principal | None = None) -> ProjectRow:
        """The project with this name (or id, then also a deleted one); NotFound suggests names that `who` may see."""
        row = _find(tx, name_or_id)
        if row is None:
            raise self._no_project(tx, name_or_id, who)
        return row

    async def expire_answers(self, limit: int = 1000) -> int:
        """Maintenance: drop up to `limit` kept answers older than 30 days; how many. Their keys stay spent."""
        return await self._store.write(lambda tx: answers.expire(tx, tx.now - ANSWER_TIME, limit))

    # --- who ---

    def _current(self, tx: Tx, who: Principal) -> Principal:
        """`who` with the rights that the database gives now; NotLoggedIn if user or token are gone."""
        if not who.user:
            return who
        found = tokens.holder(tx, who.user, who.token)
        if found is None or not found.enabled:
            raise NotLoggedIn(f"the user {who.name} is disabled or has been deleted", "ask an administrator")
        if who.token and (found.expires is None or found.expires <= tx.now):
            raise NotLoggedIn("this session or token has ended", "log in again with `cpcc login USER`")
        if found.super_user == who.super_user:
            return who
        return dataclasses.replace(who, super_user=found.super_user)

    def _run(self, tx: Tx, who: Principal, act: Act, project: str | int | None, unit: Callable[[Tx], T]) -> T:
        self._checked.pop(id(tx), None)
        self._admit(tx, who, act, project)
        self._current_of[id(tx)] = who
        try:
            value = unit(tx)
        finally:
            del self._current_of[id(tx)]
        # A unit that was to find its project by itself must have asked: forgetting it must not let anybody in.
        if id(tx) not in self._checked:
            raise RuntimeError(f"the unit of {act} did not check the role in its project")
        return value

    def _admit(self, tx: Tx, who: Principal, act: Act, project: str | int | None) -> None:
        """Apply the table; nothing yet for an act in a project that the unit has to find."""
        if not in_project(act):
            self._allow(tx, who, act, 0, "")
        elif project is None:
            if not who.user and not who.super_user:
                allowed(act, who)
        else:
            row = _find(tx, project)
            if row is None:
                allowed(act, who, Role.OWNER, who.project)
                raise self._no_project(tx, project, who)
            try:
                self._allow(tx, who, act, row.id, "")
            except NotFound:
                raise self._no_project(tx, project, who) from None

    def _allow(self, tx: Tx, who: Principal, act: Act, project: int, what: str) -> None:
        """Apply the table and note that it was asked."""
        role = None
        if in_project(act) and who.user:
            found = members.role(tx, project, who.user)
            role = Role(found) if found else None
        by_super = allowed(act, who, role, project, what)
        overruled = self._checked.setdefault(id(tx), [])
        if by_super and in_project(act) and RULES[act].changes and not RULES[act].audited and project not in overruled:
            overruled.append(project)

    def _no_project(self, tx: Tx, wanted: str | int, who: Principal | None) -> NotFound:
        if isinstance(wanted, int):
            return NotFound(f"there is no project {ids.show(wanted)}")
        hint = "`cpcc projects` lists your projects"
        if who is not None and not who.project and (who.user or who.super_user):
            visible = projects.page(tx, "", 1000, None if who.super_user else who.user)
            near = difflib.get_close_matches(wanted, [row.name for row in visible], 3)
            if near:
                hint = f"did you mean {' or '.join(near)}? {hint}"
        return NotFound(f"there is no project {wanted[:80]}, or none that you may see", hint)

    # --- answers ---

    def _known(self, tx: Tx, call: Call, answer: Any) -> Any:
        if not call.key:
            return _NEW
        if len(call.key) > MAX_KEY or not call.key.isprintable():
            raise BadInput(f"an idempotency key is 1 to {MAX_KEY} printable characters")
        row = answers.find(tx, call.who.user, call.key)
        if row is None:
            return _NEW
        if row.call != call.digest:
            raise Conflict(f"the key {call.key} was used for another call", "use a fresh key for each call")
        text = self._seal.open(row.answer, self._context(call)) if row.answer is not None else None
        if text is None or row.time <= tx.now - ANSWER_TIME:
            raise Gone(
                f"the call with key {call.key} was carried out, but its answer is no longer kept",
                "look at its effect, then use a fresh key",
            )
        return msgspec.json.decode(text, type=answer)

    def _keep(self, tx: Tx, call: Call, value: Any, secret: bool) -> None:
        if not call.key:
            return
        text = msgspec.json.encode(value)
        if secret:
            text = self._seal.close(text, self._context(call))
        answers.add(tx, call.who.user, call.key, call.digest, text)

    def _context(self, call: Call) -> bytes:
        return b"%d\0%s\0%s" % (call.who.user, call.key.encode(), call.digest)


def _find(tx: Tx, project: str | int) -> ProjectRow | None:
    return projects.by_id(tx, project) if isinstance(project, int) else projects.by_name(tx, project)
