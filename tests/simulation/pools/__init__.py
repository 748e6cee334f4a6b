"""The autoscaler among model batch systems, on a virtual clock: traces, faults, invariants, and an oracle to compare with."""
