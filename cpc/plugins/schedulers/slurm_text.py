"""What Slurm's commands print, read. Everything here takes text and gives facts; nothing here asks anybody.

Fields are parted by control characters that we ask for and that no name has by chance; what people may have typed (comment,
name) comes last. Times are asked for as seconds since 1970 (SLURM_TIME_FORMAT=%s).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cpc.api import Damaged, Seen, SeenOutcome, SeenState

FIELD, ROW = "\x1f", "\x1e"
MARK = "cpc:"

SQUEUE_FIELDS = (
    "JobArrayID", "State", "Reason", "NodeList", "RestartCnt", "exit_code", "TimeLeft", "SubmitTime", "StartTime",
    "EndTime", "NumCPUs", "Comment", "Name",
)  # fmt: skip
SQUEUE_FORMAT = ",".join(f"{field}:{FIELD}" for field in SQUEUE_FIELDS[:-1]) + f",{SQUEUE_FIELDS[-1]}:{ROW}"
SACCT_FIELDS = ("JobID", "State", "ExitCode", "NodeList", "Submit", "Start", "End", "AllocCPUS", "Comment", "JobName")
SACCT_FORMAT = ",".join(SACCT_FIELDS)

#: How the states of Slurm (their first word) end an allocation.
_OUTCOMES = {
    "COMPLETED": SeenOutcome.OK,
    "FAILED": SeenOutcome.FAILED,
    "OUT_OF_MEMORY": SeenOutcome.FAILED,
    "TIMEOUT": SeenOutcome.TIMEOUT,
    "DEADLINE": SeenOutcome.TIMEOUT,
    "PREEMPTED": SeenOutcome.PREEMPTED,
    "NODE_FAIL": SeenOutcome.NODE_FAILED,
    "BOOT_FAIL": SeenOutcome.NODE_FAILED,
    "CANCELLED": SeenOutcome.CANCELLED,
    "REVOKED": SeenOutcome.CANCELLED,
}
_STATES = {
    "PENDING": SeenState.WAITING,
    "REQUEUED": SeenState.WAITING,
    "REQUEUE_FED": SeenState.WAITING,
    "REQUEUE_HOLD": SeenState.WAITING,
    "RESV_DEL_HOLD": SeenState.WAITING,
    "SPECIAL_EXIT": SeenState.WAITING,
    "CONFIGURING": SeenState.CONFIGURING,
    "RUNNING": SeenState.RUNNING,
    "COMPLETING": SeenState.RUNNING,  # its nodes are not free yet, and it may be about to be requeued
    "RESIZING": SeenState.RUNNING,
    "SIGNALING": SeenState.RUNNING,
    "STAGE_OUT": SeenState.RUNNING,
    "STOPPED": SeenState.RUNNING,
    "SUSPENDED": SeenState.RUNNING,
}
#: Reasons for waiting that do not go away by themselves.
_STUCK = re.compile(
    r"JobHeld|launch failed requeued held|requeued held|DependencyNeverSatisfied|BadConstraints|"
    r"Invalid(Account|QOS)|PartitionConfig|AccountNotAllowed|QOSNotAllowed|PartitionTimeLimit|PartitionNodeLimit|"
    r"(Assoc|QOS)Max\w*PerJob|AssocMaxWall|QOSMaxWall|AssocMaxNode(?!s?PerUser)|ReservationDeleted|job hold",
    re.IGNORECASE,
)
_ID = re.compile(r"(\d{1,18})(?:_(\d{1,9}|\[[^\]]{1,4096}\]))?")
_COMMENT = re.compile(rf"{MARK}([A-Za-z0-9][A-Za-z0-9-]{{0,62}})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}\.([A-Za-z0-9][A-Za-z0-9-]{0,62})")
_SPAN = re.compile(r"(?:(\d+)-)?(\d{1,2}):(\d{2}):(\d{2})|(\d+):(\d{2})")
MAX_NODES = 1 << 16


def rows(text: str, fields: int, end: str = "\n", torn: bool = False) -> Iterator[list[str]]:
    """The rows of `text`, each of `fields` fields, without the header. Damaged when it has no header, when the last row was
    cut off or when one has too few fields: nothing at all is not the same as no jobs.

    `torn`: pass over rows with too few, which the line breaks in somebody's job name make.
    """
    *whole, rest = text.split(end)
    if not whole or rest.strip():
        raise Damaged(f"Slurm's answer breaks off: …{rest[-80:]!r}", "ask again; see whether slurmctld is well")
    for place, row in enumerate(whole):
        parts = row.removeprefix("\n").split(FIELD, fields - 1)
        if len(parts) == fields and bool(place) != (parts[0].upper() in ("JOBID", "JOBARRAYID")):
            if place:
                yield parts
        elif not torn or not place:
            raise Damaged(
                f"Slurm answered {row[:120]!r}, which is no row of {fields} fields", "see what that command is"
            )


def token_of(comment: str, name: str) -> str:
    """Our token: what the comment says, or, where sites write their own into it, the end of the job's name; "" if none."""
    told = _COMMENT.fullmatch(comment) or _NAME.fullmatch(name)
    return told.group(1) if told else ""


def job_id(text: str) -> tuple[str, tuple[int, ...]]:
    """(number, indices) of `12`, `12_3` and `12_[0,4-8:2%2]`."""
    found = _ID.fullmatch(text)
    if not found:
        raise Damaged(f"{text[:80]!r} is not the id of a job", "see what that command is")
    index = found.group(2)
    if index is None:
        return found.group(1), ()
    return found.group(1), indices(index.strip("[]")) if index.startswith("[") else (int(index),)


def indices(text: str) -> tuple[int, ...]:
    """The tasks that `0,4-8:2%2` names."""
    result: list[int] = []
    for part in text.partition("%")[0].split(","):
        found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?", part)
        if not found:
            raise Damaged(f"{text[:80]!r} does not name tasks of an array")
        low = int(found.group(1))
        high = int(found.group(2) or low)
        if not 0 <= high - low < MAX_NODES:
            raise Damaged(f"{text[:80]!r} names too many tasks")
        result.extend(range(low, high + 1, int(found.group(3) or 1) or 1))
    return tuple(result)


def hosts(text: str) -> tuple[str, ...]:
    """The nodes that `n[1-3,08-10],c1` names. Empty for what stands for none. Damaged when it cannot be read."""
    if text in ("", "(null)", "None", "None assigned", "Unknown", "n/a", "N/A"):
        return ()
    result: list[str] = []
    for part in _commas(text):
        result.extend(_spread(part))
        if len(result) > MAX_NODES:
            raise Damaged(f"{text[:80]!r} names too many nodes")
    return tuple(result)


def _commas(text: str) -> Iterator[str]:
    """Split at the commas that are not in brackets."""
    depth, start = 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            yield text[start:place]
            start = place + 1
    yield text[start:]


def _spread(text: str) -> Iterator[str]:
    head, bracket, rest = text.partition("[")
    if not bracket:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}", text):
            raise Damaged(f"{text[:80]!r} is not the name of a node")
        yield text
        return
    inside, closed, tail = rest.partition("]")
    if not closed or "[" in inside:
        raise Damaged(f"{text[:80]!r} is not a list of nodes")
    for part in inside.split(","):
        found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)
        if not found:
            raise Damaged(f"{text[:80]!r} is not a list of nodes")
        low, high = found.group(1), found.group(2) or found.group(1)
        if not 0 <= int(high) - int(low) < MAX_NODES:
            raise Damaged(f"{text[:80]!r} names too many nodes")
        for number in range(int(low), int(high) + 1):
            yield from _spread(f"{head}{number:0{len(low)}d}{tail}")


def when(text: str) -> int:
    """UTC microseconds from seconds; 0 for N/A, Unknown, None and whatever else is no time."""
    return int(text) * 1_000_000 if re.fullmatch(r"\d{1,12}", text) else 0


def span(text: str) -> int:
    """Seconds of `1-02:03:04`, `02:03:04` or `3:04`; −1 for UNLIMITED, INVALID and the like."""
    found = _SPAN.fullmatch(text)
    if not found:
        return -1
    days, hours, minutes, seconds, only_minutes, only_seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes + only_minutes) * 60 + seconds + only_seconds


def exit_of(status: int) -> int:
    """An exit code from what wait(2) says: squeue prints it raw. 128 + signal when one ended it; −1 when it is none."""
    if not 0 <= status < 1 << 16:
        return -1
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8


def told_exit(outcome: SeenOutcome | None, code: int) -> int:
    """The exit code where there is one: the 0 of what was cancelled or timed out stands for none."""
    return code if outcome in (SeenOutcome.OK, SeenOutcome.FAILED) or (outcome and code > 0) else -1


def state_of(text: str, reason: str) -> tuple[SeenState, SeenOutcome | None]:
    """What a state of Slurm means. `CANCELLED by 1000` and `NODE_FAIL+` are read as well."""
    word = re.split(r"[ +]", text.strip(), maxsplit=1)[0].upper()
    if word in _OUTCOMES:
        outcome = _OUTCOMES[word]
        return SeenState.ENDED, SeenOutcome.NODE_FAILED if reason == "NodeDown" and word == "FAILED" else outcome
    if word in _STATES:
        return _STATES[word], None
    raise Damaged(f"Slurm says {text[:40]!r} of a job, a state that is not known here", "report this, with 'sinfo -V'")


def restarts_of(told: int, ending: bool) -> int:
    """How often it was started again. As a run ends, Slurm may have counted the next one already."""
    return max(told - ending, 0)


def is_stuck(reason: str) -> bool:
    """Whether what an allocation waits for will not come by itself."""
    return bool(_STUCK.search(reason))


def seen_in_squeue(text: str) -> Iterator[Seen]:
    """What `squeue --array` with SQUEUE_FORMAT says of jobs that bear a token of somebody's; others are passed over."""
    for row in rows(text, len(SQUEUE_FIELDS), ROW):
        native, state, reason, nodes, restarts, code, left, submitted, started, ended, cores, comment, name = row
        token = token_of(comment, name)
        if not token:
            continue
        _, index = job_id(native)
        here, outcome = state_of(state, reason)
        told = {"COMPLETING": "ending", "SUSPENDED": "suspended", "STOPPED": "stopped"}.get(state, "")
        waits = here is SeenState.WAITING
        yield Seen(
            native=native,
            token=token,
            index=index[0] if index else 0,
            state=here,
            outcome=outcome,
            reason=told or ("" if reason in ("None", "(null)") else reason),
            stuck=waits and is_stuck(reason),
            submitted=when(submitted),
            started=0 if waits else when(started),
            ended=when(ended) if outcome else 0,
            left=span(left) if here in (SeenState.RUNNING, SeenState.CONFIGURING) else -1,
            nodes=hosts(nodes),
            restarts=restarts_of(number(restarts), state == "COMPLETING"),
            cores=0 if waits else max(number(cores), 0),
            exit=told_exit(outcome, exit_of(number(code))),
        )


def seen_in_sacct(text: str) -> Iterator[Seen]:
    """What `sacct -XDP` with SACCT_FORMAT says of jobs that bear a token: one Seen for each record, also of one id.

    States in which nothing has ended are given as they are: what slurmctld does not know of them, it has lost.
    """
    for row in rows(text, len(SACCT_FIELDS), torn=True):
        native, state, code, nodes, submitted, started, ended, cores, comment, name = row
        token = token_of(comment, name)
        if not token:
            continue
        job, tasks = job_id(native)
        here, outcome = state_of(state, "")
        status, _, by = code.partition(":")
        for index in tasks or (0,):
            yield Seen(
                native=f"{job}_{index}" if tasks else job,
                token=token,
                index=index,
                state=here,
                outcome=outcome,
                reason=state if state.startswith("CANCELLED by") else "",
                submitted=when(submitted),
                started=when(started),
                ended=when(ended) if outcome else 0,
                nodes=hosts(nodes),
                cores=max(number(cores), 0),
                exit=told_exit(outcome, 128 + number(by) if number(by) > 0 else number(status)),
            )


def number(text: str) -> int:
    """`text` as a number; −1 when it is none."""
    return int(text) if re.fullmatch(r"\d{1,18}", text) else -1
