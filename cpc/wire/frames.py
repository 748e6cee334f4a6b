"""Frames: four bytes of length (big-endian), then a msgpack map, the *envelope*. Bytes from outside are hostile.

| key | in                | value                                                                                   |
|-----|-------------------|-----------------------------------------------------------------------------------------|
| m   | question, one-way | method                                                                                  |
| i   | question          | id of the call, counted from 1 by the side that calls; a one-way message has none       |
| r   | answer            | id of the call that it answers                                                          |
| b   | all but errors    | body: bytes, itself msgpack, opaque to relays                                           |
| e   | error             | [code, message, hint]; without `r` it is the last frame: why the connection is closed   |
| p   | greeting          | newest protocol number; with `oldest`, `release` and `caps`. The first frame each way   |
| t   | relayed           | route: the ids of the servers on its way, from the sender to the owner, each once       |
| o   | relayed           | owner: the server that the message is for, the last of the route                        |
| s   | relayed question  | seconds in which the answer is wanted                                                   |
| a   | relayed question  | bytes that the answer has at most; more are not taken                                   |
| u   | relayed question  | up to what servers on its way let it have lent: [place on the route, …] each            |

A message that ends with a chunk of a file, its field `data`, is not copied: its frame is written as a head and the chunk
(`Bulk`), read as the pieces that came, and passed on, hashed and written to disk in these. On the wire it is a frame like any
other.

Unknown keys are ignored. What is bounded, and by whom: a frame's length before it is read (`FrameReader.limit`, small
until the other side is known); lengths of maps, lists and texts in the envelope, and its nesting, by msgpack's Unpacker;
bodies by msgspec, which builds only what the expected type has and checks every length against the bytes that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgpack  # type: ignore[import-untyped]
import msgspec

from cpc.core.errors import CopernicusError, Refused, TooLarge, from_code
from cpc.core.peer import Bound
from cpc.core.pieces import Data, Piece, Pieces, pieces_of, whole

T = TypeVar("T")

HEADER = struct.Struct(">I")
MAX_FRAME = (8 << 20) + (64 << 10)  # a part of an upload (at most 8 MiB) and what is said about it
MAX_BODY = MAX_FRAME - (8 << 10)
MAX_GREETING = 16 << 10  # before the other side has said who it is
MAX_BUNDLE_FRAME = 256 << 10  # a bundle only enrols
MAX_TEXT = 4_000  # characters of an error's message or hint
MAX_ID = (1 << 63) - 1
MAX_ROUTE = 17  # servers
MAX_SERVER = 64  # characters of a server's id
MAX_WITHIN = 86_400.0  # seconds
MAX_HEAD = 4 << 10  # bytes of an envelope without its body, as far as it is looked for in a large frame
LARGE = 64 << 10  # from here on bytes are not copied but pointed at
CRUMB = 4 << 10  # smaller pieces of a large frame are put together: each object costs forty bytes beside its own

_LIMITS: dict[str, Any] = {
    "max_map_len": 64, "max_array_len": 256, "max_str_len": 64 << 10, "max_bin_len": MAX_FRAME, "max_ext_len": 0,
    "strict_map_key": True, "raw": False,
}  # fmt: skip
_BODY = msgspec.msgpack.Encoder()
_decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {}
_BODY_KEY, _DATA_KEY = b"\xa1b", b"\xa4data"  # "b" and "data", as msgpack writes them
_BIN = struct.Struct(">cI")  # msgpack's "bin 32": its mark, then a length
_EMPTY = memoryview(b"")
_NO_BYTES = b"\xc4\x00"  # how msgpack writes no bytes at all


@dataclass(frozen=True, slots=True)
class Bulk:
    """A body whose last field is `data`: `head` is all of it before those bytes. Together they are one msgpack map."""

    head: bytes
    data: Pieces

    def __len__(self) -> int:
        """Of the whole body, in bytes."""
        return len(self.head) + len(self.data)

    def __bytes__(self) -> bytes:
        return self.head + bytes(self.data)


Body = bytes | Bulk  # to be sent
Frame = tuple[Piece, ...]  # to be sent one after the other


class Envelope(msgspec.Struct, frozen=True):
    """One frame, read. Exactly one of `method`, `answers`, `error` without `answers`, and `greeting` says what it is."""

    method: str = ""
    call: int = 0
    answers: int = 0
    body: Data = b"\x80"
    error: CopernicusError | None = None
    greeting: Greeting | None = None
    owner: str = ""
    route: tuple[str, ...] = ()
    within: float = 0.0  # seconds; 0: not said
    most: int = 0  # bytes of the answer; 0: not said
    bounds: tuple[Bound, ...] = ()  # what servers on its way so far let pass


class Greeting(msgspec.Struct, frozen=True):
    """What a side speaks: protocol numbers from `oldest` to `newest`, its release, and what else it can do."""

    newest: int
    oldest: int
    release: str = ""
    capabilities: tuple[str, ...] = ()


# --- writing ------------------------------------------------------------------------------------------------------------


def body(message: Any) -> Body:
    """A message as a body. TooLarge beyond MAX_BODY."""
    data: Data = getattr(message, "data", b"")
    made: Body
    if len(data) >= LARGE:
        made = Bulk(_without(message) + _BIN.pack(b"\xc6", len(data)), pieces_of(data))
    elif isinstance(data, Pieces):
        made = _BODY.encode(msgspec.structs.replace(message, data=bytes(data)))
    else:
        made = _BODY.encode(message)
    if len(made) > MAX_BODY:
        raise TooLarge(
            f"a message of {len(made)} bytes is more than the {MAX_BODY} that a frame holds", "send it in parts"
        )
    return made


def _without(message: Any) -> bytes:
    """All of the message that is before what its last field, `data`, has."""
    without = _BODY.encode(msgspec.structs.replace(message, data=_EMPTY))
    assert without.endswith(_NO_BYTES), f"`data` is not the last field of {type(message).__name__}"
    return without[: -len(_NO_BYTES)]


def raw(data: Data) -> Body:
    """A body that came with another frame, to be sent on as it is; a large one is not copied."""
    if len(data) < LARGE:
        return bytes(data)
    return Bulk(b"", pieces_of(data))


def question(
    method: str, call: int, data: Body, route: tuple[str, ...] = (), within: float = 0.0, most: int = 0,
    bounds: tuple[Bound, ...] = (),
) -> Frame:  # fmt: skip
    """The frame of a call, or of a one-way message when `call` is 0; for the server at the end of `route`, if there is one."""
    envelope: dict[str, object] = {"m": method}
    if call:
        envelope["i"] = call
    if route:
        envelope["o"] = route[-1]
        envelope["t"] = route
        said = (("s", within), ("a", most), ("u", bounds))
        envelope.update((key, value) for key, value in said if value)
    return _frame(envelope, data)


def answer(call: int, data: Body) -> Frame:
    """The frame that answers a call."""
    return _frame({"r": call}, data)


def refusal(error: CopernicusError, call: int = 0) -> Frame:
    """The frame that answers a call with an error, or, without a call, says why the connection is closed."""
    envelope: dict[str, object] = {"e": [error.code, error.message[:MAX_TEXT], error.hint[:MAX_TEXT]]}
    if call:
        envelope["r"] = call
    return _frame(envelope)


def greeting(said: Greeting) -> Frame:
    """The first frame of each side."""
    return _frame({"p": said.newest, "oldest": said.oldest, "release": said.release, "caps": said.capabilities})


def _frame(envelope: dict[str, object], data: Body | None = None) -> Frame:
    """The envelope with `data` as its last entry."""
    frame = bytearray(HEADER.size)
    if isinstance(data, Bulk):
        _BODY.encode_into({**envelope, "b": b""}, frame, HEADER.size)
        frame[-len(_NO_BYTES) :] = _BIN.pack(b"\xc6", len(data)) + data.head
        HEADER.pack_into(frame, 0, len(frame) - HEADER.size + len(data.data))
        return frame, *data.data.parts
    if data is not None:
        envelope["b"] = data
    _BODY.encode_into(envelope, frame, HEADER.size)
    HEADER.pack_into(frame, 0, len(frame) - HEADER.size)
    return (frame,)


# --- reading ------------------------------------------------------------------------------------------------------------


class FrameReader:
    """Cuts a stream of bytes into frames. Holds at most one unfinished frame of `limit` bytes and what came with it.

    A large frame stays in the pieces in which it comes; the first one has LARGE bytes or more.
    """

    __slots__ = ("_buffer", "_here", "_pieces", "_start", "_wanted", "limit")

    def __init__(self, limit: int = MAX_GREETING) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._start = 0
        self._wanted = 0  # the size of the large frame that is coming; 0 when none is
        self._pieces: list[Piece] = []
        self._here = 0

    def __len__(self) -> int:
        """Bytes that have come and are not read yet."""
        return len(self._buffer) - self._start + self._here

    @property
    def begun(self) -> tuple[Piece, int] | None:
        """Of a large frame that is coming, LARGE bytes or more of its beginning, and the size of all; None: there is none."""
        return (self._pieces[0], self._wanted) if self._wanted else None

    def feed(self, data: bytes) -> None:
        """Bytes have come."""
        left = self._wanted - self._here
        if not left:
            self._buffer += data
        elif len(data) <= left:
            self._take(data)
        else:
            view = memoryview(data)
            self._take(view[:left])
            self._buffer += view[left:]

    def _take(self, piece: bytes | memoryview) -> None:
        self._here += len(piece)
        if len(piece) >= CRUMB:
            self._pieces.append(piece)
        elif self._pieces and type(last := self._pieces[-1]) is bytearray:
            last += piece
        else:
            self._pieces.append(bytearray(piece))

    def next(self) -> bytes | Pieces | None:
        """The next whole frame without its length, or None while it is not there. Refused when it is too long."""
        if self._wanted:
            return self._next_large()
        start = self._start + HEADER.size
        here = len(self._buffer) - start
        if here >= 0:
            (size,) = HEADER.unpack_from(self._buffer, self._start)
            if not 0 < size <= self.limit:
                raise Refused(f"a frame of {size} bytes is not taken; the limit is {self.limit}")
            if here >= size:
                self._start = start + size
                return bytes(memoryview(self._buffer)[start : self._start])
            if here >= LARGE:
                self._wanted = size
                self._take(bytes(memoryview(self._buffer)[start:]))
                self._start = len(self._buffer)
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        return None

    def _next_large(self) -> Pieces | None:
        if self._here < self._wanted:
            return None
        pieces, self._pieces = self._pieces, []
        self._wanted = self._here = 0
        return Pieces(pieces)


_Server = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SERVER)]
_Route = Annotated[tuple[_Server, ...], msgspec.Meta(max_length=MAX_ROUTE)]
_Within = Annotated[float, msgspec.Meta(ge=0.0, le=MAX_WITHIN)]
_Most = Annotated[int, msgspec.Meta(ge=0, le=MAX_FRAME)]
_Bounds = Annotated[tuple[Bound, ...], msgspec.Meta(max_length=MAX_ROUTE)]


class _Way(msgspec.Struct, kw_only=True):
    """What is said of where a frame goes."""

    o: Annotated[str, msgspec.Meta(max_length=MAX_SERVER)] = ""
    t: _Route = ()
    s: _Within = 0.0
    a: _Most = 0
    u: _Bounds = ()


class _Plain(_Way, kw_only=True):
    """A large frame as it nearly always is. Whatever else it holds is read with more care."""

    b: memoryview
    m: str = ""
    i: int = 0
    r: int = 0
    e: msgspec.Raw = msgspec.Raw()
    p: msgspec.Raw = msgspec.Raw()


_PLAIN = msgspec.msgpack.Decoder(_Plain)


def _read_pieces(frame: Pieces) -> Envelope | None:
    """The envelope, its body still in pieces; None when it is not a plain question or answer that ends with its body."""
    for head, start in _cuts(frame.parts[0], len(frame), _BODY_KEY):
        found = _read_large(head)
        if found is not None:
            return msgspec.structs.replace(found, body=frame.after(start))
    return None


def peek(first: Piece, size: int, kind: type[T], method: str) -> T | None:
    """What a large question of this method says before its `data`, when only its beginning is here; None when it is another
    one, or that cannot be told. `size`: of the whole frame."""
    for head, start in _cuts(first, size, _BODY_KEY):
        envelope = _read_large(head)
        if envelope is not None and envelope.method == method:
            for part, _ in _cuts(memoryview(first)[start:], size - start, _DATA_KEY):
                with suppress(Refused):
                    return _decode(part, kind, method)
    return None


def _cuts(first: Piece, size: int, key: bytes) -> Iterator[tuple[bytes, int]]:
    """Where a map of `size` bytes may be cut before the bytes that its last `key` has: all before them, as if they were none,
    and where they begin.

    Bytes of another field may look like it. But where what comes before is a whole map, there it is.
    """
    head, mark = bytes(first[:MAX_HEAD]), key + b"\xc6"
    at = head.find(mark)
    while at >= 0:
        start = at + len(mark) + HEADER.size
        if start <= len(head) and HEADER.unpack_from(head, at + len(mark))[0] == size - start:
            yield head[: at + len(key)] + _NO_BYTES, start
        at = head.find(mark, at + 1)


def _read_large(frame: bytes | memoryview) -> Envelope | None:
    """The envelope, its body a view of the frame; None when it is not a plain question or answer."""
    try:
        found = _PLAIN.decode(frame)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
    if bytes(found.e) or bytes(found.p) or not (0 <= found.i <= MAX_ID and 0 <= found.r <= MAX_ID):
        return None
    if found.r:
        return Envelope(answers=found.r, body=found.b) if not found.m else None
    if not 0 < len(found.m) <= 100 or (found.t or (found.o,))[-1] != found.o:
        return None
    return Envelope(found.m, found.i, body=found.b, **_about(found))


def read(came: bytes | Pieces) -> Envelope:
    """The envelope in a frame, or Refused when it is not one."""
    if isinstance(came, Pieces):
        return _read_pieces(came) or _read_whole(whole(came))
    return _read_whole(came)


def _read_whole(frame: bytes | memoryview) -> Envelope:
    plain = _read_large(frame) if len(frame) > LARGE else None
    if plain is not None:
        return plain
    try:
        found = msgpack.unpackb(frame, **_LIMITS)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise Refused(f"this is not a frame: {type(error).__name__} {str(error)[:200]}") from None
    if type(found) is not dict:
        raise Refused("this is not a frame: its envelope is not a map")
    data = found.get("b", b"\x80")
    if type(data) is not bytes:
        raise Refused("this is not a frame: its body is not bytes")
    if "e" in found:
        return Envelope(answers=_number(found, "r"), error=_error(found["e"]))
    if "r" in found:
        return Envelope(answers=_number(found, "r"), body=data)
    if "m" in found:
        method = found["m"]
        if type(method) is not str or not 0 < len(method) <= 100:
            raise Refused("this is not a frame: its method is not a short text")
        return Envelope(method, _number(found, "i"), body=data, **_way(found))
    if "p" in found:
        return Envelope(greeting=_greeting(found))
    raise Refused("this is not a frame: it neither asks, answers nor greets")


def decode(data: Data, kind: type[T], method: str) -> T:
    """A body as `kind`, or Refused with the path of the field that does not fit, as in `$.holds[0]`. Its last field, if that is
    `data`, stays in the pieces that came."""
    if isinstance(data, Pieces) and getattr(kind, "__struct_fields__", ())[-1:] == ("data",):
        for head, start in _cuts(data.parts[0], len(data), _DATA_KEY):
            with suppress(Refused):
                message: Any = _decode(head, kind, method)
                found: T = msgspec.structs.replace(message, data=data.after(start))
                return found
    return _decode(whole(data), kind, method)


def _decode(data: bytes | memoryview, kind: type[T], method: str) -> T:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        found: T = decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise Refused(f"{method}: the message does not fit: {str(error)[:500]}") from None
    return found


def _number(found: dict[Any, Any], key: str) -> int:
    number = found.get(key, 0)
    if type(number) is not int or not 0 <= number <= MAX_ID:
        raise Refused(f"this is not a frame: {key!r} is not an id")
    return number


def _error(said: object) -> CopernicusError:
    if type(said) is not list or not 2 <= len(said) <= 8 or any(type(part) is not str for part in said[:3]):
        raise Refused("this is not a frame: its error is not [code, message, hint]")
    return from_code(said[0], said[1][:MAX_TEXT], said[2][:MAX_TEXT] if len(said) > 2 else "")


def _greeting(found: dict[Any, Any]) -> Greeting:
    newest = _number(found, "p")
    oldest = _number(found, "oldest") if "oldest" in found else newest
    release, capabilities = found.get("release", ""), found.get("caps", [])
    if type(release) is not str or type(capabilities) is not list or any(type(one) is not str for one in capabilities):
        raise Refused("this is not a greeting: release and caps are texts")
    return Greeting(newest, oldest, release[:100], tuple(capabilities))


def _way(found: dict[str, Any]) -> dict[str, Any]:
    """For whom, along which servers, and what they have said about it; nothing for the one who reads it."""
    if not found.get("o") and not found.get("t"):
        return {}
    try:
        way = msgspec.convert({key: found[key] for key in "otsau" if key in found}, _Way)
    except msgspec.ValidationError as error:
        raise Refused(f"this is not a frame: its route or its time is not one: {str(error)[:200]}") from None
    if not way.o or (way.t and way.t[-1] != way.o):
        raise Refused("this is not a frame: its owner is not the end of its route")
    return _about(way)


def _about(way: _Way) -> dict[str, Any]:
    return {"owner": way.o, "route": way.t, "within": way.s, "most": way.a, "bounds": way.u}
