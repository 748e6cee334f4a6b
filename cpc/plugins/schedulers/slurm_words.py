"""What Slurm's commands say when they fail, and which error that is."""

from __future__ import annotations

import re

from cpc.api import AtLimit, CopernicusError, Ran, Refused, Unavailable

_AWAY = re.compile(
    r"Unable to contact slurm controller|Connection refused|Connection timed out|Socket timed out|Zero Bytes were transmitted|"
    r"Transport endpoint is not connected|controller not responding|backup controller|in standby mode|"
    r"Unable to establish controller|Communication connection failure|Unexpected message received|"
    r"No route to host|Network is unreachable|Broken pipe|Connection reset|Header lengths are longer|Message receive failure|"
    r"Message send failure|Problem talking to the database|Unable to connect to database|Incompatible versions",
    re.IGNORECASE,
)
_MUNGE = re.compile(
    r"munge|authentication (error|credential)|auth_g_create|auth plugin|Invalid auth|jwt|expired", re.IGNORECASE
)
_CONFIG = re.compile(
    r"configuration source|Unable to process configuration|cannot stat file|ClusterName needs|fetch_config|resolve_ctls|"
    r"error while loading shared libraries",
    re.IGNORECASE,
)
_LIMIT = re.compile(
    r"job submit limit|Max\w*Submit|Max\w*Jobs|GrpSubmit|GrpJobs|temporarily unable to accept job|try again later|"
    r"Resource temporarily unavailable|Pending job limit|MaxJobCount|limit reached|accounting/QOS policy",
    re.IGNORECASE,
)
#: Nothing can have been sent: there was nobody to send it to, or no leave to.
_NOT_SENT = re.compile(r"connect failure|Connection refused|auth_g_create|Munge encode failed", re.IGNORECASE)
_HUNG_UP = re.compile(r"Zero Bytes were transmitted", re.IGNORECASE)
#: A slurmctld that is there and hangs up has not taken the credential; only its log says so.
HUNG_UP = (
    "compare /etc/munge/munge.key and the clock with the cluster's (munge -n | ssh HEAD unmunge), and `sinfo --version` with "
    "the cluster's Slurm; slurmctld's log says which"
)
#: Slurm's commands end with 255 for these, as a wrapper does that cannot reach the machine where they are.
_USAGE = re.compile(r"(unrecognized|invalid|ambiguous) option|option requires an argument|Invalid --", re.IGNORECASE)
_HINTS = (
    (
        r"invalid partition|Invalid partition name|Partition \S+ not found",
        "see 'sinfo -s' for the partitions there are",
    ),
    (r"Invalid account|account/partition combination", "see 'sacctmgr show assoc user=$USER' for your accounts"),
    (r"Requested node configuration|Memory specification|node count|More processors", "ask for less of each node"),
    (r"generic resource|gres", "see 'sinfo -o \"%P %G\"' for the GPUs there are"),
    (r"time limit|TimeLimit", "ask for a shorter walltime"),
    (r"array specification", "ask for fewer at once (MaxArraySize)"),
    (r"permission denied|Invalid user id|not permitted|Access", "ask an administrator of the cluster"),
    (r"Invalid node name", "see 'sinfo -N' for the nodes there are"),
    (_USAGE.pattern, "see the pool's options and 'sbatch --help'"),
)


def said(ran: Ran) -> str:
    """What a command said, in one line, without the repetition of its own name."""
    lines = [
        re.sub(r"^\w+: (error|fatal): ", "", line.strip()) for line in (ran.err.strip() or ran.out.strip()).splitlines()
    ]
    text = "; ".join(dict.fromkeys(line for line in lines if line and not line.startswith("Try ")))
    return text[:600] or f"nothing, and ended with exit code {ran.code}"


def error(ran: Ran, doing: str) -> CopernicusError:
    """The error that a command's failure is. `doing`: what was asked for, as in "Slurm did not {doing}: …"."""
    found = _known(f"{ran.err}\n{ran.out}", said(ran), doing)
    gone = ran.code in (126, 127) or ran.code > 128
    if gone and isinstance(found, Refused) and not (isinstance(found, AtLimit) or _USAGE.search(ran.err)):
        return Unavailable(found.message, "see whether Slurm's commands work on this machine")
    return found


def failure(words: str, doing: str, status: int) -> CopernicusError:
    """The error that an answer of slurmrestd is: it says 500 of nearly everything."""
    found = _known(words, words or f"HTTP status {status}", doing)
    if isinstance(found, Refused) and status in (502, 503, 504):
        return Unavailable(found.message, "see whether slurmrestd runs")
    return found


def _known(text: str, words: str, doing: str) -> CopernicusError:
    if _CONFIG.search(text):
        return Unavailable(
            f"Slurm did not {doing}: {words}", "set the pool's 'conf' to the path of slurm.conf, or mend it"
        )
    if _MUNGE.search(text):
        hint = "see whether munged runs here with the cluster's key: munge -n | unmunge"
        return Unavailable(f"Slurm did not {doing}: {words}", hint)
    if _LIMIT.search(text):
        return AtLimit(
            f"Slurm did not {doing} for now: {words}", "wait until others have ended, or lower the pool's limits"
        )
    if _HUNG_UP.search(text):
        return Unavailable(f"Slurm did not {doing}: {words}", HUNG_UP)
    if _AWAY.search(text):
        return Unavailable(f"Slurm did not {doing}: {words}", "see whether slurmctld runs: scontrol ping")
    hint = next(
        (hint for pattern, hint in _HINTS if re.search(pattern, text, re.IGNORECASE)), "change the pool's settings"
    )
    return Refused(f"Slurm did not {doing}: {words}", hint)


def hung_up(ran: Ran) -> bool:
    """Whether slurmctld was there, and has closed the connection without an answer."""
    return bool(ran.code and _HUNG_UP.search(ran.err + ran.out))


def surely_not_sent(ran: Ran) -> bool:
    """Whether a failed submission cannot have got through."""
    text = f"{ran.err}\n{ran.out}"
    return bool(_CONFIG.search(text) or _NOT_SENT.search(text))


def accounting_off(ran: Ran) -> bool:
    """Whether sacct failed because the cluster keeps no accounts: then slurmctld's own memory is all there is."""
    return no_accounts(ran.err + ran.out)


def no_accounts(text: str) -> bool:
    """Whether a cluster without accounting says so."""
    return "accounting storage is disabled" in text.lower()
