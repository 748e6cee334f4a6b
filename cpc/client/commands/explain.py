"""`cpcc explain`: the chain that leads to a value: the function run that made it, its inputs, its jobs, and so on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from cpc.client.commands import changing
from cpc.client.context import Context, pass_context
from cpc.client.output import harmless, when
from cpc.core.numbers import Whole

if TYPE_CHECKING:
    from cpc.client.network import Network
    from cpc.core.network_views import ExplainView, JobRunView, StepView


@click.command("explain")
@click.argument("item")
@click.option("--depth", type=Whole(1), default=1, show_default=True, help="So many function runs back.")
@pass_context
def explain(context: Context, item: str, depth: int) -> None:
    """Where a value comes from: who set it, or the function run, inputs, job, worker and program that made it."""
    found = list(_chain(changing.network(context), item, depth))
    context.out.data(
        "explained", found, lambda: "\n\n".join(map(_words, found)), lambda: [one.path for one in found]
    )  # fmt: skip


def _chain(network: Network, item: str, depth: int) -> Iterator[ExplainView]:
    """The item, then what the run that made it had as inputs, and so on: each item once."""
    todo, seen = [item], set()
    for _ in range(depth):
        following: list[str] = []
        for path in todo:
            found = network.explain(path)
            if found.path not in seen:
                seen.add(found.path)
                yield found
                following += [one.target for one in found.step.inputs] if found.step else []
        todo = following


def _words(found: ExplainView) -> str:
    lines = [f"{found.path}:"]
    lines += [f"   follows {source}" for source in found.via]
    if found.step is not None:
        lines += _step(found.step)
    elif found.set_by:
        lines.append(f"   set by {found.set_by}, {when(found.set_at)}")
    else:
        lines.append("   has no value yet")
    return "\n".join(map(_line, lines))


def _line(text: str) -> str:
    """A line that keeps its indentation."""
    return " " * (len(text) - len(text.lstrip())) + harmless(text.strip())


def _step(step: StepView) -> Iterator[str]:
    if step.number:
        state = f"closed {when(step.closed)}" if step.closed else step.state or "under way"
        yield f"   made by run {step.number} of {step.instance}, opened {when(step.opened)}, {state}"
    else:  # arithmetic, which has no runs
        yield f"   computed by {step.instance}, {when(step.closed)}"
    yield f"   function {step.function} {step.version}".rstrip()
    for one in step.inputs:
        yield f"   with {one.target}" + (f" from {one.source}" if one.source else "")
    for job in step.jobs:
        yield f"   {_job(job)}"


def _job(job: JobRunView) -> str:
    words = [f"by job {job.job}"]
    words += [f"attempt {job.attempt}"] if job.attempt else []
    words += [f"worker {job.worker}" + (f" on {job.host}" if job.host else "")] if job.worker else []
    words += [job.program] if job.program else []
    return ", ".join(words)
