"""What a worker is and what it has to give: the facts of a hello, and what is free now. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from cpc.core.resources import Amounts
from cpc.wire.messages import Program


@dataclass(frozen=True, slots=True)
class Offer:
    """The node as it is announced. `cores_per_job` (-s) is 0 when jobs may have what suits them."""

    host: str
    platform: str
    total: Amounts
    programs: tuple[Program, ...] = ()
    labels: tuple[str, ...] = ()
    project: str = ""
    cores_per_job: int = 0


def free(total: Amounts, granted: Iterable[Amounts], available: int | None = None) -> Amounts:
    """What is left of `total` when all in `granted` is in use; never below nothing.

    `available` is the memory that the node has left now, in bytes: other people's programs use it, too.
    """
    left = total
    for amounts in granted:
        left = left - amounts
    memory = left.memory if available is None else min(left.memory, available)
    return msgspec.structs.replace(
        left,
        cores=max(0, left.cores),
        gpus=max(0, left.gpus),
        memory=max(0, memory),
        other={name: max(0, amount) for name, amount in left.other.items()},
    )
