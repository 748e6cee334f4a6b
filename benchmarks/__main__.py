"""All benchmarks: `python -m benchmarks` at sizes that take a few minutes, `--full` at those of the documented figures."""

from __future__ import annotations

import argparse

from benchmarks import (
    d1_engine,
    d2_networks,
    f1_hops,
    f2_gateway,
    f4_far,
    f5_nodes,
    idle_peers,
    p1_autoscaler,
    s1_workers,
    s2_depth,
    s3_restart,
    s4_outage,
    w1_throughput,
    w2_latency,
    w3_chain,
    w4_payload,
    w5_depth,
)
from benchmarks.report import Options, show_all

#: workload → (its module, smoke size, documented size)
ALL = {
    "w1": (w1_throughput, 300, 2000),
    "w2": (w2_latency, 20, 50),
    "w3": (w3_chain, 30, 200),
    "w4": (w4_payload, 4, 20),
    "w5": (w5_depth, 20_000, 100_000),
    "s1": (s1_workers, 300, 10_000),
    "s2": (s2_depth, 20_000, 1_000_000),
    "s3": (s3_restart, 20_000, 1_000_000),
    "s4": (s4_outage, 200, 10_000),
    "d1": (d1_engine, 2_000, 100_000),
    "d2": (d2_networks, 200, 10_000),
    "f1": (f1_hops, 60, 2000),
    "f2": (f2_gateway, 40, 1024),
    "f3": (idle_peers, 5, 100),
    "f4": (f4_far, 100, 1000),
    "f5": (f5_nodes, 3, 20),
    "p1": (p1_autoscaler, 1, 5),
}
#: Seconds of an outage, at the two sizes.
AWAY = (10.0, 600.0)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(ALL)} (default: all)")
    parser.add_argument("--full", action="store_true", help="the sizes of docs/reference/benchmarks.md, 3 runs each")
    parser.add_argument("--postgresql", action="store_true", help="on PostgreSQL instead of SQLite")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    unknown = [name for name in given.workloads if name not in ALL]
    if unknown:
        parser.error(f"there is no workload {unknown[0]}; there are {', '.join(ALL)}")
    for name in given.workloads or ALL:
        module, smoke, full = ALL[name]
        size, runs = (full, 3) if given.full else (smoke, 1)
        away = AWAY[given.full]
        show_all(module.run(Options(size, runs, given.postgresql, given.json, away)), given.json)


if __name__ == "__main__":
    main()
