"""Slurm's nodes, from what scontrol prints.

`scontrol show node` is asked, not sinfo: its states carry all their flags, and are up to date (sinfo has been seen to say
`mixed*` of a node that scontrol called DOWN).
"""

from __future__ import annotations

import re

from cpc.api import Damaged, NodeSeen, NodeState
from cpc.plugins.schedulers.slurm_text import number, when

_KEY = re.compile(r"(?:^| )([A-Z][A-Za-z:/_-]*)=")
_REASON = re.compile(r"(.*) ?\[([^\[\]@]*)@([^\[\]@]*)\]", re.DOTALL)


def node_in_scontrol(line: str) -> NodeSeen:
    """A node from one line of `scontrol show node --details --oneliner`."""
    typed, plain = "", line
    found = re.search(r" Reason=", line)
    if found:
        plain, typed = line[: found.start()], line[found.end() :]
    keys = list(_KEY.finditer(plain))
    fields: dict[str, str] = {}
    for place, key in enumerate(keys):
        until = keys[place + 1].start() if place + 1 < len(keys) else len(plain)
        fields.setdefault(key.group(1), plain[key.end() : until].strip())
    name, states = fields.get("NodeName", ""), fields.get("State", "")
    if not name or not states:
        raise Damaged(f"Slurm answered {line[:120]!r}, which is no node", "see what scontrol is")
    reason = _REASON.match(typed)
    flags = tuple(states.rstrip("*~#%$@^!-+").split("+"))
    cores, used = number(fields.get("CPUTot", "")), number(fields.get("CPUAlloc", ""))
    free = number(fields.get("FreeMem", ""))
    return NodeSeen(
        name=name,
        state=node_state(flags),
        flags=flags,
        cores=max(cores, 0),
        cores_used=max(used, 0),
        memory=max(number(fields.get("RealMemory", "")), 0) << 20,
        memory_used=max(number(fields.get("AllocMem", "")), 0) << 20,
        memory_free=-1 if free < 0 or "NOT_RESPONDING" in flags else free << 20,
        gpus=gpus(fields.get("Gres", "")),
        gpus_used=gpus(fields.get("GresUsed", "")),
        reason=(reason.group(1) if reason else typed).strip(),
        reason_by=reason.group(2) if reason else "",
        reason_at=when(reason.group(3)) if reason else 0,
        queues=tuple(sorted(part for part in fields.get("Partitions", "").split(",") if part)),
        address=fields.get("NodeAddr", ""),
    )


def gpus(text: str) -> int:
    """How many GPUs `gpu:a100:4(S:0-1),gpu:2,shard:8` has."""
    total = 0
    for part in re.sub(r"\([^)]*\)", "", text).split(","):
        words = part.split(":")
        if words[0] == "gpu" and words[-1].isdecimal():
            total += int(words[-1][:6])
    return total


def node_state(flags: tuple[str, ...]) -> NodeState:
    """What can be done with a node whose state is `IDLE+CLOUD+POWERED_DOWN` and the like."""
    base, rest = flags[0], set(flags[1:])
    works = base in ("ALLOCATED", "MIXED") or "COMPLETING" in rest
    if "DRAIN" in rest or base in ("DRAINED", "DRAINING"):
        # A drained node is also DOWN+DRAIN while it is dead; dead is what matters to who waits for it.
        if base == "DOWN":
            return NodeState.DOWN
        return NodeState.DRAINING if works or base == "DRAINING" else NodeState.DRAINED
    if base in ("DOWN", "ERROR", "FUTURE", "FAIL") or "FAIL" in rest:
        return NodeState.DOWN
    if (
        rest & {"POWERING_UP", "POWER_UP", "REBOOT_ISSUED", "REBOOT"} and "NOT_RESPONDING" in rest
    ) or "POWERING_UP" in rest:
        return NodeState.STARTING
    if rest & {"POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN", "POWER"}:
        return NodeState.STARTING if works else NodeState.OFF  # given to somebody, and about to be woken
    if "NOT_RESPONDING" in rest:
        return NodeState.DOWN
    known = {"IDLE": NodeState.IDLE, "MIXED": NodeState.MIXED, "ALLOCATED": NodeState.BUSY, "PLANNED": NodeState.IDLE}
    return known.get(base, NodeState.UNKNOWN)
