"""cpc-worker: the program. It makes the real reactor, disk, processes and endpoints and hands them to the agent."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

import cpc
from cpc.api import Found, Node, Platform
from cpc.core.chance import SystemChance
from cpc.core.clock import SECOND, SystemClock
from cpc.core.errors import BadInput, CopernicusError
from cpc.core.memory import collect_seldom, keep_freed_memory
from cpc.core.threads import Threads
from cpc.spool import ownership
from cpc.spool.ownership import Claim, Owner
from cpc.spool.real_disk import RealDisk
from cpc.wire.bundle import Bundle
from cpc.wire.messages import Program
from cpc.worker import tree
from cpc.worker.agent import Agent, Options
from cpc.worker.collecting import words
from cpc.worker.credentials import Credentials, place
from cpc.worker.executables import discover, search_path
from cpc.worker.given import bundle_of, own
from cpc.worker.limits import Limits
from cpc.worker.node import describe_node
from cpc.worker.offer import Offer
from cpc.worker.options import Settings, options_command, say_error
from cpc.worker.processes import GuardedProcesses
from cpc.worker.programs import Programs
from cpc.worker.show import show
from cpc.worker.starting import clean
from cpc.worker.times import batch_seconds_left, in_batch, seconds_until

THREADS = 8
#: Seconds in which a batch system that ends an allocation has told everybody in it, also on a busy machine.
TOLD_WITHIN = 2.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What this node has and how it is used."""

    platform: Platform
    found: tuple[Found, ...]
    node: Node
    limits: Limits

    def there(self) -> list[Found]:
        """Executables that can be started."""
        return [one for one in self.found if not one.why_not]


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Exit code 0 when the worker left as told, 1 with one line for what cannot be, 2 for usage; see also
    `cpc.worker.check`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    word = arguments[0] if arguments else ""
    if word in ("version", "--version"):
        print(f"cpc-worker {cpc.__version__}")
        sys.exit(0)
    if word == "help":
        arguments = ["--help"]
    does = run
    if word == "check":
        from cpc.worker.check import check

        does, arguments = check, arguments[1:]
    try:
        sys.exit(options_command(does).main(arguments, "cpc-worker", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except CopernicusError as error:
        print(say_error(error), file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"ERROR: {words(error)}", file=sys.stderr)
        sys.exit(1)


def run(settings: Settings) -> int:
    """Do what was asked; the exit code."""
    assert settings.platform is not None
    clock = SystemClock()
    bundle = None if settings.show else bundle_of(settings, say)
    until = _until(settings, clock, bundle is not None and bundle.role == "allocation")
    node = describe_node()
    if settings.most_memory:
        node = replace(node, memory=min(node.memory, settings.most_memory))
    platform = settings.platform(node, settings.options)
    limits = Limits(memory=settings.memory, grace=settings.grace).check()
    found = discover(search_path(os.environ, settings.home), platform.name, runs=platform.runs)
    if bundle is None:
        print(show(platform, found, node, limits))
        return 0
    return _work(settings, bundle, Machine(platform, found, node, limits), clock, until)


def say(text: str) -> None:
    """A line for people, with the time."""
    now = datetime.datetime.fromtimestamp(SystemClock().now() / SECOND, datetime.UTC).astimezone()
    print(f"{now:%Y-%m-%d %H:%M:%S} {text}", flush=True)


def _work(settings: Settings, bundle: Bundle, machine: Machine, clock: SystemClock, until: float | None) -> int:
    from twisted.internet import reactor as installed
    from twisted.internet.defer import ensureDeferred
    from twisted.internet.endpoints import HostnameEndpoint

    keep_freed_memory()
    batch = bundle.role == "allocation" or in_batch(os.environ)
    reactor: Any = installed
    disk, chance, node = RealDisk(), SystemChance(), machine.node
    work, hand_in = _directories(settings, bundle.role == "allocation")
    if bundle.role == "allocation":
        disk.make_directory(work)
        own(work, os.geteuid())
    claim = _claim(disk, work, Owner(credential=_credential(bundle), host=node.host, pid=os.getpid()))
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_if_unused, disk, claim)
        # A key that ends with an allocation is not to be found at home for ever.
        roots = (claim.directory,) if bundle.role == "allocation" else (str(settings.home), work)
        key = place(disk, roots, bundle, node.host)
        _log(settings.debug)
        threads = Threads(reactor, "disk", THREADS)
        credentials = Credentials(disk, key.directory, bundle, chance)
        if credentials.repaired:
            say(credentials.repaired)
        _end_leftovers(work)
        environment = clean(dict(os.environ))
        processes = GuardedProcesses(reactor, Path(claim.directory), machine.limits, Path(work), environment)
        agent = Agent(
            bundle=bundle,
            credentials=credentials,
            connect=lambda host, port: HostnameEndpoint(reactor, host, port, timeout=30),
            reactor=reactor,
            clock=clock,
            chance=chance,
            processes=processes,
            starter=Programs(machine.platform, machine.found),
            disk=disk,
            offload=threads.run,
            claim=claim,
            offer=_offer(settings, machine),
            options=Options(
                idle=settings.idle,
                most_jobs=settings.jobs,
                until=until,
                grace=settings.grace,
                cache_limit=settings.cache,
                hand_in=hand_in,
                leaves_when_drained=bool(settings.idle or settings.jobs) or until is not None,
                listens=TOLD_WITHIN if batch else 0.0,
            ),
            say=say,
            measure=_available(node),
        )
        stack.pop_all()  # from here on the agent gives its directory up
    _greet(claim, machine)
    collect_seldom()
    done = ensureDeferred(agent.run())
    try:
        return _turn(reactor, agent, done, batch)
    finally:
        threads.stop()


def _turn(reactor: Any, agent: Agent, done: Any, batch: bool) -> int:
    """Run the reactor until the agent has ended; the exit code."""
    code = 0

    def left(reason: str) -> None:
        nonlocal code
        say(f"left: {reason}")
        code = 1 if agent.left_behind else 0

    def failed(failure: Any) -> None:
        nonlocal code
        code = 1
        if not failure.check(CopernicusError):
            failure.printTraceback(sys.stderr)
        print(f"ERROR: {words(failure.value)}", file=sys.stderr)

    def stop(_: object) -> None:
        reactor.callWhenRunning(reactor.callLater, 0, reactor.stop)

    _leave_on_signals(reactor, agent, batch)
    done.addCallbacks(left, failed)
    done.addBoth(stop)
    reactor.run(installSignalHandlers=False)
    return code


def _leave_on_signals(reactor: Any, agent: Agent, batch: bool) -> None:
    """The first SIGTERM, SIGINT or SIGHUP: leave in order. The second: at once.

    A batch system says it several times, itself and through the script that it runs, and then kills by itself: there only a
    second SIGINT is somebody who does not want to wait.
    """
    seen: list[int] = []

    def told(number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        agent.told(name)
        if not batch or number == signal.SIGINT:
            seen.append(number)
        reactor.callFromThread(agent.leave, name, len(seen) > 1)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, told)


def _directories(settings: Settings, made: bool = False) -> tuple[str, tuple[str, ...]]:
    """(the work directory, directories to hand in). BadInput when they are not what they should be.

    `made`: a work directory that was named need not be there yet; it will be made.
    """
    if settings.hand_in:
        top = os.path.abspath(settings.hand_in)
        if not os.path.isdir(top):
            raise BadInput(f"--hand-in {settings.hand_in}: there is no such directory")
        disk = RealDisk()
        if ownership.has_results(disk, top):
            return os.path.dirname(top), (top,)
        inside = [os.path.join(top, name) for name in sorted(os.listdir(top))]
        found = tuple(each for each in inside if os.path.isdir(each) and ownership.has_results(disk, each))
        if not found:
            raise BadInput(f"--hand-in {settings.hand_in}: no worker has left results there")
        return top, found
    work = os.path.abspath(settings.work)
    if settings.work_was_named and not made and not os.path.isdir(work):
        raise BadInput(f"-wd {settings.work}: there is no such directory", "make it first, or leave -wd out")
    return work, ()


def _claim(disk: RealDisk, work: str, owner: Owner) -> Claim:
    try:
        return ownership.claim(disk, work, owner)
    except OSError as error:
        raise BadInput(f"the work directory {work} cannot be used: {words(error)}", "name another with -wd") from None


def _credential(bundle: Bundle) -> str:
    """Whose results these are: of one bundle, or of all workers of a pool."""
    return f"{bundle.server}/pool/{bundle.pool}" if bundle.role == "allocation" else f"{bundle.server}/{bundle.name}"


def _remove_if_unused(disk: RealDisk, claim: Claim) -> None:
    ownership.release(disk, claim, remove=True)


def _end_leftovers(work: str) -> None:
    """A worker that was killed together with its guardian and keeper has left nobody to end its jobs but the next one."""
    number = tree.end_leftovers(str(Path(work).resolve()))
    if number:
        say(f"ended {number} processes that a killed worker in {work} has left")


def _until(settings: Settings, clock: SystemClock, asked_for: bool) -> float | None:
    """The monotonic time at which this worker's own time is over. `asked_for`: it is in an allocation of a pool."""
    told = seconds_until(settings.until, clock.now()) if settings.until else None
    # The server that has asked for the allocation knows when it ends, and has said so with the time to leave.
    batch = None if asked_for and told is not None else batch_seconds_left(os.environ, clock.now())
    left = min((each for each in (told, batch) if each is not None), default=None)
    return None if left is None else clock.monotonic() + left


def _offer(settings: Settings, machine: Machine) -> Offer:
    platform = machine.platform
    return Offer(
        host=machine.node.host,
        platform=platform.name,
        total=platform.total(),
        programs=tuple(Program(name=one.name, version=one.version, platform=one.platform) for one in machine.there()),
        labels=settings.labels,
        project=settings.project,
        cores_per_job=platform.cores_per_job,
        allocation=os.environ.get("CPC_ALLOCATION", ""),
        node=os.environ.get("CPC_ALLOCATION_NODE") or os.environ.get("SLURMD_NODENAME", ""),
        restarts=_number(os.environ.get("CPC_ALLOCATION_RESTARTS", "")),
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _greet(claim: Claim, machine: Machine) -> None:
    total = machine.platform.total()
    say(f"worker in {claim.directory}, platform {machine.platform.name}, {total.cores} cores")
    names = ", ".join(f"{one.name} {one.version}" for one in machine.there())
    say(f"executables: {names or 'none found (jobs with a plain command can run)'}; see cpc-worker --show")


def _available(node: Node) -> Callable[[], int | None]:
    """How much memory is free on this node now, as the kernel says."""

    def measure() -> int | None:
        try:
            with open("/proc/meminfo", "rb") as file:
                for line in file:
                    if line.startswith(b"MemAvailable:"):
                        return min(node.memory, int(line.split()[1]) * 1024)
        except (OSError, ValueError, IndexError):
            return None
        return None

    return measure


def _log(debug: bool) -> None:
    """Failures to stderr; with -d everything that the libraries say."""
    from twisted.logger import (
        FilteringLogObserver,
        LogLevel,
        LogLevelFilterPredicate,
        globalLogBeginner,
        textFileLogObserver,
    )

    least = LogLevel.debug if debug else LogLevel.warn
    least_only: Any = LogLevelFilterPredicate(defaultLogLevel=least)
    stderr: Any = textFileLogObserver(sys.stderr)
    shown: Any = FilteringLogObserver(stderr, [least_only])
    globalLogBeginner.beginLoggingTo([shown], redirectStandardIO=False, discardBuffer=not debug)
