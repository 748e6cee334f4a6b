"""The controller process: reads calls from one pipe, carries them out in their order, and answers on another.

Descriptor 3 brings requests, 4 takes replies; standard output and error are the code's own, and end up in the log of the
instance that runs. The process ends when the server closes its pipe, and dies with the server.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator

import msgspec

from cpc.api.modules import describe
from cpc.api.running import explain
from cpc.controller import loading
from cpc.controller.capture import Capture
from cpc.controller.run import check, run
from cpc.core.errors import BadInput, CopernicusError
from cpc.core.resources import show_size
from cpc.dataflow import turn
from cpc.dataflow.answer import Answer
from cpc.dataflow.turn import Began, Check, Checked, Describe, Described, Ran, Refused, Reply, Request, Run

REQUESTS, REPLIES = 3, 4
_PR_SET_PDEATHSIG = 1
_PIECE = 1 << 20


def main() -> None:
    """Serve until there is nobody to serve. Arguments: directories to look for modules in, after Python's own."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(PermissionError):  # a wrapper has made it the leader of a session already
        os.setsid()
    for descriptor in (REQUESTS, REPLIES):
        os.set_inheritable(descriptor, False)
    sys.path = [*filter(None, sys.path), *sys.argv[1:]]
    sys.argv = ["cpc-controller"]
    told = os.dup(sys.stderr.fileno())  # to the server's log, in case that this process itself is at a loss
    os.set_inheritable(told, False)
    capture = Capture()
    try:
        for request in _requests():
            _say(Began(request.number))
            _say(_answer(request, capture))
    except BaseException:
        os.write(told, traceback.format_exc().encode())
        raise


def _requests() -> Iterator[Request]:
    unpacker = turn.Unpacker(list[Request])
    while data := os.read(REQUESTS, _PIECE):
        yield from unpacker.feed(data)


def _say(reply: Reply) -> None:
    try:
        data = memoryview(turn.pack([reply]))
    except BadInput as error:
        data = memoryview(turn.pack([Refused(reply.number, error.code, error.message, error.hint)]))
    while data:
        data = data[os.write(REPLIES, data) :]


def _answer(request: Request, capture: Capture) -> Reply:
    try:
        match request:
            case Run():
                return _run(request, capture)
            case Check():
                problems = ((one.function, check(one)) for one in request.code)
                return Checked(request.number, tuple((name, problem) for name, problem in problems if problem))
            case Describe():
                module = loading.module(request.python, request.directory)
                return Described(request.number, describe(module, request.name), loading.files(module))
    except CopernicusError as error:
        return Refused(request.number, error.code, error.message, error.hint)
    except Exception as error:
        return Refused(request.number, CopernicusError.code, explain(error))


def _run(request: Run, capture: Capture) -> Ran:
    capture.take()
    try:
        with _limited(request.memory):
            answer = run(request.code, request.step)
    except SystemExit as error:
        answer = Answer(error=f"the function ended its process: exit {error.code}")
    if "MemoryError" in answer.error and request.memory:
        answer = Answer(error=f"it needs more memory than its limit of {show_size(request.memory)}\n{answer.error}")
    printed = capture.take()
    return Ran(request.number, msgspec.structs.replace(answer, log=printed + answer.log), _pages(1))


@contextlib.contextmanager
def _limited(memory: int) -> Iterator[None]:
    """With `memory` bytes of address space more than there are now; 0: as many as there are."""
    former = resource.getrlimit(resource.RLIMIT_AS)
    if memory:
        wanted = _pages(0) + memory
        hard = former[1]
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, former)


def _pages(field: int) -> int:
    """Bytes of this process: 0, its address space; 1, its memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[field]) * resource.getpagesize()
