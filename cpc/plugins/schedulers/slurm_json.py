"""What slurmrestd answers, read. The shapes of v0.0.38 and those that came after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cpc.api import Check, Damaged, NodeSeen, NodeState, Seen, SeenOutcome, SeenState, Wanted
from cpc.plugins.schedulers import slurm_text
from cpc.plugins.schedulers.slurm_nodes import gpus, node_state


def number(value: Any) -> int:
    """An int of `5`, `{"set": true, "infinite": false, "number": 5}` or `null`; −1 when there is none."""
    if isinstance(value, dict):
        value = value.get("number") if value.get("set", True) and not value.get("infinite") else None
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _words(value: Any) -> tuple[str, ...]:
    """States are one word in v0.0.38 and a list of them later."""
    if isinstance(value, str):
        return (value,)
    return tuple(str(word) for word in value) if isinstance(value, list) and value else ("",)


def _rows(told: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    rows = told.get(name)
    if not isinstance(rows, list):
        raise Damaged(f"slurmrestd answered without {name}", "see what answers at the pool's url")
    for row in rows:
        if not isinstance(row, dict):
            raise Damaged(f"slurmrestd answered {name} that cannot be read", "see what answers at the pool's url")
        yield row


def words_of(errors: Any) -> str:
    """What an answer's errors say, in one line."""
    told = []
    for one in errors if isinstance(errors, list) else ():
        if isinstance(one, dict):
            told += [_text(one.get(key)) for key in ("error", "description") if one.get(key)]
        elif isinstance(one, str):
            told.append(one)
    return "; ".join(dict.fromkeys(told))[:600]


def seen_in_jobs(told: Mapping[str, Any], user: str, now: int) -> Iterator[Seen]:
    """What slurmctld knows of a user's jobs that bear a token. `now`: seconds since 1970, for the time that is left."""
    for row in _rows(told, "jobs"):
        comment, name = _text(row.get("comment")), _text(row.get("name"))
        token = slurm_text.token_of(comment, name)
        if not token or _text(row.get("user_name")) not in ("", user):
            continue
        states = _words(row.get("job_state"))
        state = next((word for word in ("COMPLETING", "CONFIGURING") if word in states), states[0])
        reason = _text(row.get("state_reason"))
        here, outcome = slurm_text.state_of(state, reason)
        job = number(row.get("job_id"))
        for native, index in _elements(row, job):
            yield Seen(
                native=native,
                token=token,
                index=index,
                state=here,
                outcome=outcome,
                reason="" if reason == "None" else reason,
                stuck=here is SeenState.WAITING and slurm_text.is_stuck(reason),
                submitted=max(number(row.get("submit_time")), 0) * 1_000_000,
                started=max(number(row.get("start_time")), 0) * 1_000_000 if here is not SeenState.WAITING else 0,
                ended=max(number(row.get("end_time")), 0) * 1_000_000 if outcome else 0,
                left=_left(row, here, now),
                nodes=slurm_text.hosts(_text(row.get("nodes"))),
                restarts=slurm_text.restarts_of(number(row.get("restart_cnt")), state == "COMPLETING"),
                cores=max(number(row.get("cpus")), 0) if here is not SeenState.WAITING else 0,
                exit=_exit(row.get("exit_code")) if outcome else -1,
            )


def _left(row: Mapping[str, Any], state: SeenState, now: int) -> int:
    end = number(row.get("end_time"))
    return max(end - now, 0) if state in (SeenState.RUNNING, SeenState.CONFIGURING) and end > 0 else -1


def _exit(value: Any) -> int:
    """A raw wait status (v0.0.38), or what later versions make of it."""
    if isinstance(value, dict):
        code, signal = number(value.get("return_code")), value.get("signal")
        by = number(signal.get("id")) if isinstance(signal, dict) else -1
        return 128 + by if by > 0 else code
    return slurm_text.exit_of(number(value))


def _elements(row: Mapping[str, Any], job: int) -> Iterator[tuple[str, int]]:
    """(native id, index) of a job, or of each element of an array that still waits as one."""
    if job <= 0:
        raise Damaged("slurmrestd told of a job without an id", "see what answers at the pool's url")
    array, task = number(row.get("array_job_id")), number(row.get("array_task_id"))
    waiting = _text(row.get("array_task_string"))
    if array > 0 and waiting:
        for index in slurm_text.indices(waiting):
            yield f"{array}_{index}", index
    elif array > 0 and task >= 0:
        yield f"{array}_{task}", task
    else:
        yield str(job), 0


def seen_in_records(told: Mapping[str, Any], user: str) -> Iterator[Seen]:
    """What accounting knows of a user's jobs that bear a token. v0.0.38 calls every exit code a success: then it is not told."""
    for row in _rows(told, "jobs"):
        comment = row.get("comment")
        words = _text(comment.get("job")) if isinstance(comment, dict) else ""
        token = slurm_text.token_of(words, _text(row.get("name")))
        if not token or _text(row.get("user")) not in ("", user):
            continue
        state = row.get("state")
        current = _words(state.get("current"))[0] if isinstance(state, dict) else ""
        here, outcome = slurm_text.state_of(current, "")
        array, times = row.get("array"), row.get("time")
        array = array if isinstance(array, dict) else {}
        times = times if isinstance(times, dict) else {}
        job = number(row.get("job_id"))
        whole, task = number(array.get("job_id")), number(array.get("task_id"))
        submitted, started, ended = (
            max(number(times.get(key)), 0) * 1_000_000 for key in ("submission", "start", "end")
        )
        code = _exit(row.get("exit_code"))
        yield Seen(
            native=f"{whole}_{task}" if whole > 0 and task >= 0 else str(job),
            token=token,
            index=max(task, 0),
            state=here,
            outcome=outcome,
            submitted=submitted,
            started=started,
            ended=ended if outcome else 0,
            nodes=slurm_text.hosts(_text(row.get("nodes"))),
            exit=-1 if outcome is None or (outcome is SeenOutcome.FAILED and not code) else code,
        )


def nodes(told: Mapping[str, Any]) -> tuple[NodeSeen, ...]:
    """The nodes, by name."""
    return tuple(sorted(_nodes(_rows(told, "nodes")), key=lambda node: node.name))


def _nodes(rows: Iterable[dict[str, Any]]) -> Iterator[NodeSeen]:
    for row in rows:
        states = (*_words(row.get("state")), *(word for word in _words(row.get("state_flags")) if word))
        flags = tuple(word.upper() for word in states)
        free = number(row.get("free_memory", row.get("free_mem")))
        cores = max(number(row.get("cpus")), 0)
        state = node_state(flags)
        partitions = row.get("partitions")
        yield NodeSeen(
            name=_text(row.get("name")),
            address=_text(row.get("address")),
            state=state,
            flags=flags,
            cores=cores,
            cores_used=min(max(number(row.get("alloc_cpus")), 0), cores),
            memory=max(number(row.get("real_memory")), 0) << 20,
            memory_used=max(number(row.get("alloc_memory")), 0) << 20,
            memory_free=free << 20 if free >= 0 and state not in (NodeState.DOWN, NodeState.OFF) else -1,
            gpus=gpus(_text(row.get("gres"))),
            gpus_used=gpus(_text(row.get("gres_used"))),
            reason=_text(row.get("reason")),
            reason_by=_text(row.get("reason_set_by_user")),
            reason_at=max(number(row.get("reason_changed_at")), 0) * 1_000_000,
            queues=tuple(sorted(str(one) for one in partitions)) if isinstance(partitions, list) else (),
        )


def check_partition(told: Mapping[str, Any], wanted: Wanted, minutes: int) -> tuple[Check, ...]:
    """Whether a partition is there, up, and large enough."""
    rows = list(_rows(told, "partitions"))
    for row in rows:
        flags = row.get("flags") if isinstance(row.get("flags"), list) else []
        if _text(row.get("name")) == wanted.queue or (
            not wanted.queue and "default" in [str(f).lower() for f in flags or []]
        ):
            break
    else:
        there = ", ".join(_text(row.get("name")) for row in rows[:20])
        words = f"Slurm has no partition {wanted.queue}" if wanted.queue else "Slurm has no default partition"
        return (Check("partition", False, words, f"use one of: {there}"),)
    name, state = _text(row.get("name")), _text(row.get("state"))
    up = state in ("UP", "")
    checks = [
        Check("partition", up, f"partition {name} is {state.lower()}", "" if up else "choose another queue, or wait")
    ]
    most = number(row.get("max_time_limit"))
    fits = most < 0 or minutes <= most
    words = f"{minutes} min are {'allowed' if fits else f'more than the {most} min'} in partition {name}"
    checks.append(Check("walltime", fits, words, "" if fits else f"set the pool's walltime to {most * 60} s or less"))
    total = number(row.get("total_nodes"))
    fits = total < 0 or wanted.nodes <= total
    words = f"{wanted.nodes} nodes are {'allowed' if fits else f'more than the {total}'} in partition {name}"
    checks.append(Check("size", fits, words, "" if fits else f"ask for {total} nodes or fewer"))
    return tuple(checks)


def controllers_up(told: Mapping[str, Any]) -> bool:
    """Whether any slurmctld answers."""
    return any(_text(row.get("ping")).upper() == "UP" or row.get("responding") is True for row in _rows(told, "pings"))
