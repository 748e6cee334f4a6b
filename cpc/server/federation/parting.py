"""The end of trust, said to the other side: live as the last words on a link, and otherwise on the first contact after it.

Whoever has revoked keeps the other's authority pinned, so that the two can still prove to each other who they are. The other
one is told when it comes (`Book.refusal`), and is looked for until it has been told; nothing else is said or taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cpc.core.errors import CopernicusError, Refused, TrustEnded
from cpc.core.peer import Address, PeerState
from cpc.server.federation.book import Book
from cpc.store.peers import PeerRow
from cpc.wire import tls
from cpc.wire.connection import Connection
from cpc.wire.messages import Message
from cpc.wire.peer_messages import Withdrawn

PATIENCE = 30.0  # seconds for an answer


class Parting:
    """Which servers have been told, since the start. `connect` makes a connection on which both have proved who they are."""

    def __init__(self, book: Book, connect: Callable[[str, Address, tls.Refuse], Awaitable[Connection]]) -> None:
        self._book = book
        self._connect = connect
        self._told: set[str] = set()

    def changed(self, server: str) -> None:
        """What the book says of it has changed: what was said before was said of another end."""
        if self._row(server) is None:
            self._told.discard(server)

    def due(self, server: str) -> bool:
        """Whether it is to be looked for, to be told. Who has only asked here was never promised anything: it is told when
        it comes."""
        row = self._row(server)
        return (
            row is not None
            and server not in self._told
            and (row.trusted is not None or row.addresses.typed is not None)
        )

    def _row(self, server: str) -> PeerRow | None:
        row = self._book.get(server)
        return row if row is not None and row.state is PeerState.REVOKED else None

    async def tell(self, server: str, address: Address) -> None:
        """Say it there. What the server itself answers is all the same; raises when it was not reached."""
        row = self._row(server)
        if row is None:
            return
        try:
            connection = await self._connect(server, address, tls.accept_all)
        except TrustEnded:
            pass  # it has revoked this server, too
        except Refused as error:
            if error.message != tls.NOT_PINNED:  # else it has heard of it, or knows this server no more
                raise
        else:
            if self._row(server) is not row:  # trusted anew meanwhile: the two may be connected already
                connection.close("there is nothing to be said any more")
                return
            await self._say(connection, Withdrawn(hand_back=not row.finish))
        if self._row(server) is row:
            self.told(server)

    def told(self, server: str) -> None:
        """It knows, or will ask again."""
        self._told.add(server)

    async def _say(self, connection: Connection, said: Withdrawn) -> None:
        try:
            await connection.call("withdrawn", said, Message, timeout=PATIENCE)
        except Refused:
            pass  # its connections are cut as soon as it has heard
        except CopernicusError as error:
            connection.close(error.message)
            raise
        connection.close("the trust has ended")
