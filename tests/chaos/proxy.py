"""A hop of TCP on loopback that can be cut, reset, stalled, slowed, and left half-open; it runs in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

PIECE = 16 << 10


class Flow:
    """One connection through the proxy: from a client to the server behind it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.up = 0  # bytes from the client
        self.deaf = False  # what comes is read and thrown away
        self.swallow = False  # to be reset at the next answer

    def reset(self) -> None:
        """Both sides are told that the other is gone, without a goodbye; what is on the way is lost."""
        for side in (self.client, self.server):
            side.transport.abort()


class Proxy:
    """Listens on a port of its own and passes everything on to `target` on 127.0.0.1. Its methods may be called from anywhere."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._flows: set[Flow] = set()
        self._refusing = False
        self._rate = 0
        self._cut_after = 0
        self.up = 0  # bytes that have passed towards the server
        self.cuts = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port: int = self._ask(self._begin())

    async def _begin(self) -> int:
        self._passing = asyncio.Event()
        self._passing.set()
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return int(self._listener.sockets[0].getsockname()[1])

    def _ask(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _do(self, act: Callable[[], None]) -> None:
        async def work() -> None:
            act()

        self._ask(work())

    def _each(self, act: Callable[[Flow], None]) -> None:
        def work() -> None:
            for flow in list(self._flows):
                act(flow)

        self._do(work)

    # --- what can be done to it ---

    def reset(self) -> None:
        """RST on every connection."""
        self._each(Flow.reset)

    def refuse(self) -> None:
        """Nobody gets through: connections are ended as they come."""
        self._do(lambda: setattr(self, "_refusing", True))
        self.reset()

    def stall(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._do(lambda: self._passing.clear())

    def slow(self, rate: int) -> None:
        """So many bytes a second on each connection and way."""
        self._do(lambda: setattr(self, "_rate", rate))

    def forget_client(self) -> None:
        """The server's side stays open, and nobody is behind it: a worker whose machine has lost power."""
        self._each(lambda flow: self._abandon(flow, flow.client))

    def forget_server(self) -> None:
        """The client's side stays open, and nobody answers: a firewall that has forgotten the connection."""
        self._each(lambda flow: self._abandon(flow, flow.server))

    def _abandon(self, flow: Flow, side: asyncio.StreamWriter) -> None:
        flow.deaf = True
        side.transport.abort()

    def cut_upload(self, after: int) -> None:
        """Reset the connection that next carries a file, when `after` bytes of it have passed."""
        self._do(lambda: setattr(self, "_cut_after", after))

    def swallow_answers(self) -> None:
        """On each connection that is open now, the next answer is lost with the connection."""
        self._each(lambda flow: setattr(flow, "swallow", True))

    def heal(self) -> None:
        """As a network should be. Connections that were left half-open are ended."""

        def act() -> None:
            self._refusing, self._rate, self._cut_after = False, 0, 0
            self._passing.set()
            for flow in list(self._flows):
                flow.swallow = False
                if flow.deaf:
                    flow.reset()

        self._do(act)

    def close(self) -> None:
        """End everything."""

        async def end() -> None:
            self._listener.close()
            for flow in list(self._flows):
                flow.reset()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()
            await asyncio.sleep(0)

        self._ask(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    # --- passing on ---

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        with contextlib.suppress(asyncio.CancelledError):
            try:
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
            except OSError:
                writer.transport.abort()
                return
            flow = Flow(writer, server_writer)
            self._flows.add(flow)
            try:
                await asyncio.gather(
                    self._pass(flow, reader, server_writer, True), self._pass(flow, server_reader, writer, False)
                )
            finally:
                flow.reset()
                self._flows.discard(flow)

    async def _pass(self, flow: Flow, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                await self._passing.wait()
                if flow.deaf:
                    continue
                if self._rate:
                    await asyncio.sleep(len(data) / self._rate)
                if up:
                    self._count(flow, len(data))
                elif flow.swallow:
                    self.cuts += 1
                    flow.reset()
                writer.write(data)
                await writer.drain()
        if not flow.deaf:  # an end on one side is the end of both: nobody here speaks half-closed TCP
            await self._passing.wait()
            flow.reset()

    def _count(self, flow: Flow, size: int) -> None:
        flow.up += size
        self.up += size
        if self._cut_after and size == PIECE:
            self._cut_after -= size
            if self._cut_after <= 0:
                self._cut_after = 0
                self.cuts += 1
                flow.reset()
