"""What the server and its controller processes say to each other: frames of several messages, each way on a pipe.

A frame is a 4-byte length and a msgpack list. The server writes `Describe`, `Check` and `Run`; the process carries them
out in their order, says `Began` before each, and answers each with `Described`, `Checked`, `Ran` or `Refused` under its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeAlias, TypeVar

import msgspec

from cpc.core.errors import BadInput
from cpc.dataflow.answer import Answer, StepInput
from cpc.dataflow.code import Code
from cpc.dataflow.description import ModuleText

MAX_FRAME = 256 << 20
HEAD = 4
T = TypeVar("T")


class Describe(msgspec.Struct, frozen=True, tag="describe"):
    """What does Python module `python` offer, as module `name`? `directory`: where it must come from; "": anywhere."""

    number: int
    name: str
    python: str
    directory: str = ""


class Check(msgspec.Struct, frozen=True, tag="check"):
    """Can this code be run? It is tried with no inputs at all, as the original did when a module was imported."""

    number: int
    code: tuple[Code, ...]


class Run(msgspec.Struct, frozen=True, tag="run"):
    """Run a function once. `memory`: how many bytes it may use more than the process has already; 0: no limit."""

    number: int
    code: Code
    step: StepInput
    memory: int = 0


class Began(msgspec.Struct, frozen=True, tag="began"):
    """The process has turned to this call; if it dies now, this was it."""

    number: int


class Described(msgspec.Struct, frozen=True, tag="described"):
    """The answer to `Describe`. `files`: what was read for it, each with its time of change (ns) and size."""

    number: int
    module: ModuleText
    files: tuple[tuple[str, int, int], ...] = ()


class Checked(msgspec.Struct, frozen=True, tag="checked"):
    """The answer to `Check`: (function, what is wrong with it)."""

    number: int
    problems: tuple[tuple[str, str], ...]


class Ran(msgspec.Struct, frozen=True, tag="ran"):
    """The answer to `Run`. `memory`: bytes that the process holds now."""

    number: int
    answer: Answer
    memory: int = 0


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """It cannot be done, and why: the code, message and hint of a CopernicusError."""

    number: int
    code: str
    message: str
    hint: str = ""


Request: TypeAlias = Describe | Check | Run
Reply: TypeAlias = Began | Described | Checked | Ran | Refused

_encoder = msgspec.msgpack.Encoder()


def pack(messages: Sequence[Request | Reply]) -> bytes:
    """One frame; BadInput when it is longer than the other end takes."""
    body = _encoder.encode(list(messages))
    if len(body) > MAX_FRAME:
        raise BadInput(f"{len(body)} bytes are more than a message between server and controller holds ({MAX_FRAME})")
    return len(body).to_bytes(HEAD, "big") + body


class Unpacker(Generic[T]):
    """Bytes in, messages out: of a `list[Request]` or a `list[Reply]`."""

    def __init__(self, kind: type[list[T]]) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[T]:
        """The messages that are complete now, in their order; BadInput where something comes that is no frame."""
        rest = self._rest
        rest += data
        at = 0
        try:
            while len(rest) - at >= HEAD:
                size = int.from_bytes(rest[at : at + HEAD], "big")
                if size > MAX_FRAME:
                    raise BadInput(f"a frame of {size} bytes")
                if len(rest) < at + HEAD + size:
                    break
                body = bytes(rest[at + HEAD : at + HEAD + size])
                at += HEAD + size
                yield from self._read(body)
        finally:
            del rest[:at]

    def _read(self, body: bytes) -> list[T]:
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadInput(f"a frame that cannot be read: {error}") from None
