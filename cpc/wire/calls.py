"""The calls that one side has made on a connection and that are not answered yet: how many, how large, for how long.

A side asks at most MAX_CALLS questions at once, FAR_CALLS for servers behind the other side, and of those with files in them
as many as BULK_BYTES allow: BULK_CALLS for whole chunks, or where nothing is said of how large the answer is, and up to
SMALL_CALLS for small ones, or each would cost a way there and back. Further ones wait here for their turn. The other side stops
reading beyond these numbers, so both sides stay bounded and neither waits for ever. An answer that is larger than was said is not
taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from cpc.core.alarm import Alarm
from cpc.core.clock import Clock, Timer, Timers
from cpc.core.digest import CHUNK
from cpc.core.errors import CopernicusError, Refused, Unavailable
from cpc.core.peer import Bound
from cpc.core.pieces import Data
from cpc.wire import frames

MAX_CALLS = 64
FAR_CALLS = 64  # of those for servers behind the other side: that one of them is slow keeps nobody else waiting
BULK_CALLS = 4
SMALL_CALLS = 64
MARGIN = 4 << 10  # bytes that are around a chunk in an answer, or that are an answer without one
WHOLE = CHUNK + MARGIN
BULK_BYTES = BULK_CALLS * WHOLE
MAX_CALL_BYTES = 32 << 20
MAX_WAITING = 4096
_GONE = b""


def bulk_weight(size: int, most: int) -> int:
    """Bytes that a question of `size` bytes and an answer of at most `most` take; 0: nothing is said of the answer."""
    return max(size, most or WHOLE)


def answer_of(size: int) -> int:
    """What is said of an answer with a chunk of `size` bytes; 0: nothing, because nobody knows its size."""
    return size + MARGIN if size else 0


@dataclass(slots=True, eq=False)
class _Call:
    method: str
    data: frames.Body  # until it has been sent: a large one would be held here while its answer is waited for
    lane: _Lane
    route: tuple[str, ...]
    within: float
    most: int  # bytes of the answer; 0: nothing is said of it
    weight: int  # bytes that it takes in its lane
    bounds: tuple[Bound, ...] = ()
    timer: Timer | None = None
    number: int = 0
    answer: Deferred[Data] = field(default_factory=Deferred)

    def stop_timer(self) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()


@dataclass(slots=True, eq=False)
class _Lane:
    limit: int
    most: int = MAX_CALL_BYTES
    calls: int = 0
    size: int = 0
    waiting: deque[_Call] = field(default_factory=deque)

    def has_room(self, size: int) -> bool:
        return self.calls == 0 or (self.calls < self.limit and self.size + size <= self.most)


class Calls:
    """Outstanding calls of one connection."""

    def __init__(self, reactor: Timers, clock: Clock, send: Callable[[frames.Frame], None]) -> None:
        self._reactor = reactor
        self._clock = clock
        self._send = send
        self._last = 0
        self._sent: dict[int, _Call] = {}
        self._control = _Lane(MAX_CALLS)
        self._far = _Lane(FAR_CALLS)
        self._bulk = _Lane(SMALL_CALLS, BULK_BYTES)

    def __len__(self) -> int:
        """How many are sent and not answered."""
        return len(self._sent)

    def ask(
        self, method: str, data: frames.Body, timeout: float, bulk: bool, route: tuple[str, ...] = (), most: int = 0,
        bounds: tuple[Bound, ...] = (),
    ) -> Deferred[Data]:  # fmt: skip
        """Send a question, or queue it. The body of the answer, of at most `most` bytes if that is not 0, or the error that was
        answered; Unavailable when late."""
        lane = self._bulk if bulk else self._far if route else self._control
        if len(lane.waiting) >= MAX_WAITING:
            raise Unavailable(f"{method}: {MAX_WAITING} calls wait for the other side already", "try again later")
        weight = bulk_weight(len(data), most) if bulk else len(data)
        call = _Call(method, data, lane, route, timeout if route else 0.0, most, weight, bounds)
        call.timer = Alarm(self._reactor, self._clock, timeout, lambda: self._late(call, timeout))
        call.answer = Deferred(lambda _: self._forget(call))
        if lane.waiting or not lane.has_room(weight):
            lane.waiting.append(call)
        else:
            self._go(call)
        return call.answer

    def answered(self, envelope: frames.Envelope) -> None:
        """An answer has come. One to a call that was given up is dropped; one to no call is Refused."""
        call = self._sent.get(envelope.answers)
        if call is None:
            if envelope.answers > self._last:
                raise Refused(f"an answer to call {envelope.answers}, which was never made")
            return
        self._forget(call)
        if envelope.error is not None:
            call.answer.errback(envelope.error)
        elif call.most and len(envelope.body) > call.most:
            size = len(envelope.body)
            call.answer.errback(
                Refused(f"{call.method}: the answer has {size} bytes, at most {call.most} were asked for")
            )
        else:
            call.answer.callback(envelope.body)

    def fail(self, error: CopernicusError) -> None:
        """The connection has ended: so do all calls, sent or waiting, in the order in which they were made."""
        lanes = (self._control, self._far, self._bulk)
        calls = [*self._sent.values(), *(call for lane in lanes for call in lane.waiting)]
        self._sent.clear()
        for lane in lanes:
            lane.waiting.clear()
        for call in calls:
            call.stop_timer()
        for call in calls:
            if not call.answer.called:
                call.answer.errback(type(error)(error.message, error.hint))

    def _go(self, call: _Call) -> None:
        self._last += 1
        call.number = self._last
        call.lane.calls += 1
        call.lane.size += call.weight
        self._sent[call.number] = call
        about = (call.route, call.within, call.most, call.bounds)
        self._send(frames.question(call.method, call.number, call.data, *about))
        call.data = _GONE

    def _late(self, call: _Call, timeout: float) -> None:
        self._forget(call)
        call.answer.errback(Unavailable(f"{call.method}: no answer within {timeout:g} s", "try again"))

    def _forget(self, call: _Call) -> None:
        """The call is over, however it ended; the next one that waits may go."""
        call.stop_timer()
        lane = call.lane
        if self._sent.pop(call.number, None) is not None:
            lane.calls -= 1
            lane.size -= call.weight
        elif call in lane.waiting:
            lane.waiting.remove(call)
        while lane.waiting and lane.has_room(lane.waiting[0].weight):
            self._go(lane.waiting.popleft())
