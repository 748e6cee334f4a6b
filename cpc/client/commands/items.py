"""`cpcc ls`: a project, an instance or a value, and what is in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from cpc.client.commands import changing
from cpc.client.commands.modules import FLAGS
from cpc.client.context import Context, pass_context
from cpc.client.output import harmless, harmless_lines, indent, instances_by_state, plural

if TYPE_CHECKING:
    from cpc.core.network_views import FieldView, InstanceView, ItemView

SHOWN = 100


@click.command("ls")
@click.argument("item", required=False, default="")
@click.option("--all", "everything", is_flag=True, help=f"All instances, not only the first {SHOWN}.")
@click.option("--after", default="", metavar="NAME", help="Those after this instance.")
@pass_context
def ls(context: Context, item: str, everything: bool, after: str) -> None:
    """Describe the project, an instance or a value, and what is in it."""
    network = changing.network(context)
    # To a program a list that is cut without a word would be a trap.
    if everything or ((context.out.json or context.out.quiet) and not after):
        found = network.whole_item(item)
    else:
        found = network.item(item, after=after, limit=SHOWN)
    context.out.data("item", found, lambda: "\n".join(_lines(found)), lambda: _names(found))


def _names(found: ItemView) -> list[str]:
    fields = (*found.inputs, *found.outputs, *found.members)
    return [one.name for one in (found.instances if found.kind != "value" else fields)]


def _lines(found: ItemView) -> Iterable[str]:
    name = harmless(found.path or found.name)
    if found.kind == "value":
        yield f"Input/Output Value {name}:"
        yield f"Type: {harmless(found.type)}"
        yield from _fields("Sub-items", found.members)
        if found.count > len(found.members):
            yield indent(f"… {found.count} in all (`cpcc get` shows them)")
        return
    if found.kind == "project":
        yield f"Network {name}:"
    else:
        yield f"Instance {name}:"
        yield f"Instance of: {harmless(found.function)}"
        yield f"State: {_state(found.own, found.state)}"
        yield from _messages(found)
        yield from _fields("Inputs", found.inputs)
        yield from _fields("Outputs", found.outputs)
        yield from _fields("Sub-inputs", found.sub_inputs)
        yield from _fields("Sub-outputs", found.sub_outputs)
    yield "Function instances:"
    yield from (indent(_instance(one)) for one in found.instances)
    yield from _rest(found)
    if found.cpu_seconds_within:
        yield f"CPU-seconds used in this instance: {found.cpu_seconds:.0f}"
        yield f"CPU-seconds used in this instance and its sub-instances: {found.cpu_seconds_within:.0f}"


def _messages(found: ItemView) -> Iterable[str]:
    if found.running:
        jobs = f" ({', '.join(found.jobs)})" if found.jobs else ""
        yield f"Now: it {harmless(found.running + jobs)}"
    for title, text in (("Error", found.error), ("Warning", found.warning)):
        if text:
            yield f"{title}:\n{indent(harmless_lines(text))}"


def _fields(title: str, fields: tuple[FieldView, ...]) -> Iterable[str]:
    if fields:
        yield f"{title}:"
    for field in fields:
        flags = "".join(f", {FLAGS.get(flag, flag)}" for flag in field.flags)
        source = f"  from {field.source}" if field.source else ""
        unset = "" if field.set or not field.name else "  (not set)"
        yield indent(harmless(f"{field.name}: {field.type}{flags}{source}{unset}".removeprefix(": ")))


def _instance(one: InstanceView) -> str:
    running = f", {one.running}" if one.running else ""
    return harmless(f"{one.name} ({_state(one.own, one.state)}{running})")


def _state(own: str, whole: str) -> str:
    """`active`; `active, error within` for one that is well itself."""
    return own if own == whole or not own else f"{own}, {whole} within"


def _rest(found: ItemView) -> Iterable[str]:
    """How many there are, by state, when not all are shown or they have others within."""
    within = sum(found.states.values())
    if found.next:
        last = found.instances[-1].name if found.instances else ""
        yield indent(harmless(f"… {plural(found.count, 'instance')} in all (--all shows them, --after {last} goes on)"))
    if found.next or within > len(found.instances):
        yield f"In it: {instances_by_state(found.states)}"
