"""A job of another server that a worker here runs: what it takes of the worker's room."""

from __future__ import annotations

from dataclasses import dataclass

from cpc.core.lease import Lease
from cpc.core.resources import Amounts


@dataclass(slots=True)
class Lent:
    """`lease` has the path to its owner. `ahead`: it waits at the worker for room, as far as we know. `over`: its program has
    ended, and what it has left is on its way. `first`: it is the first job of an array."""

    lease: Lease
    granted: Amounts
    ahead: bool = False
    over: bool = False
    first: bool = False
