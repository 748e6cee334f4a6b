"""What goes wrong at the server: its process, its machine, its database, its disk, and what people do to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from cpc.core.errors import CopernicusError
from cpc.server.principal import SERVER, Call
from cpc.wire.bundle import decode
from tests.simulation.databases import Killed, Strike
from tests.simulation.plan import DAY, Plan

if TYPE_CHECKING:
    from tests.simulation.chaos import Chaos, Fault
    from tests.simulation.server import Server

HOUR = 3_600_000_000  # µs
WHEN_IT_COMES = False  # such a fault is counted when it strikes: it may never do so
AT_COMMIT = (Strike.KILL_BEFORE, Strike.KILL_AFTER)
AT_STATEMENT = (Strike.KILL, Strike.AWAY, Strike.FULL, Strike.FULL, Strike.BROKEN)


def of(plan: Plan) -> list[Fault]:
    """Those that a world of this plan may see, each as often as it is named."""
    found: list[Fault] = [
        kill_server, kill_server_at_commit, kill_server_at_commit, kill_server_at_write, lose_power, freeze_server,
        step_server_clock, fill_server, fill_server_once, lose_database, break_statement, break_statement, slow_down,
    ]  # fmt: skip
    if plan.restores:
        found += [back_up, back_up, restore]
    if plan.revokes:
        found += [revoke]
    return found


def kill_server(chaos: Chaos) -> bool:
    away = chaos.chance.choice([1.0, 10.0, 100.0, 400.0])
    if chaos.world.server is None:
        return False
    chaos.world.kill_server("killed", away)
    return True


def kill_server_at_commit(chaos: Chaos) -> bool:
    chaos.world.trouble.plan(chaos.chance.choice(AT_COMMIT), chaos.chance.randrange(4))
    return WHEN_IT_COMES


def kill_server_at_write(chaos: Chaos) -> bool:
    """In the middle of what it does with files."""
    server = chaos.world.server
    if server is not None:
        server.disk.kill_in = chaos.chance.randrange(12)
    return WHEN_IT_COMES


def lose_power(chaos: Chaos) -> bool:
    away = chaos.chance.uniform(20.0, 120.0)
    if not chaos.world.server_host.powered:
        return False
    chaos.world.kill_server("loses power", away, power=True)
    return True


def freeze_server(chaos: Chaos) -> bool:
    if not chaos.freeze(chaos.world.server_host):
        return False
    chaos.world.story.tell(chaos.world.name, "freezes")
    return True


def step_server_clock(chaos: Chaos) -> None:
    offset = chaos.chance.choice([-200_000_000, 100_000_000, HOUR, 30 * HOUR])
    chaos.world.server_host.clock.offset = offset
    chaos.world.story.tell(chaos.world.name, f"its clock steps to {offset / 1e6:+.0f} s")


def fill_server(chaos: Chaos) -> None:
    world, seconds = chaos.world, chaos.span(5.0, 200.0)
    world.server_disk.full = True
    if chaos.chance.random() < 0.5:
        world.trouble.full_until = world.now + seconds
    world.story.tell(world.name, f"its disk is full for {seconds:.0f} s")

    def empty() -> None:
        world.server_disk.full = False
        world.network.disturb(world.name)  # from now on it can give again what it has

    world.reactor.callLater(seconds, empty)


def fill_server_once(chaos: Chaos) -> bool:
    """Or its disk is broken for once."""
    if chaos.world.server_disk.fails:
        return False
    chaos.world.server_disk.fail(chaos.chance.randrange(12), chaos.chance.choice([28, 5]))
    chaos.world.story.tell(chaos.world.name, "a write will fail")
    return True


def lose_database(chaos: Chaos) -> bool:
    strike = chaos.chance.choice([Strike.AWAY_BEFORE, Strike.AWAY_AFTER])
    chaos.world.trouble.plan(strike, chaos.chance.randrange(3), chaos.span(0.0, 150.0))
    return WHEN_IT_COMES


def break_statement(chaos: Chaos) -> bool:
    """Any statement, reading ones too."""
    strike = chaos.chance.choice(AT_STATEMENT)
    chaos.world.trouble.plan_statement(strike, chaos.chance.randrange(40), chaos.span(0.0, 60.0))
    chaos.world.story.tell(chaos.world.name, f"will be {strike}" if strike is Strike.KILL else f"will have {strike}")
    return WHEN_IT_COMES


def slow_down(chaos: Chaos) -> None:
    """Disks and databases."""
    world, factor = chaos.world, chaos.chance.choice([10.0, 100.0, 500.0])
    world.slowness = factor
    world.network.disturb(*world.workers)
    world.story.tell("…", f"disks are {factor:g} times as slow")

    def over() -> None:
        world.slowness = 1.0
        world.network.disturb(*world.workers)

    chaos.later(5.0, 120.0, over)


# --- people ---------------------------------------------------------------------------------------------------------------


def back_up(chaos: Chaos) -> None:
    chaos.world.back_up()


def restore(chaos: Chaos) -> bool:
    if chaos.world.backup is None:
        return False
    chaos.world.restore()
    if chaos.world.oracle.revoked:
        chaos.later(20.0, 120.0, lambda: set_up_again(chaos))
    return True


def revoke(chaos: Chaos) -> bool:
    """The bundle of the field workers, in the middle of whatever they do; they get another one some time later."""
    world, server = chaos.world, chaos.world.server
    if server is None or not server.ready or world.field.name in world.oracle.revoked:
        return False
    name = world.field.name
    world.oracle.revoking(name)
    world.story.tell(world.name, f"bundle {name} is being revoked")

    async def work() -> None:
        await server.bundles.revoke(Call(SERVER), name)
        if world.server is server:
            check_out(chaos, server, name)

    ensureDeferred(work()).addErrback(_refused)
    chaos.later(20.0, 120.0, lambda: set_up_again(chaos))
    return True


def check_out(chaos: Chaos, server: Server, name: str) -> None:
    """When a person is told that a bundle is revoked, no connection of its workers is open any more."""
    (keys,) = [{row[0] for row in chaos.world.oracle.rows(
        "SELECT w.fingerprint FROM workers w JOIN bundles b ON b.id = w.bundle WHERE b.name = ? AND b.revoked IS NOT NULL", name
    )}]  # fmt: skip
    open_still = [one for one in server.listener.connections if one.peer_fingerprint in keys and not one.closed]
    if open_still:
        chaos.world.oracle.wrong(f"{open_still[0].peer} is connected, and revoked")


def set_up_again(chaos: Chaos) -> None:
    """A new bundle for the machines whose old one is worth nothing; again and again until they have one."""
    world, server = chaos.world, chaos.world.server
    if not any(worker.bundle.name in world.oracle.revoked for worker in world.workers.values()):
        return
    chaos.later(20.0, 40.0, lambda: set_up_again(chaos))
    if server is None or not server.ready or server.host.clock.offset > 0:
        return  # a bundle that is made while the clock is ahead is not valid yet when it is right again
    world.bundles_made += 1
    name = f"field-{world.bundles_made}"

    async def work() -> None:
        text, _ = await server.bundles.make(Call(SERVER), name, "worker", expires_in=10 * 366 * DAY)
        world.field = decode(text.encode())
        world.story.tell(world.name, f"bundle {name} is made")
        for worker in world.workers.values():
            if worker.bundle.name in world.oracle.revoked:
                worker.set_up(world.field)

    ensureDeferred(work()).addErrback(_refused)


def _refused(failure: Failure) -> Any:
    failure.trap(CopernicusError, Killed)
