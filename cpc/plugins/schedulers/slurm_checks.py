"""Whether a Slurm can give what a pool wants, and what may be wrong with it: for `pool add`, and for the doctor."""

from __future__ import annotations

import re
from typing import Protocol

from cpc.api import Check, CopernicusError, Ran, Refused, Unavailable, Wanted
from cpc.core.clock import Clock
from cpc.plugins.schedulers import slurm_script, slurm_words
from cpc.plugins.schedulers.slurm_text import number, span

_COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct")
#: Seconds that clocks may differ: munge's credentials live for 300, but certificates and reports suffer earlier.
_SKEW = 30


class Asks(Protocol):
    """The part of the scheduler that is needed."""

    async def run(self, *argv: str, stdin: str = "") -> Ran: ...
    async def ask(self, doing: str, *argv: str) -> str: ...


async def partition(slurm: Asks, name: str) -> dict[str, str]:
    """The fields of a partition, or of the default one. Refused when it is not there."""
    out = await slurm.ask(
        f"show partition {name}" if name else "list its partitions",
        "scontrol", "--all", "--oneliner", "show", "partition", *([name] if name else []),
    )  # fmt: skip
    all_of_them = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in out.splitlines() if line.strip()]
    for fields in all_of_them:
        if fields.get("PartitionName") == name or (not name and fields.get("Default") == "YES"):
            return fields
    there = ", ".join(fields.get("PartitionName", "?") for fields in all_of_them[:20])
    if name:
        raise Refused(f"Slurm has no partition {name}", "see 'sinfo -s' for the partitions there are")
    raise Refused("Slurm has no default partition", f"set the pool's queue to one of: {there}")


async def check(slurm: Asks, wanted: Wanted, options: tuple[str, ...]) -> tuple[Check, ...]:
    """One Check for each thing that would keep such a request from ever being granted."""
    try:
        fields = await partition(slurm, wanted.queue)
    except Refused as error:
        return (Check("partition", False, error.message, error.hint),)
    name = fields["PartitionName"]
    checks = [_up(name, fields), _time(name, fields, wanted), _size(name, fields, wanted)]
    account = await _account(slurm, wanted.account)
    if account is not None:
        checks.append(account)
    checks.append(await _test(slurm, wanted, options))
    return tuple(checks)


def _up(name: str, fields: dict[str, str]) -> Check:
    state = fields.get("State", "?")
    if state == "UP":
        return Check("partition", True, f"partition {name} is up, with {fields.get('TotalNodes', '?')} nodes")
    hint = "choose another queue, or wait: its jobs do not start now"
    return Check("partition", False, f"partition {name} is {state}", hint)


def _time(name: str, fields: dict[str, str], wanted: Wanted) -> Check:
    most = span(fields.get("MaxTime", ""))
    asked = slurm_script.minutes(wanted.walltime) * 60
    if most < 0 or asked <= most:
        return Check("walltime", True, f"{asked // 60} min are allowed in partition {name}")
    return Check(
        "walltime", False, f"{asked // 60} min are more than the {most // 60} min of partition {name}",
        f"set the pool's walltime to {most} s or less",
    )  # fmt: skip


def _size(name: str, fields: dict[str, str], wanted: Wanted) -> Check:
    total, most, least = (number(fields.get(key, "")) for key in ("TotalNodes", "MaxNodes", "MinNodes"))
    limit = min((value for value in (total, most) if value >= 0), default=-1)
    if 0 <= limit < wanted.nodes:
        words = f"{wanted.nodes} nodes are more than the {limit} that partition {name} gives"
        return Check("size", False, words, f"ask for {limit} nodes or fewer")
    if least > wanted.nodes:
        return Check(
            "size", False, f"partition {name} gives no fewer than {least} nodes", f"ask for {least} nodes or more"
        )
    cores = number(fields.get("TotalCPUs", ""))
    if 0 <= cores < wanted.nodes * wanted.cores:
        words = f"{wanted.nodes * wanted.cores} cores are more than the {cores} of partition {name}"
        return Check("size", False, words, "ask for fewer cores")
    return Check("size", True, f"{wanted.nodes} nodes are allowed in partition {name}")


async def _account(slurm: Asks, account: str) -> Check | None:
    """Whether the account exists. sbatch takes any where accounts are not enforced, and the job then waits for ever."""
    if not account:
        return None
    ran = await slurm.run(
        "sacctmgr", "--noheader", "--parsable2", "--readonly", "show", "account", f"name={account}", "format=account"
    )
    if ran.code:
        return Check("account", True, f"account {account} cannot be looked up here ({slurm_words.said(ran)[:120]})")
    if account.lower() in ran.out.lower().split():
        return Check("account", True, f"account {account} exists")
    return Check("account", False, f"Slurm has no account {account}", "see 'sacctmgr show assoc user=$USER' for yours")


async def _test(slurm: Asks, wanted: Wanted, options: tuple[str, ...]) -> Check:
    """What sbatch itself says of the very request; nothing is submitted."""
    first, *rest = slurm_script.command(wanted, options)
    ran = await slurm.run(first, "--test-only", *rest, stdin=slurm_script.script(wanted))
    if not ran.code:
        found = re.search(r"to start at (\S+)", ran.err + ran.out)
        return Check(
            "request", True, "Slurm would take it" + (f", to start at {_shown(found.group(1))}" if found else "")
        )
    failed = slurm_words.error(ran, "take the request")
    if isinstance(failed, Unavailable):
        raise failed
    return Check("request", False, failed.message, failed.hint)


def _shown(time: str) -> str:
    """A time as sbatch prints it, which SLURM_TIME_FORMAT has made seconds."""
    import datetime

    if not time.isdecimal() or len(time) > 11:
        return time
    return datetime.datetime.fromtimestamp(int(time), datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


# --- the doctor ---


async def diagnose(slurm: Asks, clock: Clock) -> tuple[Check, ...]:
    """Commands, munge, slurmctld, the clocks, accounting: in the order in which they depend on each other."""
    checks = [await _commands(slurm)]
    if not checks[0].ok:
        return tuple(checks)
    checks.append(await _munge(slurm))
    if not checks[-1].ok:
        return tuple(checks)
    checks += await _controller(slurm, clock)
    checks.append(await _accounting(slurm))
    return tuple(checks)


async def _commands(slurm: Asks) -> Check:
    missing = []
    version = ""
    for name in _COMMANDS:
        try:
            ran = await slurm.run(name, "--version")
            version = version or ran.out.strip()
        except CopernicusError:
            missing.append(name)
    if missing:
        hint = "install Slurm's commands (slurm-client) on the server's machine, or put them into its PATH"
        return Check("commands", False, f"{' and '.join(missing)} cannot be run on the server's machine", hint)
    return Check("commands", True, f"Slurm's commands are there: {version[:60] or 'of an unknown version'}")


async def _munge(slurm: Asks) -> Check:
    """Whether credentials can be made: by what squeue says, because munge's socket may be a private one."""
    ran = await slurm.run("scontrol", "ping")
    if "auth" not in ran.err.lower() and "munge" not in ran.err.lower():
        asked = await slurm.run("scontrol", "show", "config") if ran.code else ran
        if not slurm_words.hung_up(asked):
            accepted = " and accepted" if not asked.code else "; whether slurmctld accepts them is not seen"
            return Check("munge", True, f"credentials are made{accepted}")
        words = "slurmctld answers nothing to this machine's credentials: it takes them for wrong"
        return Check("munge", False, words, slurm_words.HUNG_UP)
    hint = "start munged here; it needs the cluster's /etc/munge/munge.key, and clocks that agree: munge -n | unmunge"
    return Check("munge", False, f"no credential: {slurm_words.said(ran)}", hint)


async def _controller(slurm: Asks, clock: Clock) -> list[Check]:
    before = clock.now()
    ran = await slurm.run("scontrol", "show", "config")
    after = clock.now()
    if ran.code:
        failed = slurm_words.error(ran, "answer")
        return [Check("slurmctld", False, failed.message, failed.hint)]
    found = re.search(r"Configuration data as of (\S+)", ran.out)
    checks = [Check("slurmctld", True, f"slurmctld answers in {(after - before) / 1e6:.1f} s")]
    if found and found.group(1).isdecimal() and len(found.group(1)) <= 11:
        # To the second: what the controller says lies between when it was asked and when it had answered.
        theirs = int(found.group(1))
        skew = max(before // 1_000_000 - theirs - 1, theirs - after // 1_000_000 - 1, 0)
        if skew > _SKEW:
            hint = "set both clocks by NTP: munge refuses credentials of machines that differ by minutes"
            checks.append(Check("clocks", False, f"slurmctld's clock and this machine's differ by {skew} s", hint))
        else:
            checks.append(Check("clocks", True, "slurmctld's clock and this machine's agree"))
    return checks


async def _accounting(slurm: Asks) -> Check:
    ran = await slurm.run("sacct", "--noheader", "--allocations", "--starttime=now", "--format=JobID")
    if slurm_words.accounting_off(ran):
        words = "Slurm keeps no accounts: how an allocation ended is known only for a while (MinJobAge)"
        return Check("accounting", True, words)
    if ran.code:
        hint = "see whether slurmdbd and its database run; submissions go on without them"
        return Check("accounting", False, f"sacct fails: {slurm_words.said(ran)}", hint)
    return Check("accounting", True, "sacct answers")
