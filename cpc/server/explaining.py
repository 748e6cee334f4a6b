"""Where a value comes from: along its connections to who set it, or to the step, its jobs, workers and programs."""

from __future__ import annotations

from cpc.core import ids
from cpc.core.errors import BadInput
from cpc.core.network_views import ExplainView, JobRunView, LinkView, StepView
from cpc.dataflow.description import FunctionKind
from cpc.dataflow.graph import Graph
from cpc.dataflow.instance import Instance, Tree
from cpc.dataflow.items import Item
from cpc.dataflow.types import Path
from cpc.dataflow.values import Leaf, leaves
from cpc.server.looks import source_of, target_of
from cpc.store import arrays, attempts, jobs, record, steps, workers
from cpc.store.packed import unpack
from cpc.store.record import ChangeRow
from cpc.store.steps import StepJob, StepRow
from cpc.store.transaction import Tx
from cpc.store.workers import WorkerRow
from cpc.wire.messages import Hello

MOST = 100  # jobs and inputs in one view


def explain(tx: Tx, graph: Graph, project: int, path: str) -> ExplainView:
    """Where the item's value, or the newest of its leaves, comes from. BadInput for what is no value."""
    item = graph.find(path)
    if not isinstance(item, Item):
        raise BadInput(f"{path or 'the project'} is not a value", "name an input or output: INSTANCE:out.NAME")
    leaf, instance, tree, via = _origin(item)
    if leaf is None:
        return ExplainView(path=item.where, via=via)
    change = record.get(tx, project, leaf.version)
    made = steps.get(tx, leaf.origin) if leaf.origin else None
    if made is not None:
        return ExplainView(path=item.where, via=via, set_at=made.closed, step=_step(tx, graph, made))
    if instance.function.kind is FunctionKind.INLINE and tree is Tree.OUT:
        computed = _arithmetic(instance, change)
        return ExplainView(path=item.where, via=via, set_at=computed.opened or None, step=computed)
    who = change.actor if change else ""
    return ExplainView(path=item.where, set_by=who, set_at=change.time if change else None, via=via)


def _origin(item: Item) -> tuple[Leaf | None, Instance, Tree, tuple[str, ...]]:
    """The newest leaf of the item, the instance and tree in which it was set, and the items that it came through."""
    newest = max(leaves(item.node, item.type, item.path), key=lambda found: found[1].version, default=None)
    path: Path = item.path if newest is None else newest[0]
    instance, tree = item.instance, item.tree
    via = []
    while instance.inbound is not None and (links := instance.inbound.above((tree, *path))):
        link = links[-1]
        instance, tree, path = link.source, link.source_tree, link.source_path + path[len(link.target_path) :]
        via.append(instance.where(tree, path))
    return None if newest is None else newest[1], instance, tree, tuple(via)


def _step(tx: Tx, graph: Graph, row: StepRow) -> StepView:
    instance = graph.instances.get(row.instance)
    asked = steps.jobs(tx, row.id)[:MOST]
    return StepView(
        instance=instance.path if instance else ids.show(row.instance),
        number=row.number,
        function=row.function,
        version=row.version,
        opened=row.opened,
        closed=row.closed,
        state=row.state.label,
        inputs=_inputs(instance) if instance else (),
        jobs=tuple(_job(tx, job) for job in asked),
    )


def _arithmetic(instance: Instance, change: ChangeRow | None) -> StepView:
    """What the engine has computed by itself, in the change that brought its inputs."""
    at = change.time if change else 0
    return StepView(
        instance=instance.path, number=0, function=instance.function.name, version="", opened=at, closed=at,
        state="computed", inputs=_inputs(instance),
    )  # fmt: skip


def _inputs(instance: Instance) -> tuple[LinkView, ...]:
    """What its inputs come from: their connections, and what was set there by hand."""
    links = [link for link in instance.inbound or () if link.target_tree in (Tree.IN, Tree.SUB_IN)]
    found = [LinkView(source=source_of(link), target=target_of(link)) for link in links]
    linked = {view.target for view in found}
    for field in instance.function.types[Tree.IN].fields:
        where = instance.where(Tree.IN, (field.name,))
        if where not in linked and instance.node(Tree.IN, (field.name,)) is not None:
            found.append(LinkView(source="", target=where))
    return tuple(found[:MOST])


def _job(tx: Tx, job: StepJob) -> JobRunView:
    """The attempt whose result counts, and where it ran."""
    shown, done = ids.show(job.array), jobs.done(tx, job.array)
    attempt = attempts.get(tx, job.array, done.accepted or done.attempts) if done is not None else None
    if attempt is None:
        return JobRunView(job=shown)
    worker = workers.get(tx, attempt.worker)
    spec = arrays.spec(tx, job.array)
    name = spec.executable if spec is not None else ""
    return JobRunView(
        job=shown,
        attempt=attempt.number,
        worker=worker.name if worker else "",
        host=worker.host if worker else "",
        program=_program(worker, name) if worker and name else name,
    )


def _program(worker: WorkerRow, name: str) -> str:
    """The program with its version, as the worker announces it."""
    hello = unpack(worker.hello, Hello, "what a worker has said of itself")
    version = next((program.version for program in hello.programs if program.name == name), "")
    return f"{name} {version}".strip()
