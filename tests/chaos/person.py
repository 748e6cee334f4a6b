"""Somebody who goes on submitting whatever happens: each call has a key, and is repeated with it until it is answered."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TypeVar

import msgspec

from cpc.client import Client, transfer
from cpc.core.edits import SetValue
from cpc.core.errors import OverQuota, Unavailable
from cpc.core.spec import Dependency, Input, JobSpec
from cpc.core.views import Submitted
from tests.chaos import loom
from tests.chaos.ledger import Accepted, Ledger
from tests.chaos.program import Work
from tests.chaos.story import Story

T = TypeVar("T")
BIG = 4 << 20
#: what, and how often
KINDS = (
    ("writes", 4), ("big", 4), ("steps", 4), ("hides", 1), ("strays", 1), ("fails", 2), ("flaky", 1), ("greedy", 1),
    ("reads", 2), ("array", 1), ("after", 1), ("weaves", 3),
)  # fmt: skip


class Person:
    """Runs in a thread of its own. `ask` for jobs; `idle` when all of them are acknowledged."""

    def __init__(
        self, client: Callable[[], Client], rng: Random, ledger: Ledger, story: Story, directory: Path, notes: Path
    ) -> None:
        self._make = client
        self._rng = rng
        self._ledger = ledger
        self._story = story
        self._directory = directory
        self._notes = str(notes)
        self._wanted: queue.Queue[str] = queue.Queue()
        self._number = 0
        self._done = threading.Event()
        self.repeated = 0  # calls that were made again because their answer was lost
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def ask(self, number: int) -> None:
        """Submit so many more."""
        names, weights = zip(*KINDS, strict=True)
        for what in self._rng.choices(names, weights, k=number):
            self._wanted.put(what)

    def ask_for(self, what: str) -> None:
        """One of a kind."""
        self._wanted.put(what)

    @property
    def idle(self) -> bool:
        """Whether everything that was asked for is acknowledged."""
        if self.failure is not None:
            raise AssertionError(f"submitting failed: {self.failure!r}") from self.failure
        return self._wanted.unfinished_tasks == 0

    def close(self) -> None:
        """No more."""
        self._done.set()
        self._wanted.put("")
        self._thread.join(60)

    def _live(self) -> None:
        client = self._make()
        client.transport.patience = 0.0
        try:
            while (what := self._wanted.get()) and not self._done.is_set():
                self._submit(client, what)
                self._wanted.task_done()
        except BaseException as error:
            self.failure = error
        finally:
            client.close()

    def _submit(self, client: Client, what: str) -> None:
        self._number += 1
        name = f"{what}-{self._number}"
        if what == "weaves":
            self._weave(client, name)
            return
        work, size = self._work(what, name)
        facts = dict(work.facts)
        if work.given:
            path = self._directory / "given"
            path.write_bytes(work.given)
            content = self._until_answered(lambda: transfer.upload(client, path), f"uploading for {name}")
            facts["inputs"] = (Input("given", content),)
        if what == "after":
            before = [entry for entry in self._ledger.open() if entry.work.state == "succeeded"]
            facts["after"] = tuple(Dependency(entry.id) for entry in before[-2:])
        spec = JobSpec(name=name, argv=work.argv(self._notes), array=size, max_losses=1000, **facts)  # type: ignore[arg-type]
        answer = self._post(
            client, f"/projects/{client.project}/jobs", {"spec": spec, "dry_run": False}, work.seed, name
        )
        id = msgspec.json.decode(answer, type=Submitted).id
        self._ledger.add(Accepted(id, name, work, size))
        self._story.tell(f"submitted {name} as {id}")

    def _weave(self, client: Client, name: str) -> None:
        """Give the network another value."""
        wanted = self._number
        edits = [SetValue(loom.ITEM, wanted)]
        self._post(client, f"/projects/{loom.PROJECT}/edits", {"edits": edits}, name, name)
        self._ledger.woven = wanted
        self._story.tell(f"set {loom.ITEM} to {wanted}")

    def _post(self, client: Client, path: str, value: object, seed: str, name: str) -> bytes:
        """The answer to a call that is made again and again under one key."""
        text, key = msgspec.json.encode(value), hashlib.sha256(seed.encode()).hexdigest()[:32]
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        return self._until_answered(lambda: client.transport.whole("POST", path, text, headers), name)

    def _until_answered(self, call: Callable[[], T], what: str) -> T:
        """However often it takes, for four minutes at most; the pause is that of the SDK."""
        tries = 0
        end = self._story.seconds + 240
        while True:
            try:
                return call()
            except (Unavailable, OverQuota) as error:
                tries += 1
                self.repeated += isinstance(error, Unavailable)
                if tries == 1:
                    self._story.tell(f"{what} was not answered: {error.message}")
                if self._done.wait(min(1.0, 0.1 * tries)) or self._story.seconds > end:
                    raise

    def _work(self, what: str, name: str) -> tuple[Work, int]:
        rng = self._rng
        seed = f"{rng.getrandbits(64):x}-{name}"
        quick = rng.uniform(0.1, 1.0)
        match what:
            case "big":
                return Work("writes", seed, rng.randrange(BIG, 2 * BIG + BIG // 4), quick), 0
            case "steps":
                facts = {"checkpoint": ("*.cpt",)}
                return Work("steps", seed, rng.randrange(5, 30), rng.uniform(0.1, 0.3), facts=facts), 0
            case "fails":
                return Work("fails", seed, 0, quick, facts={"max_failures": rng.randrange(1, 3)}), 0
            case "flaky":
                return Work("flaky", seed, rng.randrange(200_000), quick, facts={"max_failures": 2}), 0
            case "greedy":
                return Work("greedy", seed, 0, 0.0, facts={"walltime": 1.0}), 0
            case "reads":
                given = rng.randbytes(rng.choice((1000, 100_000, BIG + 1000)))
                return Work("reads", seed, rng.randrange(5000), quick, given), 0
            case "array":
                return Work("writes", seed, rng.randrange(100_000), quick / 2), rng.randrange(3, 8)
            case "waits":
                return Work("waits", seed, 0, 0.0), 0
            case "hides" | "strays":
                return Work(what, seed, rng.randrange(100_000), quick), 0
        return Work("writes", seed, rng.randrange(200_000), quick), 0
