"""Slurm through slurmrestd: for servers on machines that have none of Slurm's commands and no munge, with a JWT.

Written for the JSON of v0.0.38 (Slurm 22.05), on which it is tested, and for the changed shapes of its successors: states
became lists, and numbers became {"set": …, "number": …}.
"""

from __future__ import annotations

import base64
import binascii
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from cpc.api import (
    BadInput,
    Check,
    CopernicusError,
    Damaged,
    Described,
    Handle,
    HttpAnswer,
    NodeSeen,
    NotConnected,
    Refused,
    Scheduler,
    Seen,
    Setting,
    TooLarge,
    Tools,
    Unavailable,
    Unsettled,
    Wanted,
)
from cpc.plugins.schedulers import slurm_json, slurm_script, slurm_words
from cpc.plugins.schedulers.slurm import by_identity, choose, ended_by_records, whole_arrays
from cpc.plugins.schedulers.slurm_text import MARK

_SOON = 3600
#: How long ago (seconds) what is polled may have ended: all of a user's jobs of that time are told.
_LONG = 7 * 86_400
_OPTIONS = {
    "--constraint": "constraints", "--qos": "qos", "--reservation": "reservation", "--licenses": "licenses", "--nice": "nice",
    "--wckey": "wckey", "--prefer": "prefer", "--gres": "gres", "--tmp": "temporary_disk_per_node",
}  # fmt: skip


class SlurmRest(Scheduler):
    """Slurm, through slurmrestd."""

    name: ClassVar[str] = "slurm-rest"
    summary: ClassVar[str] = "Slurm, through slurmrestd with a JWT; no Slurm on the server's machine is needed"
    #: What names the elements that wait is broken off after 64 letters: that many can be named whichever of them are gone.
    most_at_once: ClassVar[int] = 40
    excludes: ClassVar[bool] = False
    settle_time: ClassVar[float] = 60.0

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        """url, user, token_file, api, path, options, timeout."""
        return (
            Setting("url", "where slurmrestd is", "", "https://slurm.example.org:6820"),
            Setting("user", "the Slurm user to act as", "", "alice"),
            Setting("token_file", "a file with the user's JWT, readable by the server alone", "", "/etc/cpc/slurm.jwt"),
            Setting("api", "the version of the API", "v0.0.38", "v0.0.40"),
            Setting("path", "the PATH that scripts begin with", "/usr/local/bin:/usr/bin:/bin"),
            Setting("options", "options of sbatch for all requests of the pool", "", "--constraint=ib --qos=long"),
            Setting("timeout", "seconds that one call may take", "60", "120"),
        )

    def __init__(self, tools: Tools, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(tools, settings)
        for name in ("url", "user", "token_file"):
            if not self.set[name]:
                raise BadInput(f"the setting {name} is missing", "slurmrestd needs url, user and token_file")
        if not self.set["api"].startswith("v0.0."):
            raise BadInput(f"api={self.set['api']} is not a version of slurmrestd's API", "write for example v0.0.38")
        self._url = self.set["url"].rstrip("/")
        self._api = self.set["api"]
        try:
            self._timeout = float(self.set["timeout"])
            self._options = tuple(shlex.split(self.set["options"]))
        except ValueError as error:
            raise BadInput(f"the settings timeout or options cannot be read: {error}") from None
        if not 1 <= self._timeout <= 3600:
            raise BadInput(f"timeout={self.set['timeout']} is not a number of seconds from 1 to 3600")
        _properties(self._options)

    def _token(self) -> str:
        """The JWT, read anew each time: it is renewed in place. Unavailable when it cannot be read."""
        path = self.set["token_file"]
        try:
            token = Path(path).read_text(encoding="ascii").strip().removeprefix("SLURM_JWT=")
        except (OSError, ValueError) as error:
            words = getattr(error, "strerror", None) or "it is not text"
            raise Unavailable(
                f"the token in {path} cannot be read: {words}", "write it with 'scontrol token'"
            ) from None
        # A line break at its end is what `scontrol token >` writes; one within it would be another header.
        if not token or not token.isprintable() or " " in token:
            words = "it is empty" if not token else "it is more than one word"
            raise Unavailable(f"{path} is no token: {words}", "write it with 'scontrol token', and nothing else")
        return token

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What slurmrestd answers, read. Refused, Unavailable, Damaged; NotConnected when it cannot have been asked."""
        headers = {"X-SLURM-USER-NAME": self.set["user"], "X-SLURM-USER-TOKEN": self._token()}
        content = b""
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        try:
            answer = await self.tools.http(method, self._url + path, headers, content, self._timeout)
        except TooLarge as error:
            raise Damaged(error.message, "see what answers at the pool's url") from None
        return self._read(answer, path)

    def _read(self, answer: HttpAnswer, path: str) -> dict[str, Any]:
        text = answer.body.decode("utf-8", "replace")
        if answer.status == 404 and "URL" in text:
            raise Refused(
                f"slurmrestd has no {path}", "set the pool's 'api' to a version that it has: see its /openapi/v3"
            )
        try:
            told = msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, RecursionError):
            told = None
        errors = told.get("errors") if isinstance(told, dict) else None
        words = slurm_json.words_of(errors) or " ".join(text.split())[:200]
        # To a token whose time is over it says 500 and "Unspecified error".
        expiry = self._expiry() if answer.status >= 400 else ""
        if answer.status in (401, 403) or (answer.status >= 400 and ("uthentication" in words or "is over" in expiry)):
            hint = expiry or "write a new one with 'scontrol token'"
            raise Unavailable(f"slurmrestd does not accept the token: {words}", hint)
        if answer.status >= 400 or errors:
            raise slurm_words.failure(words, f"do {path}", answer.status)
        if not isinstance(told, dict):
            raise Damaged(f"slurmrestd answered {text[:120]!r}", "see what answers at the pool's url")
        return told

    def _expiry(self) -> str:
        """Words when the token's own time is over, or nearly."""
        until = _expires(self._token())
        left = until - self.tools.clock.now() // 1_000_000
        if not until or left > _SOON:
            return ""
        told = f"is over since {-left} s" if left < 0 else f"will be over in {left} s"
        return f"its time {told}: write a new one with 'scontrol token username={self.set['user']} lifespan=SECONDS'"

    # --- allocations ---

    def _request(self, wanted: Wanted, hide: bool = False) -> dict[str, Any]:
        wanted.checked()
        if wanted.count > self.most_at_once:
            raise BadInput(
                f"{wanted.count} allocations at once are more than {self.most_at_once}", "ask for fewer at once"
            )
        job: dict[str, Any] = {
            "name": slurm_script.job_name(wanted), "comment": f"{MARK}{wanted.token}", "nodes": [wanted.nodes, wanted.nodes],
            "tasks": wanted.nodes, "tasks_per_node": 1, "cpus_per_task": wanted.cores,
            "time_limit": slurm_script.minutes(wanted.walltime), "current_working_directory": wanted.directory,
            "standard_output": wanted.output or "/dev/null", "standard_error": wanted.output or "/dev/null",
            "open_mode": "append", "requeue": wanted.requeue, "environment": {"PATH": self.set["path"]},
        }  # fmt: skip
        if wanted.exclude:
            raise BadInput("nodes cannot be excluded through slurmrestd", "use the scheduler slurm, or drain the nodes")
        for name, value in (("partition", wanted.queue), ("account", wanted.account)):
            if value:
                job[name] = value
        if wanted.memory:
            job["memory_per_node"] = -(-wanted.memory >> 20)
        if wanted.gpus:
            job["gres"] = f"gpu:{wanted.gpus}"
        if wanted.exclusive:
            job["exclusive"] = "true"
        if wanted.lead:
            job["signal"] = f"B:TERM@{min(wanted.lead, 65535)}"
        if wanted.count > 1:
            job["array"] = f"0-{wanted.count - 1}"
        job |= _properties((*self._options, *wanted.options))
        return {"job": job, "script": slurm_script.script(wanted, hide)}

    def describe(self, wanted: Wanted) -> Described:
        """The call and its body."""
        request = self._request(wanted, hide=True)
        body = json.dumps({"job": request["job"], "script": "…"}, indent=1, ensure_ascii=False)
        return Described(f"POST {self._url}/slurm/{self._api}/job/submit\n{body}", request["script"])

    async def submit(self, wanted: Wanted) -> tuple[str, ...]:
        """One call; an array where there are several."""
        request = self._request(wanted)
        self._token()
        try:
            told = await self.call("POST", f"/slurm/{self._api}/job/submit", request)
        except NotConnected:
            raise
        except Unavailable as error:
            if "does not accept the token" in error.message:
                raise
            raise Unsettled(error.message, error.hint) from None
        number = slurm_json.number(told.get("job_id"))
        if number <= 0:
            raise Damaged("slurmrestd answered a submission without a job's id", "see its log")
        return (str(number),) if wanted.count == 1 else tuple(f"{number}_{index}" for index in range(wanted.count))

    async def _queued(self) -> Iterable[Seen]:
        told = await self.call("GET", f"/slurm/{self._api}/jobs")
        return slurm_json.seen_in_jobs(told, self.set["user"], self.tools.clock.now() // 1_000_000)

    async def _recorded(self, since: int) -> Iterable[Seen] | None:
        """What accounting knows of jobs that ran after `since` (seconds since 1970); None when it does not answer."""
        try:
            told = await self.call("GET", f"/slurmdb/{self._api}/jobs?start_time=uts{since}")
        except (Refused, Unavailable) as error:
            return () if slurm_words.no_accounts(error.message) or "Nothing found" in error.message else None
        return slurm_json.seen_in_records(told, self.set["user"])

    async def poll(self, handles: Sequence[Handle]) -> tuple[Seen, ...]:
        """One call; for those that slurmctld does not know, another."""
        if not handles:
            return ()
        known = by_identity(await self._queued())
        told = [found for handle in handles if (found := choose(known, handle))]
        missing = [handle for handle in handles if choose(known, handle) is None]
        if not missing:
            return tuple(told)
        recorded = await self._recorded(self.tools.clock.now() // 1_000_000 - _LONG)
        if recorded is None:
            return tuple(told)
        records = by_identity(recorded)
        return tuple(told) + tuple(ended_by_records(records, handle) for handle in missing)

    async def cancel(self, handles: Sequence[Handle]) -> None:
        """One call to see that they are still ours, and one for each."""
        if not handles:
            return
        for native in whole_arrays(by_identity(await self._queued()), handles):
            try:
                await self.call("DELETE", f"/slurm/{self._api}/job/{native}")
            except CopernicusError as error:
                if "already complet" not in error.message and "Invalid job id" not in error.message:
                    raise

    async def adopt(self, prefix: str, since: int = 0) -> tuple[Seen, ...]:
        """One call for what is there, another for what has ended and been forgotten."""
        found = [one for one in await self._queued() if one.token.startswith(prefix)]
        there = {(one.token, one.index) for one in found}
        recorded = await self._recorded(since // 1_000_000 or self.tools.clock.now() // 1_000_000 - 86_400)
        records = by_identity(one for one in recorded or () if one.token.startswith(prefix))
        old = [ended_by_records(records, one[-1].handle) for identity, one in records.items() if identity not in there]
        return tuple(found) + tuple(one for one in old if not (since and one.ended and one.ended < since))

    # --- the system ---

    async def check(self, wanted: Wanted) -> tuple[Check, ...]:
        """The partition and its limits; slurmrestd cannot try a request without submitting it."""
        self._request(wanted)
        told = await self.call("GET", f"/slurm/{self._api}/partitions")
        return slurm_json.check_partition(told, wanted, slurm_script.minutes(wanted.walltime))

    async def nodes(self, queue: str = "") -> tuple[NodeSeen, ...]:
        """One call."""
        told = await self.call("GET", f"/slurm/{self._api}/nodes")
        nodes = slurm_json.nodes(told)
        if queue:
            nodes = tuple(node for node in nodes if queue in node.queues)
            if not nodes:
                raise Refused(
                    f"Slurm has no partition {queue} with nodes", "see 'sinfo -s' for the partitions there are"
                )
        return nodes

    async def resume(self, node: str) -> None:
        """Refused: this API cannot change nodes. A node that is not drained needs nothing."""
        found = [one for one in await self.nodes() if one.name == node]
        if not found or found[0].state.value in ("draining", "drained", "down"):
            await super().resume(node)

    async def diagnose(self) -> tuple[Check, ...]:
        """The token, slurmrestd, slurmctld."""
        try:
            expiry = self._expiry()
            mode = Path(self.set["token_file"]).stat().st_mode & 0o077
        except (OSError, Unavailable) as error:
            return (Check("token", False, str(error), "write it with 'scontrol token'"),)
        words = expiry or "the token is there, and its time is not over soon"
        checks = [Check("token", not expiry, words, expiry and "renew it before its time is over")]
        if mode:
            hint = f"chmod 600 {self.set['token_file']}"
            checks.append(Check("token mode", False, "others on this machine can read the token", hint))
        try:
            up = slurm_json.controllers_up(await self.call("GET", f"/slurm/{self._api}/ping"))
        except CopernicusError as error:
            return (*checks, Check("slurmrestd", False, error.message, error.hint))
        checks.append(Check("slurmrestd", True, f"slurmrestd answers at {self._url}"))
        words = "slurmctld is up" if up else "slurmrestd answers, and reaches no slurmctld"
        return (*checks, Check("slurmctld", up, words, "" if up else "see whether slurmctld runs: scontrol ping"))

    def on_every_node(self, wanted: Wanted) -> str:
        """srun, in a step that leaves the cores to the steps of jobs."""
        return slurm_script.on_every_node(wanted)

    def end_every_node(self) -> str:
        """scancel, with a signal: for the steps, not for the script."""
        return slurm_script.END_EVERY_NODE


def _properties(options: tuple[str, ...]) -> dict[str, str]:
    """What the API calls sbatch's options. BadInput for those that are ours or that it has no name for here."""
    slurm_script.check_options(options)
    found: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if name not in _OPTIONS or not equals:
            hint = f"it takes {', '.join(_OPTIONS)}, with =VALUE"
            raise BadInput(f"the option {option[:80]} cannot be given to slurmrestd", hint)
        found[_OPTIONS[name]] = value
    return found


def _expires(token: str) -> int:
    """When a JWT's time is over, in seconds since 1970; 0 when it does not say."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return int(claims.get("exp", 0))
    except (IndexError, ValueError, TypeError, AttributeError, OverflowError, binascii.Error):
        return 0
