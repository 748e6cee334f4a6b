"""When a worker's own time is over: `--until`, as people and batch systems write it."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping

from cpc.core.clock import SECOND
from cpc.core.errors import BadInput, CopernicusError
from cpc.core.resources import parse_span

#: What batch systems say in the environment of all that they start.
_BATCH = ("CPC_ALLOCATION", "SLURM_JOB_ID", "FLUX_JOB_ID", "PBS_JOBID", "LSB_JOBID")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")


def seconds_until(text: str, now: int) -> float:
    """Seconds from `now` (µs) until a moment: `18:00` (the next one here), `2026-11-20T18:00` (with or without a zone),
    or `+2h`, `+1:30:00` from now. BadInput for anything else, and for what is over.
    """
    plain = text.strip()
    here = datetime.datetime.fromtimestamp(now / SECOND, datetime.UTC).astimezone()
    try:
        if plain.startswith("+"):
            return parse_span(plain[1:])
        clock = _CLOCK.fullmatch(plain)
        if clock is not None:
            hour, minute, second = (int(part or 0) for part in clock.groups())
            moment = here.replace(hour=hour, minute=minute, second=second, microsecond=0)
            if moment <= here:
                moment += datetime.timedelta(days=1)
        else:
            moment = datetime.datetime.fromisoformat(plain)
            if moment.tzinfo is None:
                moment = moment.astimezone()
    except (ValueError, CopernicusError):
        raise BadInput(f"--until {text!r} is not a time", "write 18:00, 2026-11-20T18:00 or +2h") from None
    left = (moment - here).total_seconds()
    if left <= 0:
        raise BadInput(f"--until {text}: that is over")
    return left


def in_batch(environ: Mapping[str, str]) -> bool:
    """Whether a batch system has started us, and will tell all processes of ours when it ends the allocation."""
    return any(name in environ for name in _BATCH)


def batch_seconds_left(environ: Mapping[str, str], now: int) -> float | None:
    """What the batch system that started us says: seconds until it ends this allocation; None when it says nothing."""
    end = environ.get("SLURM_JOB_END_TIME", "")
    return max(0.0, int(end) - now / SECOND) if end.isdigit() else None
