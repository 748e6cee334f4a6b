"""What goes wrong between servers: partitions of any shape, cut and doubled connections, restarts of relays and of both ends,
and operators who change their minds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.federation import operators

if TYPE_CHECKING:
    from tests.simulation.federation.chaos import WideChaos
    from tests.simulation.federation.plan import WidePlan

WideFault = Callable[["WideChaos"], object]


def of(plan: WidePlan) -> list[WideFault]:
    """Those that a network of this plan may see, each as often as it is named."""
    found: list[Any] = [
        part_neighbours, part_neighbours, isolate, split, cut_between, cut_between, double, restart_both_ends,
        kill_in_mid_transfer, kill_in_mid_transfer, freeze_both,
    ]  # fmt: skip
    if plan.trust:
        found += operators.ACTS
    return found


def part_neighbours(chaos: WideChaos) -> None:
    """Between two servers, in one direction or both; for seconds, or for longer than any lease."""
    one, other = chaos.neighbours()
    both, network = chaos.chance.random() < 0.6, chaos.universe.network
    network.partition(one.name, other.name, both)
    chaos.universe.story.tell("…", f"nothing gets from {one.name} to {other.name}{' and back' if both else ''}")
    chaos.later(2.0, chaos.chance.choice([60.0, 300.0, 1500.0]), lambda: network.heal(one.name, other.name))


def isolate(chaos: WideChaos) -> None:
    """One server from all others; its own workers still reach it."""
    site, network = chaos.site(), chaos.universe.network
    others = [other for other in chaos.universe.sites.values() if other is not site]
    for other in others:
        network.partition(site.name, other.name)
    chaos.universe.story.tell("…", f"{site.name} reaches no other server")
    chaos.later(5.0, 400.0, lambda: network.heal_all([(site.name, other.name) for other in others]))


def split(chaos: WideChaos) -> None:
    """Into two halves that do not hear each other, or one of them only the other."""
    sites, network = list(chaos.universe.sites.values()), chaos.universe.network
    left = [site for site in sites if chaos.chance.random() < 0.5]
    pairs = [(one, other) for one in left for other in sites if other not in left]
    both = chaos.chance.random() < 0.7
    for one, other in pairs:
        network.partition(one.name, other.name, both)
    names = " ".join(site.name for site in left) or "nobody"
    chaos.universe.story.tell("…", f"split: {names} from the rest{'' if both else ', one way'}")
    chaos.later(5.0, 400.0, lambda: network.heal_all([(one.name, other.name) for one, other in pairs]))


def cut_between(chaos: WideChaos) -> bool:
    """One connection between servers, or several at once."""
    universe = chaos.universe
    names = {site.name for site in universe.sites.values()}
    links = [link for link in universe.network.links if set(link.hosts) <= names]
    if not links:
        return False
    tell = chaos.chance.choice([("client", "server"), ("client",), ("server",), ()])
    for link in chaos.chance.sample(links, min(len(links), chaos.chance.choice([1, 1, 2, 5]))):
        universe.network.cut(link, tell)
        universe.story.tell("…", f"{link} is cut, told: {', '.join(tell) or 'nobody'}")
    return True


def double(chaos: WideChaos) -> bool:
    """Only the side that has dialled hears of the end of a connection: it dials again while the other still has the old one."""
    universe = chaos.universe
    names = {site.name for site in universe.sites.values()}
    links = [link for link in universe.network.links if set(link.hosts) <= names]
    if not links:
        return False
    link = chaos.chance.choice(links)
    universe.network.cut(link, ("client",))
    universe.story.tell("…", f"{link} is dialled anew")
    return True


def restart_both_ends(chaos: WideChaos) -> None:
    one, other = chaos.neighbours()
    for site in (one, other):
        site.kill_server("killed, and so is its neighbour", away=chaos.chance.choice([0.5, 3.0, 60.0]))


def kill_in_mid_transfer(chaos: WideChaos) -> None:
    """A server, as soon as something large passes through it (or after a while)."""
    one, _ = chaos.neighbours()
    chaos.universe.when_bulk(
        one, lambda: one.kill_server("killed in mid-transfer", away=chaos.chance.uniform(0.5, 30.0))
    )


def freeze_both(chaos: WideChaos) -> bool:
    """Two neighbours do nothing for a while: slow peers, which must cost nobody else anything."""
    one, other = chaos.neighbours()
    done = [chaos.freeze(site.server_host) for site in (one, other)]
    chaos.universe.story.tell("…", f"{one.name} and {other.name} freeze")
    return any(done)
