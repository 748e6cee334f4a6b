"""Carrying out the answer of a step. What it names lies within the instance that answers: nothing else can be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpc.core import plain
from cpc.core.errors import BadInput
from cpc.dataflow import items, paths
from cpc.dataflow.answer import Answer
from cpc.dataflow.instance import Instance, State, Tree
from cpc.dataflow.items import Item
from cpc.dataflow.update import Update

if TYPE_CHECKING:
    from cpc.dataflow.graph import Graph


def carry_out(graph: Graph, update: Update, instance: Instance, answer: Answer) -> None:
    """The whole answer but its jobs; CopernicusError when a part of it cannot be done."""
    if answer.error:
        update.fail(instance, answer.error)
        return
    state = State.ACTIVE if instance.state.runs else State.HELD
    for name, function in answer.instances:
        update.add_instance(instance, name, graph.library.function(function, instance.function.module), state)
    for source, target in answer.connections:
        link = update.connect(instance, source, target)
        _check_own(instance, link.network, target)
    for target, raw in answer.values:
        update.assign(_target(instance, target), plain.read(raw))
    for tree, given in ((Tree.OUT, answer.outputs), (Tree.SUB_OUT, answer.sub_outputs)):
        for path, raw in given:
            update.assign(items.item(instance, tree, paths.parse(path)), plain.read(raw))
    if answer.warning or not answer.jobs:
        update.warn(instance, answer.warning)


def _target(instance: Instance, text: str) -> Item:
    end = items.target(instance, text)
    _check_own(instance, end.network, text)
    return end.item


def _check_own(instance: Instance, network: Instance, text: str) -> None:
    if network is not instance:
        raise BadInput(f"{text} is not in the network of {instance.path}", "an answer reaches its own network only")
