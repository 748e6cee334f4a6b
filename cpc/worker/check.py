"""`cpc-worker check`: whether a worker would get on here. It looks, tells the server, and ends without a job.

`cpcc doctor POOL --node` has it started on a node of a pool; people may start it wherever they mean to have a worker. Its exit
code says how far it got on its way to the server (`cpc.core.probe.Way`), because where it gets nowhere that is all that is
heard of it.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

import cpc
from cpc.api import further
from cpc.core.allocation import Check
from cpc.core.clock import Clock, SystemClock
from cpc.core.errors import CopernicusError, Refused, TurnedAway
from cpc.core.probe import MARK, NodeReport, Tried, Way, words_for
from cpc.wire.bundle import Bundle
from cpc.wire.connection import Connection, connect
from cpc.wire.identity import Identity, name_of, read_certificate
from cpc.wire.messages import Judged, Look
from cpc.wire.negotiation import NoCommonProtocol
from cpc.wire.tls import ClientTls
from cpc.worker.collecting import words
from cpc.worker.executables import discover, search_path
from cpc.worker.given import bundle_of, own
from cpc.worker.node import describe_node
from cpc.worker.options import Settings
from cpc.worker.search import PathSearch

#: Seconds for one address, TCP and TLS each.
PATIENCE = 20.0
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)
#: The further down, the further it got.
_ORDER = (Way.UNKNOWN_HOST, Way.NO_ROUTE, Way.SILENT, Way.REFUSED, Way.STRANGER, Way.TURNED_AWAY)


def check(settings: Settings) -> int:
    """Look, tell, print; the exit code."""
    clock = SystemClock()
    bundle = bundle_of(settings, print)
    report, checks = _told(bundle, look(settings), clock)
    if checks is None:
        furthest = max(report.tried, key=lambda one: _ORDER.index(Way(one.way)))
        for one in report.tried:
            said, hint = words_for(Way(one.way), report.name, one.host, one.port)
            _print(Check("way to the server", False, f"{said} ({one.words})" if one.words else said, hint))
        return furthest.way
    for found in checks:
        _print(found)
    # Of an allocation the server has all this: that it has looked, and whatever it saw, is success.
    return int(bundle.role != "allocation" and not all(one.ok for one in checks))


def _print(found: Check) -> None:
    level = "FAIL" if not found.ok else "warn" if found.doubt else "ok"
    hint = f" → {found.hint}" if found.hint and level != "ok" else ""
    print(f"{level:4}  {found.name}: {found.words}{hint}", flush=True)


# --- here ---


def look(settings: Settings) -> NodeReport:
    """All that can be seen without the server."""
    assert settings.platform is not None
    node, trouble = describe_node(), ""
    programs: tuple[tuple[str, str], ...] = ()
    try:
        platform = settings.platform(node, settings.options)
        found = discover(search_path(os.environ, settings.home), platform.name, runs=platform.runs)
        programs = tuple((one.name, one.version) for one in found if not one.why_not)
    except CopernicusError as error:
        trouble = str(error)
    work = os.path.abspath(settings.work)
    work_trouble, free, marks = directory(work)
    return NodeReport(
        host=node.host,
        node=os.environ.get("CPC_ALLOCATION_NODE") or os.environ.get("SLURMD_NODENAME", ""),
        release=cpc.__version__,
        platform=settings.platform.name,
        platform_trouble=trouble,
        cores=os.cpu_count() or 1,
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        gpus=len(node.gpus),
        programs=programs,
        work=work,
        work_trouble=work_trouble,
        free=free,
        marks=marks,
        munge=munge(PathSearch()),
        further=tuple(further.checks(further.NODE)),
    )


def directory(work: str) -> tuple[str, int, tuple[str, ...]]:
    """(why workers cannot keep files in `work`, bytes that are free there, what the server has written there or above)."""
    made, free = not os.path.isdir(work), 0
    trial = os.path.join(work, f".cpc-check-{os.getpid()}")
    try:
        os.makedirs(work, 0o700, exist_ok=True)
        own(work, os.geteuid())
        handle = os.open(trial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, b"x" * 4096)
            os.fsync(handle)
            there = os.fstatvfs(handle)
            free = there.f_bavail * there.f_frsize
        finally:
            os.close(handle)
            os.unlink(trial)
    except (OSError, CopernicusError) as error:
        return words(error), free, _marks(work)
    marks = _marks(work)
    if made:
        with suppress(OSError):  # a worker may have begun in it since
            os.rmdir(work)
    return "", free, marks


def _marks(work: str) -> tuple[str, ...]:
    found = []
    for place in (work, os.path.dirname(work)):
        try:
            with open(os.path.join(place, MARK), encoding="ascii", errors="replace") as file:
                found.append(file.read(100))
        except OSError:
            continue
    return tuple(found)


def munge(search: PathSearch) -> str:
    """Whether munge makes credentials here that it accepts: "ok", what it said, or "" where there is none."""
    if search.which("munge") is None or search.which("unmunge") is None or search.which("scontrol") is None:
        return ""
    # Where it cannot say, munge is asked at its usual place: what else is wrong with Slurm here is not munge's.
    _, said = search.run(("scontrol", "show", "config"))
    own_socket = re.search(r"^AuthInfo\s*=.*?socket=([^\s,]+)", said, re.MULTILINE)
    option = f"--socket={own_socket.group(1)}" if own_socket else ""
    code, said = search.run(("sh", "-c", "munge $1 --no-input | unmunge $1 2>&1", "sh", option))
    return "ok" if code == 0 else _last(said)


def _last(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"


# --- the server ---


def reach(host: str, port: int, patience: float = PATIENCE) -> tuple[Way, str]:
    """Whether anybody answers at an address at all, and what this node's system says if not."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return Way.UNKNOWN_HOST, words(error)
    best, said = Way.UNKNOWN_HOST, ""
    for family, kind, number, _, address in found:
        try:
            with socket.socket(family, kind, number) as trial:
                trial.settimeout(patience)
                trial.connect(address)
                return Way.OPEN, ""
        except OSError as error:
            way = _way_of(error)
            if _ORDER.index(way) >= _ORDER.index(best):
                best, said = way, f"{address[0]}: {words(error)}"
    return best, said


def _way_of(error: OSError) -> Way:
    if isinstance(error, ConnectionRefusedError):
        return Way.REFUSED
    return Way.NO_ROUTE if error.errno in _UNREACHABLE else Way.SILENT


def _told(bundle: Bundle, report: NodeReport, clock: Clock) -> tuple[NodeReport, tuple[Check, ...] | None]:
    """Tell the server at the first address that is its; what it says to that, None when none is."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import ensureDeferred

    reactor: Any = installed
    done: list[tuple[NodeReport, tuple[Check, ...] | None]] = []
    failed: list[Any] = []
    asked = ensureDeferred(_tell(bundle, report, clock, reactor))
    asked.addCallbacks(done.append, failed.append)
    asked.addBoth(lambda _: reactor.callWhenRunning(reactor.callLater, 0, reactor.stop))
    reactor.run()
    if failed:
        failed[0].raiseException()
    return done[0]


async def _tell(
    bundle: Bundle, report: NodeReport, clock: Clock, reactor: Any
) -> tuple[NodeReport, tuple[Check, ...] | None]:
    for host, port in bundle.addresses:
        way, said, connection = await _open(bundle, (host, port), clock, reactor)
        report = replace(report, tried=(*report.tried, Tried(host=host, port=port, way=way, words=said)))
        if way is Way.OPEN and connection is not None:
            try:
                told = replace(report, clock=clock.now())
                return report, (await connection.call("look", Look(report=told), Judged)).checks
            except Refused as error:
                way, said = Way.TURNED_AWAY, words(error)
            except CopernicusError as error:
                way, said = Way.SILENT, words(error)
            finally:
                connection.close("it has looked")
            report = replace(report, tried=(*report.tried[:-1], Tried(host=host, port=port, way=way, words=said)))
    return report, None


async def _open(
    bundle: Bundle, address: tuple[str, int], clock: Clock, reactor: Any
) -> tuple[Way, str, Connection | None]:
    """A connection on which the other side has shown that it is the server in the bundle, and takes us."""
    from twisted.internet.endpoints import HostnameEndpoint

    authority, certificate = bundle.authority.encode(), bundle.certificate.encode()
    identity = Identity(name_of(read_certificate(certificate)), bundle.key.encode(), certificate, authority)
    endpoint = HostnameEndpoint(reactor, *address, timeout=PATIENCE)
    security = ClientTls(identity, authority, bundle.server)
    try:
        return Way.OPEN, "", await connect(endpoint, security, reactor, clock, PATIENCE)
    except (TurnedAway, NoCommonProtocol) as error:
        return Way.TURNED_AWAY, words(error), None
    except Refused as error:
        return Way.STRANGER, words(error), None
    except CopernicusError as error:
        way, said = reach(*address)  # the system says more exactly what stands in the way
        return (Way.SILENT, words(error), None) if way is Way.OPEN else (way, said, None)
