"""D2: projects on a real server, every change on disk: a chain, a fan-out with its sum, jobs that functions ask for, a
large network opened again, listed and drawn.

The original Copernicus needed 0.19 ms an instance of a chain, not on disk, and 7.8 s for a fan-out of 1,000 into one sum.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.report import Options, Table, main
from benchmarks.system import PROJECT, System, system
from cpc.client.network import Network
from cpc.core.edits import Activate, AddInstance, Connect, Edit, Import, SetValue

PATIENCE = 600.0
FAN = 1000
JOBS = 1000


def run(options: Options) -> Table:
    """N instances in the chain and the large network; at most 1,000 in the fan-out and of the jobs."""
    database = "PostgreSQL" if options.postgresql else "SQLite"
    table = Table(f"D2 networks of {options.size} instances, {database}")
    for _ in range(options.runs):
        with system(postgresql=options.postgresql) as running:
            chained = chain(running, options.size)
            fanned = fan(running, min(options.size, FAN))
            worked = jobs(running, min(options.size, JOBS))
            table.add(**chained, **fanned, **worked, **again(running, options.size))
    return table


def network(running: System, name: str, *modules: str) -> Network:
    """A new project's network that has imported some modules."""
    running.client.create_project(name)
    found = running.client.network(name)
    found.edit(*(Import(module) for module in modules))
    return found


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def chain(running: System, size: int) -> dict[str, float]:
    """float::add instances, each fed by the one before: made in one call, then one input changed."""
    found = network(running, "chain", "float")
    edits: list[Edit] = []
    for number in range(size):
        edits += [AddInstance(f"a{number}", "float::add"), SetValue(f"a{number}:in.b", 1.0)]
        if number:
            edits.append(Connect(f"a{number - 1}:out.c", f"a{number}:in.a"))
    made = seconds(lambda: found.edit(*edits, Activate()))
    ran = seconds(lambda: found.set("a0:in.a", 1.0))
    assert found.get(f"a{size - 1}:out.c") == size + 1.0
    return {"make_us_each": made / size * 1e6, "chain_us_each": ran / size * 1e6}


def fan(running: System, size: int) -> dict[str, float]:
    """One value to many instances, their outputs the elements of one array, and the sum of that, which a controller makes."""
    found = network(running, "fan", "float", "benchmark")
    edits: list[Edit] = [
        AddInstance("one", "float::add"),
        SetValue("one:in.b", 0.0),
        AddInstance("sum", "benchmark::multi_add"),
    ]
    for number in range(size):
        edits += [
            AddInstance(f"m{number}", "float::add"), SetValue(f"m{number}:in.b", 1.0),
            Connect("one:out.c", f"m{number}:in.a"), Connect(f"m{number}:out.c", f"sum:in.terms[{number}]"),
        ]  # fmt: skip
    found.edit(*edits, Activate())

    def through() -> None:
        found.set("one:in.a", 1.0)
        found.wait_for("sum:out.sum", PATIENCE)

    took = seconds(through)
    assert found.get("sum:out.sum") == 2.0 * size
    return {"fan_s": took}


def jobs(running: System, size: int) -> dict[str, float]:
    """Instances that each ask for one job that does nothing; until all of them have their output."""
    found = network(running, "jobs", "benchmark")
    edits: list[Edit] = [AddInstance("all", "benchmark::result_collector"), SetValue("all:in.num_samples", size)]
    for number in range(size):
        edits += [
            AddInstance(f"s{number}", "benchmark::sleep"), SetValue(f"s{number}:in.sleep_time", 0),
            Connect(f"s{number}:out.exec_time", f"all:in.sleep_time_array[{number}]"),
        ]  # fmt: skip
    with running.meter() as meter:
        found.edit(*edits, Activate())
        found.wait_for("all:out.total_time", PATIENCE)
    return {"jobs_s": size / meter.wall, "job_server_us": meter.seconds["server"] / size * 1e6}


def again(running: System, size: int) -> dict[str, float]:
    """The chain after a restart: the first value, the first page of a list, a drawing of all of it."""
    running.end_server()
    running.start_server()
    running.client.project = PROJECT
    found = running.client.network("chain")
    return {
        "open_s": seconds(lambda: found.get(f"a{size - 1}:out.c")),
        "list_s": seconds(found.item),
        "draw_s": seconds(found.drawing),
    }


if __name__ == "__main__":
    main(__doc__, run, 10_000, 3, "instances")
