"""Ids: (server id, incarnation, number), where the last two share one 64-bit integer.

    bit 62…52  incarnation   1…2047   raised by restore and takeover, so numbers of a lost life never match
    bit 51…20  sequence      0…2³²−1  one per submission, user, project, …
    bit 19…0   index         0…2²⁰−1  the element of an array; 0 for anything else

So a job's id orders by submission, then by index, and fits a database's integer key. In print the incarnation is left
out while it is 1: `57`, `57[3]`, later `2.57[3]`. The server id is added where several servers meet.
"""

from __future__ import annotations

import re

from cpc.core.errors import BadInput

INDEX_BITS = 20
SEQUENCE_BITS = 32
MAX_ARRAY = 1 << INDEX_BITS
MAX_SEQUENCE = (1 << SEQUENCE_BITS) - 1
MAX_INCARNATION = (1 << 11) - 1

_PRINTED = re.compile(r"(?:(\d{1,4})\.)?(\d{1,10})(?:\[(\d{1,7})\])?")

_EVENT = re.compile(r"(?:([0-9]{1,4})\.)?([0-9]{1,19})")
_EVENT_BITS = SEQUENCE_BITS + INDEX_BITS


def make(incarnation: int, sequence: int, index: int = 0) -> int:
    """The integer id of element `index` of submission `sequence`."""
    if not (1 <= incarnation <= MAX_INCARNATION and 0 <= sequence <= MAX_SEQUENCE and 0 <= index < MAX_ARRAY):
        raise BadInput(f"no such id: incarnation {incarnation}, number {sequence}, index {index}")
    return (incarnation << (SEQUENCE_BITS + INDEX_BITS)) | (sequence << INDEX_BITS) | index


def incarnation(number: int) -> int:
    """The server's life in which the id was made."""
    return number >> (SEQUENCE_BITS + INDEX_BITS)


def index(number: int) -> int:
    """Which element of its array the job is."""
    return number & (MAX_ARRAY - 1)


def array(number: int) -> int:
    """The id of the array (or single job) that the job belongs to."""
    return number & ~(MAX_ARRAY - 1)


def after(number: int, count: int) -> int:
    """The id that was given `count` later: ids of a kind differ by one sequence number."""
    return number + (count << INDEX_BITS)


def show(number: int, element: bool = False) -> str:
    """The id as people see it; `element` adds the index in brackets."""
    life = incarnation(number)
    text = str((number >> INDEX_BITS) & MAX_SEQUENCE)
    if life != 1:
        text = f"{life}.{text}"
    return f"{text}[{index(number)}]" if element else text


def read(text: str) -> tuple[int, bool]:
    """The integer id that `show` printed, and whether it names one element of an array."""
    found = _PRINTED.fullmatch(text.strip())
    if found is None:
        raise BadInput(f"{text!r} is not an id", "ids look like 57, or 57[3] for one element of an array")
    life, sequence, element = found.groups()
    return make(int(life or 1), int(sequence), int(element or 0)), element is not None


def show_event(number: int) -> str:
    """The number of an event as people see it: `57`, after a restore `2.58`. All bits below the incarnation count."""
    life, count = number >> _EVENT_BITS, number & ((1 << _EVENT_BITS) - 1)
    return str(count) if life < 2 else f"{life}.{count}"


def read_event(text: str) -> int:
    """The number of an event as `show_event` prints it, or whole, as it is in JSON; 0 is before the first."""
    found = _EVENT.fullmatch(text.strip())
    if found is None:
        raise BadInput(f"{text[:40]!r} is not the number of an event", "they look like 57, or 2.58 after a restore")
    life, count = int(found[1] or 0), int(found[2])
    if life:
        return min(life, MAX_INCARNATION) << _EVENT_BITS | min(count, (1 << _EVENT_BITS) - 1)
    return count if count == 0 or count >> _EVENT_BITS else make(1, 0) + count
