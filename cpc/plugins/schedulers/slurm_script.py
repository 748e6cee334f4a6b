"""What is sent to Slurm for a request: sbatch's command line, and the script, which goes to its stdin."""

from __future__ import annotations

import shlex

from cpc.api import BadInput, Described, Wanted
from cpc.plugins.schedulers.slurm_text import MARK

#: Options that would make a submission another than the one that was asked for, or one that is not found again.
_OURS = {
    "-J", "--job-name", "--comment", "-a", "--array", "--parsable", "--wrap", "--export", "--export-file", "--test-only",
    "-H", "--hold", "-Q", "--quiet", "-W", "--wait", "-h", "--help", "-V", "--version", "--usage", "-M", "--clusters",
    "--cluster", "--uid", "--gid", "--get-user-env", "-v", "--verbose",
}  # fmt: skip
#: What the script tells in words that no system has to itself, and what of the submitting server must not go on.
PROLOGUE = """\
export CPC_ALLOCATION={token} CPC_ALLOCATION_INDEX="${{SLURM_ARRAY_TASK_ID:-0}}"
export CPC_ALLOCATION_RESTARTS="${{SLURM_RESTART_COUNT:-0}}"
export CPC_ALLOCATION_NATIVE="${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}"
export SLURM_EXPORT_ENV=ALL
unset LC_ALL KRB5CCNAME SSH_AUTH_SOCK
"""
HIDDEN = "(hidden)"


def job_name(wanted: Wanted) -> str:
    """The job's name, which has the token in it, because accounting may keep nothing else of ours."""
    return f"{wanted.name}.{wanted.token}"


def minutes(seconds: int) -> int:
    """Slurm counts walltimes in minutes, rounded up."""
    return -(-seconds // 60)


def command(wanted: Wanted, options: tuple[str, ...] = ()) -> tuple[str, ...]:
    """sbatch's command line. `options`: the pool's own, before those of the request. BadInput for options that are ours."""
    check_options((*options, *wanted.options))
    words = [
        "sbatch", "--parsable", "--export=ALL", f"--job-name={job_name(wanted)}", f"--comment={MARK}{wanted.token}",
        f"--nodes={wanted.nodes}", "--ntasks-per-node=1", f"--cpus-per-task={wanted.cores}",
        f"--time={minutes(wanted.walltime)}", f"--chdir={wanted.directory}", f"--output={wanted.output or '/dev/null'}",
        "--open-mode=append", "--requeue" if wanted.requeue else "--no-requeue",
    ]  # fmt: skip
    if wanted.queue:
        words.append(f"--partition={wanted.queue}")
    if wanted.account:
        words.append(f"--account={wanted.account}")
    if wanted.memory or wanted.exclusive:
        words.append(f"--mem={-(-wanted.memory >> 20)}M" if wanted.memory else "--mem=0")
    if wanted.gpus:
        words.append(f"--gres=gpu:{wanted.gpus}")
    if wanted.exclusive:
        words.append("--exclusive")
    if wanted.exclude:
        words.append(f"--exclude={','.join(wanted.exclude)}")
    if wanted.lead:
        words.append(f"--signal=B:TERM@{min(wanted.lead, 65535)}")
    if wanted.count > 1:
        words.append(f"--array=0-{wanted.count - 1}")
    return (*words, *options, *wanted.options)


def script(wanted: Wanted, hide: bool = False) -> str:
    """The script with its environment. `hide`: for people's eyes, without what is secret."""
    first, _, rest = wanted.script.partition("\n")
    lines = [PROLOGUE.format(token=shlex.quote(wanted.token))]
    for name, value in wanted.environment.items():
        lines.append(f"export {name}={shlex.quote(value)}\n")
    for name, value in wanted.secrets.items():
        lines.append(f"export {name}={HIDDEN if hide else shlex.quote(value)}\n")
    # Directives of the script's own must come before all commands, or sbatch does not read them.
    own, body = _directives(rest)
    return f"{first}\n{own}{''.join(lines)}{body}"


def _directives(text: str) -> tuple[str, str]:
    lines = text.splitlines(keepends=True)
    end = next((place for place, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    return "".join(lines[:end]), "".join(lines[end:])


def on_every_node(wanted: Wanted) -> str:
    """Words that start a command once on each node, in a step that leaves the cores to the steps of jobs."""
    return (
        'srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 '
        f"--cpus-per-task={wanted.cores} --mem=0 --overlap --kill-on-bad-exit=0 --wait=0 --export=ALL"
    )


#: Ends the steps of the script's own job, politely: srun itself answers SIGTERM by killing its step at once, and what it
#: passes on (SIGUSR1) reaches every process of the step. Not SLURM_JOB_ID: one of an array has that of the whole array.
END_EVERY_NODE = 'scancel --quiet --signal=TERM "$CPC_ALLOCATION_NATIVE"'


def describe(wanted: Wanted, options: tuple[str, ...] = ()) -> Described:
    """Both, as a person would write them."""
    return Described(shlex.join(command(wanted, options)), script(wanted, hide=True))


def check_options(options: tuple[str, ...]) -> None:
    """BadInput for an option that would change who a submission is or how it is answered, or that is no option."""
    for option in options:
        word = option.partition("=")[0] if option.startswith("--") else option[:2]
        if word in _OURS or (word.startswith("--") and any(_shortens(word, ours) for ours in _OURS)):
            raise BadInput(f"the sbatch option {option[:80]} cannot be set", "Copernicus finds its allocations by it")
        if not option.startswith("-") or len(option) < 3 or (option[1] != "-" and "=" in option[:3]):
            raise BadInput(
                f"{option[:80]!r} is not an option of sbatch with its value",
                "write each as one word, like --constraint=ib",
            )


def _shortens(word: str, ours: str) -> bool:
    """Whether sbatch takes `word` for `ours`: it understands options that are cut short."""
    return len(word) > 4 and ours.startswith(word)
