"""D1: the dataflow engine alone, in memory: a chain, a fan-out with its fan-in, arrays, and a large network opened again."""

from __future__ import annotations

import gc
import itertools
import time
import tracemalloc
from collections.abc import Sequence

from benchmarks.report import Options, Table, main
from cpc.core import edits
from cpc.core.edits import Edit
from cpc.core.journal import Journal
from cpc.dataflow import snapshot
from cpc.dataflow.description import ControllerText, FieldText, FunctionKind, FunctionText, ModuleText, TypeText
from cpc.dataflow.graph import Graph
from cpc.dataflow.library import Library
from cpc.dataflow.outcome import Outcome

GATHER = ModuleText(
    name="bench",
    types=(TypeText("floats", "array", "float"),),
    functions=(
        FunctionText(
            id="sum",
            kind=FunctionKind.PYTHON,
            inputs=(FieldText("xs", "floats", complete=True),),
            outputs=(FieldText("ys", "floats"),),
            controller=ControllerText(module="bench", function="sum"),
        ),
    ),
)


class Network:
    """A graph whose changes are committed at once."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.graph = Graph(Library(lambda _: GATHER), self.journal, "bench")
        self._ids = itertools.count(1)
        self.seconds = 0.0
        self.apply([edits.Import("float"), edits.Import("bench")])

    def apply(self, changes: Sequence[Edit]) -> Outcome:
        """One transaction; `seconds` is how long it took."""
        begin = time.perf_counter()
        outcome = self.graph.apply(changes, self._ids.__next__)
        for instance in outcome.opens:
            self.graph.step_opened(instance, 1)
        self.seconds = time.perf_counter() - begin
        self.journal.forget()
        return outcome


def chain(size: int) -> Network:
    """float::add instances, each fed by the one before."""
    network = Network()
    changes: list[Edit] = []
    for number in range(size):
        changes += [edits.AddInstance(f"a{number}", "float::add"), edits.SetValue(f"a{number}:in.b", 1.0)]
        if number:
            changes.append(edits.Connect(f"a{number - 1}:out.c", f"a{number}:in.a"))
    network.apply(changes)
    return network


def run_chain(size: int) -> tuple[Network, float]:
    """A chain that has run; seconds from its first input to its last output."""
    network = chain(size)
    network.apply([edits.Activate()])
    network.apply([edits.SetValue("a0:in.a", 1.0)])
    assert network.graph.value(f"a{size - 1}:out.c") == size + 1.0
    return network, network.seconds


def run_fan(size: int) -> float:
    """One output to many instances, whose outputs are the elements of one array: seconds until its step is open."""
    network = Network()
    changes: list[Edit] = [edits.AddInstance("one", "float::add"), edits.AddInstance("sum", "bench::sum")]
    for number in range(size):
        changes += [
            edits.AddInstance(f"a{number}", "float::add"),
            edits.SetValue(f"a{number}:in.b", float(number)),
            edits.Connect("one:out.c", f"a{number}:in.a"),
            edits.Connect(f"a{number}:out.c", "sum:in.xs[+]"),
        ]
    network.apply([*changes, edits.SetValue("one:in.a", 1.0), edits.Activate()])
    outcome = network.apply([edits.SetValue("one:in.b", 1.0)])
    assert [instance.name for instance in outcome.opens] == ["sum"]
    return network.seconds


def run_array(size: int) -> float:
    """Elements added to an array one transaction each: seconds for all."""
    network = Network()
    network.apply([edits.AddInstance("sum", "bench::sum")])
    begin = time.perf_counter()
    for number in range(size):
        network.apply([edits.SetValue("sum:in.xs[+]", float(number))])
    return time.perf_counter() - begin


def run(options: Options) -> Table:
    """Chains of 1,000, 10,000 and `size`; a fan of 1,000 and `size`; and `size` instances kept, listed and opened."""
    table = Table(f"D1 engine, up to {options.size} instances")
    for _ in range(options.runs):
        _, thousand = run_chain(1_000)
        _, more = run_chain(10_000)
        network, all_of_them = run_chain(options.size)
        begin = time.perf_counter()
        written = snapshot.dump(network.graph)
        dumped = time.perf_counter() - begin
        small, large, array = run_fan(1_000), run_fan(options.size), run_array(options.size)
        built = chain(options.size).seconds
        table.add(
            chain_1000_us_each=thousand / 1_000 * 1e6,
            chain_10000_us_each=more / 10_000 * 1e6,
            chain_us_each=all_of_them / options.size * 1e6,
            fan_1000_ms=small * 1e3,
            fan_us_each=large / options.size * 1e6,
            array_us_each=array / options.size * 1e6,
            apply_us_each=built / options.size * 1e6,
            dump_s=dumped,
            load_s=_load_seconds(written),
            bytes_each=_load_bytes(written) / options.size,
        )
    return table


def _load(written: snapshot.Snapshot) -> Graph:
    library, journal = Library(), Journal()
    for text in written.modules:
        library.add(text, journal)
    return snapshot.load(
        library, journal, change=written.change, instances=written.instances, values=written.values, links=written.links
    )


def _load_seconds(written: snapshot.Snapshot) -> float:
    begin = time.perf_counter()
    graph = _load(written)
    seconds = time.perf_counter() - begin
    assert len(graph.instances) == len(written.instances) + 1
    return seconds


def _load_bytes(written: snapshot.Snapshot) -> int:
    gc.collect()
    tracemalloc.start()
    graph = _load(written)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert graph.instances
    return size


if __name__ == "__main__":
    main(__doc__, run, 100_000, 3, "instances of the largest networks")
