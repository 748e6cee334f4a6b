"""What a worker is and what it has to give: the facts of a hello, and what is free now. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from cpc.core.resources import Amounts
from cpc.wire.messages import Program


@dataclass(frozen=True, slots=True)
class Offer:
    """The node as it is announced. `cores_per_job` (-s) is 0 when jobs may have what suits them.

    `allocation`, `node`, `restarts`: what the batch system that started the worker calls them; "" and 0 where none did.
    """

    host: str
    platform: str
    total: Amounts
    programs: tuple[Program, ...] = ()
    labels: tuple[str, ...] = ()
    project: str = ""
    cores_per_job: int = 0
    allocation: str = ""
    node: str = ""
    restarts: int = 0


def free(left: Amounts, available: int | None = None) -> Amounts:
    """What nobody has of this worker's amounts, as it is told to people.

    `available` is the memory that the node has left now, in bytes: other people's programs use it, too.
    """
    return left if available is None else msgspec.structs.replace(left, memory=min(left.memory, available))
