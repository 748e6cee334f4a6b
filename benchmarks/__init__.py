"""Benchmarks of the whole system: server, worker and client as separate processes, through their public command lines.

W1 to W5 are the workloads of the peer comparison (see `benchmarks/peers`): throughput, latency, a chain, payload, depth.
S1 to S4 are about scale: connected workers, depth, restart, outage, with simulated workers over the real wire.
Each script prints a table with the median of several runs, and beside it a floor that was measured in the same run.
"""
