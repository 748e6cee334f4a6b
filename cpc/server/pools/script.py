"""What is asked of a batch system: the script that an allocation runs, with the bundle that its workers enrol with.

The bundle is in the script itself and goes to the worker's stdin. So it is on no command line, in no environment and in no
file of ours; the batch system keeps the script for its owner alone (Slurm: in the controller's spool directory). A series
has one script, with a table of bundles.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from msgspec.structs import replace

from cpc.api.scheduler import Scheduler
from cpc.core.allocation import Wanted
from cpc.core.resources import MIB
from cpc.pools.allocation import Allocation
from cpc.pools.facts import PER_NODE, Pool
from cpc.server.pools import series
from cpc.server.pools.means import Means, file_name, work_place

#: Stands for the bundle where somebody is shown what would be sent.
HIDDEN = "(the connection bundle: made for each allocation when it is asked for)"
_END = "END_OF_BUNDLE"
#: Seconds before its own end at which a worker begins to leave (cpc.worker.standing: its grace, and what is useless).
_LEAVES_AT = 45.0
#: The server tells an idle worker to leave; one whose server is away goes by itself, so much later.
_BY_ITSELF = 60.0
#: With less time than this a worker is not worth starting.
_LEAST = 60

_SCRIPT = """\
#!/bin/bash
# {why}
umask 077
{own}{prologue}left=$(({seconds} - SECONDS))
[ "$left" -ge {least} ] || {{ echo 'no time is left for a worker'; exit 0; }}
{work}
{bundles}worker= told=
tell() {{ {tell} 2>/dev/null; }}
trap 'told=yes; [ -z "$worker" ] || tell' TERM INT HUP
{command} <&"$bundle" {{bundle}}<&- &
worker=$!
exec {{bundle}}<&-
[ -z "$told" ] || tell
while :; do
    wait "$worker"; code=$?
    kill -0 "$worker" 2>/dev/null || break
done
# A wait that a signal has cut short says nothing of the worker: bash still knows.
[ "$code" -le 128 ] || {{ wait "$worker" 2>/dev/null; last=$?; [ "$last" -eq 127 ] || code=$last; }}
exit "$code"
"""
#: Opens the bundle as a file without a name. Not as a variable's value: a shell that is told to trace would print it.
_BUNDLE = """\
exec {{bundle}}<<'{end}'
{text}
{end}
"""
_OWN = 'export CPC_ALLOCATION="$CPC_ALLOCATION-$CPC_ALLOCATION_INDEX"\n'
#: One of a series takes its own out of the table.
_BUNDLES = """\
case "$CPC_ALLOCATION_INDEX" in
{each}*) echo 'this allocation is not wanted any more'; exit 0 ;;
esac
"""


def wanted(
    pool: Pool, means: Means, allocation: Allocation, scheduler: Scheduler, *,
    bundles: Sequence[str] = (HIDDEN,), project: str = "", avoid: tuple[str, ...] = (),
) -> Wanted:  # fmt: skip
    """The request for an allocation, or for a series of those that are alike (`allocation` is one of them).

    `bundles`: one for each; "" for one that is to end at once. `project`: the only one that its workers take jobs of.
    BadInput as `Wanted.checked`.
    """
    each, probe = allocation.each, allocation.probe
    token, _ = series.part(allocation.token)
    asked = Wanted(
        token=token,
        count=len(bundles),
        script="#!/bin/bash\n",
        name="cpc-" + re.sub(r"[^A-Za-z0-9_-]", "_", pool.name)[:28],
        nodes=allocation.nodes,
        cores=each.cores,
        memory=-(-each.memory // MIB) * MIB,
        gpus=each.gpus,
        walltime=max(1, int(allocation.walltime)),
        lead=0 if probe else min(int(pool.margin), max(0, int(allocation.walltime) // 2)),
        queue=pool.queue,
        account=pool.account,
        directory=means.directory,
        output=means.output,
        exclusive=means.exclusive and probe is None,
        exclude=avoid,
        options=pool.options,
        environment=dict(pool.environment),
    )
    every = scheduler.on_every_node(asked) if pool.platform in PER_NODE and asked.nodes > 1 else ""
    text = _SCRIPT.format(
        why=f"{'A look from a node of' if probe else 'Workers for'} pool {_comment(pool.name)} of a Copernicus server.",
        own=_OWN if token != allocation.token else "",
        prologue=pool.prologue.strip() + "\n" if pool.prologue.strip() else "",
        seconds=int(allocation.walltime - (0 if probe else pool.margin - _LEAVES_AT)),
        least=1 if probe else min(_LEAST, max(1, int(allocation.walltime) // 4)),
        work=_work(pool, means),
        command=" ".join(
            word for word in (every, pool.wrap.strip(), _worker(pool, means, allocation, project)) if word
        ),
        bundles=_table(bundles) if token != allocation.token else _bundle(bundles[0]),
        tell=(scheduler.end_every_node() if every else "") or 'kill -TERM "$worker"',
    )
    return replace(asked, script=text).checked()


def _bundle(text: str) -> str:
    return _BUNDLE.format(text=text.strip(), end=_END)


def _table(bundles: Sequence[str]) -> str:
    each = (f"{index}) {_bundle(text)};;\n" for index, text in enumerate(bundles) if text)
    return _BUNDLES.format(each="".join(each))


def _work(pool: Pool, means: Means) -> str:
    place = work_place(means, pool.shared_files, pool.name)
    own = f'"${{TMPDIR:-/tmp}}"/cpc-worker-"$(id -u)"-{shlex.quote(file_name(pool.name))}'
    return f"work={shlex.quote(place) if place else own}"


def _worker(pool: Pool, means: Means, allocation: Allocation, project: str) -> str:
    """One worker; where it is started on every node, each makes its own work directory."""
    if allocation.probe is not None:
        words = [shlex.quote(means.worker), "check", "-c", "-", "-wd", '"$work"', shlex.quote(pool.platform)]
        return " ".join([*words, "-n", "1"] if pool.platform in PER_NODE else words)
    words = [shlex.quote(means.worker), "-c", "-", "-wd", '"$work"', "--until", '"+$left"']
    words += ["-q", f"{(pool.idle + _BY_ITSELF) / 60:.4f}"]
    if allocation.direct:
        words += ["--jobs", "1"]
    if pool.labels:
        words += ["--labels", shlex.quote(",".join(pool.labels))]
    if project:
        words += ["-p", shlex.quote(project)]
    if allocation.each.memory:
        words += ["--memory", str(allocation.each.memory)]
    words.append(shlex.quote(pool.platform))
    if pool.platform in PER_NODE:
        words += ["-n", str(allocation.each.cores)]
    return " ".join(words)


def _comment(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
