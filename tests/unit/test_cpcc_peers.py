"""What cpcc shows of other servers, and what its options make of limits."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cpc.client.commands import networks, peers
from cpc.client.commands.graph import picture
from cpc.core.peer import Address, Agreement, Limits
from cpc.core.peer_views import Hop, NetworkOfServers, PingView, ServerSeenView
from tests.helpers.fake_peers import peer_view


def seen(server: str, *linked: str, route: str = "", **working_for: int) -> ServerSeenView:
    return ServerSeenView(
        id=server * 8, name=f"lab-{server}", release="3", peers=tuple(each * 8 for each in linked), workers=1, cores=4,
        busy_cores=3, jobs_waiting=2, working_for={owner * 8: jobs for owner, jobs in working_for.items()},
        route=tuple(each * 8 for each in route or server),
    )  # fmt: skip


RING = NetworkOfServers(
    here="a" * 8,
    servers=(
        seen("a", "b", "c", c=3), seen("b", "a", "c", route="ab"), seen("c", "a", "b", "x", route="ac", b=0),
        seen("d", route="acd"),
    ),
)  # fmt: skip


def test_each_kind_of_server_has_its_table() -> None:
    text = peers.listing(
        [
            peer_view(id="1" * 36, state="sent"), peer_view(id="2" * 36), peer_view(id="3" * 36, state="trusted"),
            peer_view(id="4" * 36, state="trusted", connected=True, priority=1), peer_view(id="5" * 36, state="revoked"),
            peer_view(id="6" * 36, state="withdrawn", note="it has ended the trust"),
        ]
    )  # fmt: skip
    titles = [line for line in text.splitlines() if line.endswith((":", "requests")) and "fingerprint" not in line]
    assert titles == [
        "Sent connection requests", "Received connection requests", "Connected nodes:", "Nodes currently unreachable:",
        "Revoked nodes:",
    ]  # fmt: skip
    compared = [line.split(":")[0] for line in text.splitlines() if "abab:abab" in line]
    assert compared == ["   other (11111111)", "   other (22222222)"]  # those that have to be compared
    assert all(str(number) * 36 in text for number in range(1, 7))
    assert text.count("cpcc trust SERVER_ID, there") == text.count("cpcc trust SERVER_ID, or cpcc refuse-server") == 1
    assert text.splitlines()[-1] == "To connect with one again, both administrators say: cpcc trust SERVER_ID"
    assert peers.listing([]).startswith("no other servers are known")


def test_other_addresses_of_a_server_are_shown_beside_the_one_that_works() -> None:
    where = (Address("localhost", 23807, 24807), Address("lab", 13807, 14807))
    text = peers.listing([peer_view(state="trusted", connected=True, addresses=where)])
    assert text.splitlines()[-1].split()[1:3] == ["localhost", "23807"]
    assert text.endswith("also tried at lab port 13807")
    assert "also" not in peers.listing([peer_view(state="trusted", connected=True)])


def test_what_a_server_has_in_quarantine_is_shown() -> None:
    held = peer_view(state="trusted", connected=True, quarantined=3 << 20)
    assert "3.0 MiB in quarantine" in peers.listing([held])
    assert "3.0 MiB" in peers._detail(held)
    assert "quarantine" not in peers._detail(peer_view(state="trusted"))


def test_a_server_cannot_steer_the_terminal_by_its_name() -> None:
    evil = "x\x1b[2J\r\nConnected nodes:"
    shown = [
        peers.listing([peer_view(name=evil, origin=evil, trouble=evil)]),
        peers.listing([peer_view(name=evil, state="trusted", note=evil, release=evil)]),
        peers._detail(peer_view(name=evil, note=evil)),
        networks._hops(
            PingView(hops=(Hop(id="x", name=evil, seconds=0.1), Hop(id="y", name="y", seconds=None, trouble=evil)))
        ),
    ]
    for text in shown:
        assert "\x1b" not in text
        assert not any(line.startswith("Connected nodes") for line in text.splitlines())


def test_the_network_is_listed_with_who_works_for_whom() -> None:
    lines = networks._listing(RING).splitlines()
    assert lines[1].split()[:3] == ["lab-a", "aaaaaaaa", "0"]
    assert "lab-c (3 jobs)" in lines[1]
    assert "lab-a lab-b xxxxxxxx" in lines[3]
    assert lines[-1] == "4 servers, 4 workers, 16 cores"


def test_peers_that_are_away_are_named_below_the_network() -> None:
    away, up = peer_view(state="trusted"), peer_view(state="trusted", connected=True)
    assert networks._missed([up, peer_view(), peer_view(state="revoked")]) == []
    assert networks._missed([up, away]) == ["not connected: other (00000000); see `cpcc connected-servers`"]


def test_a_server_is_allowed_again_by_id_the_beginning_of_one_or_name() -> None:
    assert [peers._means(given, "abcdef", "lab") for given in ("abcdef", "ABCD", "lab", "abc", "x")] == [
        True, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(("suffix", "begins"), [(".svg", b"<svg "), (".png", b"\x89PNG"), (".dot", b"digraph ")])
def test_the_network_is_drawn(suffix: str, begins: bytes) -> None:
    chart = networks.drawing(RING)
    assert [box.title for box in chart.boxes] == ["lab-a", "lab-b", "lab-c", "lab-d"]
    links = sorted((line.source, line.target) for line in chart.lines if line.output == "link")
    assert links == [(0, 1), (0, 2), (1, 2)]
    assert [(line.source, line.target, line.count) for line in chart.lines if line.output != "link"] == [(0, 2, 3)]
    assert picture(chart, suffix).startswith(begins)


def test_limits_are_changed_one_by_one_and_set_free_again() -> None:
    limits = peers._changed(Limits(), None, 4, projects="a, b", executables=None)
    assert limits == Limits(cores=4, projects=("a", "b"))
    assert peers._changed(limits, True, None, projects="any") == Limits(off=True, cores=4)
    assert peers._changed(limits, None, "any", projects="") == Limits(projects=())
    assert peers._agreed(peer_view(agreement=Agreement(lent=limits, lend_on=2, denied=("x",)))) == (
        "lends 4 cores, projects a b, lent on 2, 1 denied"
    )
    assert peers._agreed(peer_view(agreement=Agreement(lent=Limits(cores=1)))) == "lends 1 core"


@pytest.mark.parametrize(
    "wrong",
    [
        ("--lent-cores", "many"),
        ("--lend-on", "17"),
        ("--accepted-cores", "-1"),
        ("--lent-cores", "²"),
        ("--lent-cores", "٣"),
    ],
)
def test_a_wrong_limit_is_a_wrong_command_line(wrong: tuple[str, str]) -> None:
    said = CliRunner().invoke(peers.peer, ["x", *wrong])
    assert said.exit_code == 2


def test_a_place_that_cannot_be_is_a_wrong_command_line() -> None:
    assert CliRunner().invoke(peers.node_pri, ["9" * 20, "x"]).exit_code == 2
