"""The machines' door of a real server under attack: it answers or closes, its memory stays bounded, others do not notice."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from cpc.core.clock import SystemClock
from cpc.wire import frames
from cpc.wire.identity import Authority, Role
from cpc.wire.strangers import MAX_STRANGERS
from tests.acceptance.conftest import Make
from tests.helpers import hostile_wire
from tests.helpers.bystanders import Bystander, Memory
from tests.helpers.hostile_wire import Door, bombs, ended, last_words, raw, read_frame, sent
from tests.helpers.network_of_processes import Network

#: What the process may grow by at its peak. A flood that is held in memory is several times as large.
BOUND = 96 << 20


@pytest.fixture(scope="module")
def attacked(make_network: Make) -> Network:
    return make_network()


@pytest.fixture(scope="module")
def door(attacked: Network) -> Door:
    return Door(attacked.port, attacked.place)


@pytest.fixture(scope="module")
def busy(attacked: Network) -> Iterator[Bystander]:
    with Bystander(attacked) as other:
        other.goes_on()
        yield other


@pytest.fixture
def bystander(attacked: Network, busy: Bystander) -> Iterator[Bystander]:
    """Works all the time; how much memory the server has needed meanwhile is looked at in the end."""
    assert attacked.server is not None
    memory = Memory(attacked.server.pid)
    memory.begin()
    yield busy
    busy.goes_on()
    assert memory.growth() < BOUND, f"the server has grown by {memory.growth() >> 20} MiB"


def handshake_half(door: Door) -> socket.socket:
    """The server has said its part and waits for ours."""
    _, _, hello = door.client_hello()
    made = door.socket()
    made.sendall(hello)
    assert made.recv(1) == b"\x16"
    return made


def part_of_hello(door: Door) -> socket.socket:
    made = door.socket()
    made.sendall(door.client_hello()[2][:40])
    return made


def no_greeting(door: Door) -> socket.socket:
    return door.secure(door.identity())


def part_of_greeting(door: Door) -> socket.socket:
    made = door.secure(door.identity())
    made.sendall(sent(frames.greeting(frames.Greeting(1, 1, "slow")))[:-3])
    return made


SLOW: list[Callable[[Door], socket.socket]] = [
    lambda door: door.socket(), part_of_hello, handshake_half, no_greeting, part_of_greeting,
]  # fmt: skip


def test_those_who_do_not_go_on_are_closed_and_nobody_waits_for_them(door: Door, bystander: Bystander) -> None:
    """Nothing, half a handshake, bytes one by one: all at once, many of each, for as long as they may stay."""
    with ExitStack() as stack:
        held = [stack.enter_context(make(door)) for make in SLOW for _ in range(10)]
        trickle, rest = stack.enter_context(door.socket()), door.client_hello()[2]
        for at in range(len(rest) - 1):
            bystander.goes_on(1) if at % 100 == 0 else None
            try:
                trickle.sendall(rest[at : at + 1])
            except OSError:
                break
        bystander.goes_on()
        assert all(ended(each) for each in [*held, trickle])
        bystander.goes_on()


def test_one_address_cannot_keep_the_others_out(door: Door, bystander: Bystander) -> None:
    """As many connections as the door has room for strangers; a worker that comes from elsewhere gets in."""
    with ExitStack() as stack:
        for _ in range(MAX_STRANGERS + 50):
            stack.enter_context(door.socket())
        other = door.socket("127.0.0.4")
        made = stack.enter_context(door.context(door.identity(), "cpc/1").wrap_socket(other))
        made.sendall(sent(frames.greeting(frames.Greeting(1, 1, "good"))))
        assert read_frame(made) is not None
        bystander.goes_on()


def refused(door: Door, sock: ssl.SSLSocket) -> str:
    with sock:
        return last_words(sock)


def test_who_is_not_a_worker_of_this_server_is_told_so(door: Door, bystander: Bystander) -> None:
    other = Authority.create("another-server")
    expired = Authority.load(door.authority.key_pem, door.authority.certificate_pem, Earlier())
    cases = {
        "this port speaks cpc/1": door.secure(door.identity(), "http/1.1"),
        "which was not asked for": door.context(door.identity()).wrap_socket(door.socket()),
        "this is the server itself": door.secure(door.identity(Role.SERVER)),
        "expired on": door.secure(door.identity(authority=expired, valid_for=60.0)),
    }
    for words, sock in cases.items():
        if words == "this is the server itself":
            sock.sendall(sent(frames.greeting(frames.Greeting(1, 1, "x"))))
        assert words in refused(door, sock)
    for identity in (None, door.identity(authority=other)):
        with door.secure(identity) as sock:
            assert ended(sock)
    assert not hostile_wire.renegotiates(door)


class Earlier(SystemClock):
    """A year ago."""

    def now(self) -> int:
        return super().now() - 366 * 86_400 * 1_000_000


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x80\x2e\x01\x03\x01\x00" * 9,
        b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000,
        bytes(1 << 20),
    ],
)
def test_what_is_not_tls_is_closed(door: Door, data: bytes) -> None:
    with door.socket() as sock:
        try:
            sock.sendall(data)
        except ConnectionError:
            return
        assert ended(sock)


def test_bombs_are_refused_by_what_they_say(door: Door, bystander: Bystander) -> None:
    identity = door.identity()
    for what, frame in bombs():
        with door.greeted(identity) as sock:
            sock.sendall(raw(frame))
            answer = read_frame(sock)
            assert answer is not None, what
            assert "e" in answer, f"{what}: {answer}"
    for size in (0, frames.MAX_FRAME + 1, 0xFFFFFFFF):
        with door.greeted(identity) as sock:
            sock.sendall(struct.pack(">I", size))
            assert "not taken" in last_words(sock)
    with door.secure(identity) as sock:  # not even so much before the greeting
        sock.sendall(struct.pack(">I", frames.MAX_GREETING + 1))
        assert "not taken" in last_words(sock)


FLOODS = {
    "questions that nobody answers to": frames.question("nix", 1, b"\x80"),
    "questions for another server": frames.question("turn", 1, b"\x80", route=("here", "elsewhere")),
    "questions that do not fit": frames.question("hello", 1, b"\x80"),
    "messages that nobody knows": frames.question("nix", 0, b"\x80"),
    "answers to nothing": frames.answer(7, b"\x80"),
}


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_that_is_never_read_stays_where_it_came_from(door: Door, bystander: Bystander, what: str) -> None:
    """Frames as fast as they go, for as long as the server takes them, and not one answer is read."""
    frame = sent(FLOODS[what])
    portion = frame * ((1 << 20) // len(frame))
    with door.greeted(door.identity()) as sock:
        sock.settimeout(3.0)
        try:
            for _ in range(100):
                sock.sendall(portion)
        except (TimeoutError, ssl.SSLError, OSError):
            pass  # the server reads no more, or has closed
        bystander.goes_on()


def test_those_who_cut_the_line_leave_nothing_behind(door: Door, bystander: Bystander) -> None:
    """Without a close_notify, or with a reset, at any point."""
    for reset in (False, True):
        for make in (*SLOW, lambda door: door.greeted(door.identity())):
            for _ in range(20):
                sock = make(door)
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
    bystander.goes_on()
