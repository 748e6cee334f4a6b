"""The server is killed at every single commit of a project's life, just before it and just after: nothing is lost, nothing
is done twice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from cpc.core.edits import Activate, AddInstance, Connect, Edit, Import, SetValue
from cpc.core.errors import Unavailable
from cpc.core.spec import JobSpec
from cpc.dataflow.answer import Answer, Job, StepInput
from cpc.server.principal import SERVER, Call
from cpc.store import schema
from cpc.store.database import Connection, DatabaseBroken
from tests.helpers.network_bench import NetworkBench, controlled

T = TypeVar("T")
LIVES = 3  # at most, with one kill
COMMITS = 40  # more than the story has


class Fatal:
    """Breaks one commit of a connection: the process that used it must end."""

    def __init__(self, at: int, after: bool) -> None:
        self.left = at
        self.after = after
        self.struck = False

    def take(self, connection: Connection) -> None:
        """The connection's commits are counted from now on."""
        commit = connection.commit

        def counted() -> None:
            self.left -= 1
            if self.left != 0:
                commit()
                return
            self.struck = True
            if self.after:
                commit()
            else:
                connection.rollback()
            raise DatabaseBroken("killed")

        connection.commit = counted  # type: ignore[method-assign]


class Life:
    """A project's story, told to the server again after each kill, as clients and workers do it."""

    def __init__(self, bench: NetworkBench, fatal: Fatal) -> None:
        self.bench = bench
        self.fatal = fatal
        self._begin()

    def _begin(self) -> None:
        writer = self.bench.store.writer
        writer._fatal = lambda reason: None
        self.fatal.take(writer._database)

    def survive(self, act: Callable[[], T]) -> T:
        """Do it; once more after a restart if the server was killed meanwhile."""
        for _ in range(LIVES):
            try:
                return act()
            except Unavailable:
                self.restart()
        raise AssertionError("killed more than once")

    def restart(self) -> None:
        self.bench.restart()
        self._begin()

    def edit(self, key: str, *edits: Edit) -> None:
        """A client's call, with its key."""
        self.survive(lambda: self.bench.wait(self.bench.networks.edit(Call(SERVER, key), "p", edits)))

    def work(self) -> None:
        """A worker with room for one job works until nothing more comes."""
        for _ in range(20):
            self.survive(lambda: self.bench.finish(self.bench.worker("w", cores=1)))
            if self.dead:
                self.restart()
            elif self.bench.dispatcher.idle and not self.survive(lambda: self.bench.count(schema.jobs)):
                return
        raise AssertionError("the work has no end")

    @property
    def dead(self) -> bool:
        """Whether the process has ended without anybody's call failing."""
        return bool(self.bench.store.writer._stopped)


def asks(step: StepInput) -> Answer:
    """A job for each input that is new to it; their number, and how many have ended, when all have."""
    if step.finished:
        count = len(step.state) + len(step.finished)
        return Answer(state=b"." * count, outputs=(("y", count),))
    return Answer(jobs=tuple(Job(JobSpec(argv=("run", path)), path) for path in step.updated), state=b"")


def adds(step: StepInput) -> Answer:
    """Makes one more instance in its own network, and gives on what comes."""
    name = f"made_{step.number}"
    return Answer(
        instances=((name, "float::add"),), values=((f"{name}:in.a", 1.0), (f"{name}:in.b", 1.0)),
        outputs=(("y", step.inputs["x"] + 1),),
    )  # fmt: skip


def story(life: Life) -> None:
    """Two functions in a row; the first asks for two jobs."""
    life.edit("k1", Import("float"), Import("lab"), AddInstance("f", "lab::asks"), AddInstance("g", "lab::adds"))
    life.edit("k2", Connect("f:out.y", "g:in.x"), SetValue("f:in.a", 1), SetValue("f:in.b", 1))
    life.edit("k3", Activate())
    if life.dead:
        life.restart()
    life.work()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_commit_changes_nothing_of_what_comes_out(database_url: str, tmp_path: Path, after: bool) -> None:
    from tests.helpers import stores

    struck = 0
    for at in range(1, COMMITS):
        stores.empty(database_url)
        bench = NetworkBench(tmp_path / str(at), url=database_url)
        bench.define(
            controlled("asks", {"a": "int", "b": "int"}, {"y": "int"}),
            controlled("adds", {"x": "int"}, {"y": "int"}), asks=asks, adds=adds,
        )  # fmt: skip
        fatal = Fatal(at, after)
        life = Life(bench, fatal)
        story(life)
        assert (bench.get("f:out.y"), bench.get("g:out.y")) == (2, 3), f"killed at commit {at}"
        assert bench.count(schema.arrays) == bench.count(schema.finished) == 2
        assert bench.item().states == {"active": 2 + bench.item("g").count}
        answered = [row.kind for row in bench.wait(bench.networks.record(SERVER, "p", 0, 100)).items]
        assert answered.count("edited") == 3
        assert "stopped" not in answered
        # g has run once for each value that f has given, unless both came before it ran: never more often.
        assert bench.item("g").count == bench.graph.instances[_id(bench, "g")].number <= 2
        bench.check()
        bench.close()
        if not fatal.struck:
            break
        struck += 1
    assert struck > 8, "the story was over before it began"
    assert struck < COMMITS - 2, "the story is longer than the test looks"


def _id(bench: NetworkBench, name: str) -> int:
    children = bench.graph.root.children
    assert children is not None
    return children[name].id
