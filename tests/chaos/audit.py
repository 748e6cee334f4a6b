"""What must be true: after each fault what can be seen then, and at times, when nothing is under way, everything."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

from cpc.client.transfer import read
from cpc.core.errors import NotFound
from cpc.core.views import EventView, JobDetail
from cpc.worker import tree
from tests.chaos import loom
from tests.chaos.ensemble import MIN_FREE, Ensemble
from tests.chaos.ledger import Accepted

DEFECT = ("Traceback", "Unhandled")


class Wrong(AssertionError):
    """A promise was not kept."""


class Audit:
    """Looks at one ensemble."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self.books = ensemble.books()
        self.files = 0
        self.bytes = 0
        self.attempts: Counter[str] = Counter()
        self.late = 0
        self._read: dict[Path, int] = {}
        self._event = 0
        self._succeeded: Counter[str] = Counter()

    def close(self) -> None:
        """Look no more."""
        self.books.close()

    def _hold(self, true: object, what: str) -> None:
        if not true:
            raise Wrong(what)

    # --- after each fault ---

    def glance(self) -> None:
        """What can be seen while work goes on."""
        self.logs()
        self.blame()
        there = self.books.acknowledged()
        for entry in self.ensemble.ledger.open():
            self._hold(entry.id in there, f"{entry.name} was acknowledged as {entry.id} and is not there")

    def logs(self) -> None:
        """No program has spoken of a defect."""
        lab = self.ensemble.lab
        for path in (lab.directory / "server.out", *(worker.output for worker in lab.workers)):
            with path.open("rb") as file:
                file.seek(max(0, self._read.get(path, 0) - 20))
                text = file.read().decode(errors="replace")
                self._read[path] = file.tell()
            for word in DEFECT:
                at = text.find(word)
                self._hold(at < 0, f"{path.name} speaks of a defect: {text[max(0, at - 500) : at + 3000]}")

    def blame(self) -> None:
        """Only what failed by itself has failed, and as it had to."""
        for id, attempt, code, outcome, message in self.books.blamed():
            entry = self.ensemble.ledger.of(id)
            if entry is None:
                continue  # the answer to its submission is still to come
            wanted = ("exceeded", code) if entry.work.what == "greedy" else ("failed", entry.work.exit_code)
            self._hold(
                (outcome, code) == wanted and (entry.work.exit_code or entry.work.what == "greedy"),
                f"{entry.name} ({id}) is blamed for attempt {attempt}: {outcome}, exit code {code}, {message!r}",
            )

    # --- when nothing is under way ---

    def whole(self) -> None:
        """Wait until all has ended; look at every job and file; then remove them and see that their space is free."""
        ensemble = self.ensemble
        ensemble.healthy()
        self._all_ended()
        ensemble.until(lambda: loom.at_rest(ensemble), "the network is at rest")
        self.glance()
        self._follow_events()
        self._each_once()
        entries = ensemble.ledger.open()
        for entry in entries:
            self._entry(entry)
        for line in (*self.books.wrong(), *loom.wrong(ensemble)):
            raise Wrong(line)
        ensemble.until(lambda: not self._kept(), f"the workers have nothing left: {self._kept()}")
        self._no_processes()
        for entry in entries:
            ensemble.client.forget(entry.id)
            entry.settled = True
        self._free()
        ensemble.tell(f"all is well: {len(entries)} submissions, {self.files} files so far")

    def _all_ended(self) -> None:
        ensemble = self.ensemble
        left = ensemble.open_jobs()
        while left:
            before = left

            def fewer(before: int = before) -> bool:
                ensemble.supervise()
                return ensemble.open_jobs() < before

            ensemble.until(fewer, f"another of {before} jobs ends")
            left = ensemble.open_jobs()

    def _follow_events(self) -> None:
        client = self.ensemble.client
        while found := client.events(self._event, project="p", kind="job.succeeded", limit=1000):
            self._event = found[-1].number
            for event in found:
                self._succeeded.update(_jobs(event))

    def _each_once(self) -> None:
        """Whoever was answered has what he submitted; nobody has it twice."""
        there = Counter(job.name for job in self.ensemble.client.jobs("p", limit=1 << 20))
        wanted = Counter({entry.name: max(1, entry.size) for entry in self.ensemble.ledger.open()})
        self._hold(there == wanted, f"more or less than was submitted: {there - wanted}, {wanted - there}")

    def _entry(self, entry: Accepted) -> None:
        for index in entry.indices():
            id = entry.id if index is None else f"{entry.id}[{index}]"
            job = self.ensemble.client.job(id)
            assert isinstance(job, JobDetail)
            said = f"{entry.name} ({id})"
            self._hold(job.state == entry.work.state, f"{said} is {job.state}: {job.reason} {job.tail}")
            self._history(entry, job, said)
            if job.state == "succeeded":
                self._hold(self._succeeded[id] == 1, f"{said} has succeeded {self._succeeded[id]} times")
                self._outputs(entry, id, index, said)
            else:
                self._hold(self._succeeded[id] == 0, f"{said} is {job.state} and has succeeded as well")

    def _history(self, entry: Accepted, job: JobDetail, said: str) -> None:
        outcomes = [attempt.outcome for attempt in job.history]
        self.attempts.update(str(outcome) for outcome in outcomes)
        self.late += sum(attempt.late for attempt in job.history)
        numbers = [attempt.number for attempt in job.history]
        self._hold(numbers == [*range(1, len(numbers) + 1)], f"{said}: attempts are numbered {numbers}")
        good = outcomes.count("ok")
        self._hold(good == (job.state == "succeeded"), f"{said}: {good} attempts are ok: {outcomes}")
        blamed = outcomes.count("failed") + outcomes.count("exceeded")
        facts = entry.work.facts
        most = int(str(facts.get("max_failures", 1)))
        least = most if job.state == "failed" else 0
        allowed = most if job.state == "failed" else most - 1
        self._hold(least <= blamed <= allowed, f"{said}: {blamed} attempts failed: {outcomes}")
        self._hold(job.failures == blamed, f"{said} counts {job.failures} failures and had {blamed}")

    def _outputs(self, entry: Accepted, id: str, index: int | None, said: str) -> None:
        client = self.ensemble.client
        listed = {file.path: file for file in client.outputs(id)}
        for path, data in entry.work.files(index).items():
            self._hold(path in listed, f"{said} has no {path}, but {sorted(listed)}")
            wanted = hashlib.sha256(data).hexdigest()
            file = listed[path]
            self._hold(file.size == len(data), f"{said}: {path} is {file.size} bytes, not {len(data)}")
            fetched = read(client, id, path)
            self._hold(hashlib.sha256(fetched).hexdigest() == wanted, f"{said}: {path} is not what was written")
            self.files += 1
            self.bytes += len(fetched)

    # --- nothing left ---

    def _kept(self) -> list[str]:
        """What workers that have nothing to do still keep."""
        patterns = ("*/runs/*", "*/checkpoints/*", "cache/part-*")
        found = [
            str(path) for machine in self.ensemble.machines for each in patterns for path in machine.seen.glob(each)
        ]
        for machine in self.ensemble.machines:
            homes = [path for path in machine.seen.iterdir() if path.is_dir() and path.name != "cache"]
            found += [str(path) for path in homes[1:]] if len(homes) > 1 else []
        return found

    def _no_processes(self) -> None:
        """Nothing that a job has started runs any more, whatever it did to hide."""
        for note in self.ensemble.notes.iterdir():
            if not note.name.isdigit():
                continue
            found = tree.stat(int(note.name))
            if found is not None and found.started == int(note.read_bytes()) and found.state not in "ZX":
                words = tree.read(f"/proc/{note.name}/cmdline").replace(b"\0", b" ").decode(errors="replace")
                raise Wrong(f"process {note.name} of a job that has ended still runs: {words}")
            note.unlink()

    def _free(self) -> None:
        """What nobody refers to is removed, when the disk gets tight."""
        client = self.ensemble.client
        client.set_setting("min_free_space", "1000G")
        try:
            self.ensemble.until(lambda: not self.books.unused(), "what nobody refers to is removed")
        except AssertionError:
            raise Wrong(f"not removed while the disk is full: {self.books.unused()[:5]}") from None
        finally:
            client.set_setting("min_free_space", str(MIN_FREE))
        self.ensemble.until(lambda: not client.status().intake_paused, "intake goes on")
        if not self.ensemble.hold(lambda: not self.books.strays(), 10.0):  # a row goes before its file
            self.ensemble.tell(f"    {len(self.books.strays())} chunk files are left to the sweep at a start")

    def end(self) -> None:
        """Everything is stopped in order: then nothing is left anywhere but what was kept on purpose."""
        ensemble = self.ensemble
        self._gone()
        ensemble.lab.dismiss(*(machine.running for machine in ensemble.machines))
        for machine in ensemble.machines:
            code = machine.running.process.returncode
            self._hold(code == 0, f"{machine.name} left with {code}")
            left = [path.name for path in machine.seen.iterdir() if path.name != "cache"]
            self._hold(not left, f"{machine.name} has left {left}")
            self._hold(not [*machine.seen.glob("cache/part-*")], f"{machine.name} has left parts in its cache")
        ensemble.lab.stop_server()
        self._hold(not os.listdir(ensemble.lab.directory / "tmp"), "temporary files are left")
        known = {
            "chunks",
            "copernicus.db",
            "copernicus.db.lock",
            "lock",
            "backups",
            "projects",
            "relay-cache",
            "custody",
        }
        left = [path.name for path in ensemble.run_directory.iterdir() if path.name not in known]
        self._hold(not left, f"the server has left {left} in its run directory")
        self._directories()
        for line in (*self.books.wrong(), *self.books.collected()):
            raise Wrong(line)
        self.logs()
        self._no_processes()

    def _directories(self) -> None:
        """Of what functions have on disk only the persistent directory of the one that has one."""
        projects = self.ensemble.run_directory / "projects"
        left = [str(path.relative_to(projects)) for path in projects.glob("*/*/*") if "/files/" not in str(path)]
        wanted = bool(self.ensemble.ledger.woven)
        fine = len(left) == wanted and all(path.rpartition("/")[2].startswith("persistent-") for path in left)
        self._hold(fine, f"directories of functions are left: {left}")
        self._hold(len(os.listdir(projects)) <= 1, "directories of projects without networks are left")

    def _gone(self) -> None:
        """What was removed is gone for people."""
        for entry in list(self.ensemble.ledger.accepted.values())[-3:]:
            try:
                self.ensemble.client.job(entry.id)
            except NotFound:
                continue
            raise Wrong(f"{entry.name} was removed and is there")


def _jobs(event: EventView) -> list[str]:
    jobs = event.details.get("jobs", ())
    return [str(job) for job in jobs] or [event.subject]
