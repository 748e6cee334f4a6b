"""Other servers as rows: alike on both databases."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import ensureDeferred

from cpc.core.peer import Address, Agreement, Limits, PeerState
from cpc.store import checks, peers
from cpc.store.peers import Addresses, PeerRow
from tests.helpers.stores import open_store, result

TYPED, SAID, GOOD = (Address(host, 13807, 14807) for host in ("localhost", "lab", "10.0.0.1"))
ROW = PeerRow(
    "b-server", PeerState.RECEIVED, "bé", b"-----BEGIN", 0, Addresses(said=SAID), Agreement(), "10.0.0.9", "", 5, None, None
)  # fmt: skip
WHOLE = PeerRow(
    "b-server", PeerState.TRUSTED, "b", b"\x00\xff", 3, Addresses(typed=TYPED, said=SAID, good=GOOD),
    Agreement(lent=Limits(cores=0, projects=()), accepted=Limits(off=True), lend_on=2, denied=("x",)), "", "note", 5, 6,
    2**60, True,
)  # fmt: skip


def test_a_row_is_read_as_it_was_written_changed_and_removed(database_url: str) -> None:
    store = open_store(database_url)
    result(store.write(lambda tx: peers.add(tx, ROW)))
    result(store.write(lambda tx: peers.add(tx, replace(ROW, id="a-server", priority=1))))
    assert result(store.read(lambda tx: peers.get(tx, "b-server"))) == ROW
    assert [row.id for row in result(store.read(peers.every))] == ["b-server", "a-server"]
    result(store.write(lambda tx: peers.change(tx, WHOLE)))
    assert result(store.read(lambda tx: peers.get(tx, "b-server"))) == WHOLE
    assert [row.id for row in result(store.read(peers.every))] == ["a-server", "b-server"]
    assert checks.trusted_servers(database_url) == ["b"]
    result(store.write(lambda tx: peers.remove(tx, "b-server")))
    assert result(store.read(lambda tx: peers.get(tx, "b-server"))) is None
    assert checks.trusted_servers(database_url) == []
    result(ensureDeferred(store.close()))


def test_the_address_that_works_is_tried_first_and_each_once() -> None:
    assert Addresses(typed=TYPED, said=SAID, good=GOOD).to_try == (GOOD, TYPED, SAID)
    assert Addresses(typed=TYPED, said=TYPED, good=TYPED).to_try == (TYPED,)
    assert Addresses().to_try == ()
