"""Addresses of other servers, as people type them: host and port apart."""

from __future__ import annotations

import pytest

from cpc.core.errors import BadInput
from cpc.server.federation import addresses


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("lab.example.org", "lab.example.org"),
        (" 10.0.0.7 ", "10.0.0.7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::1", "::1"),
        ("fe80::1:1480", "fe80::1:1480"),
    ],
)
def test_what_can_be_an_address_is_kept(typed: str, kept: str) -> None:
    assert addresses.check(typed, 14807) == kept


@pytest.mark.parametrize(
    "typed", ["lab.example.org:14807", "10.0.0.7:14807", "[2001:db8::7]:14807", "localhost:1", "fe80::1:14807"]
)
def test_a_port_that_was_typed_with_the_host_is_told_where_it_belongs(typed: str) -> None:
    with pytest.raises(BadInput, match="is a host with a port") as refused:
        addresses.check(typed, 14807)
    assert refused.value.hint == "give the port apart: cpcc connect-server HOST CLIENT_PORT"


@pytest.mark.parametrize("typed", ["", "https://lab.example.org", "a b", "me@lab", "lab\n", "x" * 256, "lab/x"])
def test_what_is_no_address_is_said_to_be_none(typed: str) -> None:
    with pytest.raises(BadInput, match="is not a host name or address"):
        addresses.check(typed.replace("\n", "\n\x00"), 14807)
