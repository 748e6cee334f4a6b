"""Everything that can be checked about a server on this machine, each with what to do when it is not as it should be.

Nothing is changed. The server may be running or stopped.
"""

from __future__ import annotations

import enum
import os
import resource
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cpc.api import further
from cpc.core.allocation import Check
from cpc.core.chance import Chance
from cpc.core.clock import DAY, SECOND, Clock
from cpc.core.digest import CHUNK
from cpc.core.errors import BadInput, Conflict, CopernicusError
from cpc.core.resources import show_span
from cpc.server import filesystem, network, process, sandbox, settings, upkeep
from cpc.server.config import Config, Place
from cpc.server.control import Control
from cpc.server.offline import wait
from cpc.server.pools import means, offline
from cpc.server.pools.examining import examine
from cpc.server.pools.ground import Ground
from cpc.server.storage import FLOOR, show_size
from cpc.store import checks, chunks, database, migrate
from cpc.store.chunks import ChunkFiles
from cpc.store.disk import RealDisk
from cpc.store.pools import PoolRow
from cpc.wire import bundle as bundles
from cpc.wire.identity import Authority, not_after_of

#: Nothing of this project existed before: a clock that says so is wrong.
_BEFORE = 1_750_000_000 * SECOND
_SOON = 30 * DAY
_OPEN_FILES = 4096
_SHOWN = 5


class Level(enum.StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    text: str
    todo: str = ""


def ok(text: str) -> Finding:
    """As it should be."""
    return Finding(Level.OK, text)


def warn(text: str, todo: str) -> Finding:
    """Works, but should be looked after."""
    return Finding(Level.WARN, text, todo)


def fail(text: str, todo: str) -> Finding:
    """Does not work, or loses something."""
    return Finding(Level.FAIL, text, todo)


Findings = Iterator[Finding]


class Doctor:
    """`examine` gives findings one by one, as they are made. `deep` reads every file and every index."""

    def __init__(self, base: Path, place: Place, clock: Clock, chance: Chance, deep: bool = False) -> None:
        self._base = base
        self._place = place
        self._clock = clock
        self._chance = chance
        self._deep = deep
        self._pid = process.find(place)
        self._config: Config | None = None
        self._authority: Authority | None = None

    def examine(self) -> Findings:
        """All checks. One that cannot be made is a finding too; those that depend on it are left out."""
        yield from self._guard(self._configuration)
        yield from self._guard(self._files)
        yield from self._guard(self._identity)
        yield from self._guard(self._time)
        yield from self._guard(self._open_files)
        if self._config is None:
            return
        for check in (self._controllers, self._disk, self._ports, self._host, self._answers):
            yield from self._guard(check)
        readable: list[Finding] = []
        for finding in self._guard(self._database):
            readable.append(finding)
            yield finding
        if all(finding.level is not Level.FAIL for finding in readable):
            for check in (self._belongs, self._chunks, self._space, self._site, self._pools):
                yield from self._guard(check)
        yield from self._guard(self._further)
        yield from self._guard(self._backup)

    def _guard(self, check: Callable[[], Findings]) -> Findings:
        try:
            yield from check()
        except CopernicusError as error:
            yield fail(error.message, error.hint)
        except OSError as error:
            yield fail(f"{error.filename or 'the system'}: {error.strerror}", "check its owner, mode and disk")

    @property
    def config(self) -> Config:
        """Known to be there by those that ask."""
        assert self._config is not None
        return self._config

    # --- files ---

    def _configuration(self) -> Findings:
        self._config = upkeep.check_config(self._place)
        yield ok(f"configuration {self._place.config_file}")

    def _files(self) -> Findings:
        """Secrets are for the server's user alone."""
        secrets = [
            self._place.key_file, self._place.config_file, self._place.directory / "worker.cnx",
            self._base / bundles.FILE_NAME,
        ]  # fmt: skip
        open_ones = [path for path in secrets if path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
        for path in open_ones:
            yield fail(f"{path} can be used by other users of this machine", f"chmod 600 {path}")
        directories = [self._place.directory] + ([Path(self._config.run_dir)] if self._config else [])
        for directory in directories:
            said = filesystem.exposed(directory)
            if said:
                text, _, todo = said.partition("; ")
                yield warn(text, todo or "keep it on a local disk")
            elif directory.stat().st_uid != os.geteuid():
                yield warn(f"{directory} belongs to another user", "run cpc-server as the user whose server it is")
        if not open_ones:
            yield ok("files and modes")

    def _identity(self) -> Findings:
        self._authority = upkeep.authority(self._place, self._clock, self._chance)
        left = not_after_of(self._authority.certificate_pem) - self._clock.now()
        if left < _SOON:
            when = f"ends in {show_span(left / SECOND)}" if left > 0 else "has expired"
            yield warn(f"the server's identity {when}", "see docs/admin/certificates")
        else:
            yield ok("identity key and certificate belong together")

    # --- the machine ---

    def _time(self) -> Findings:
        now = self._clock.now()
        if now < _BEFORE:
            yield fail(f"the clock says {upkeep.show_time(now)}", "set it; see that chrony or systemd-timesyncd runs")
        elif self._authority is not None and now < _not_before(self._authority):
            yield fail(f"the clock says {upkeep.show_time(now)}, which is before this server was made", "set the clock")
        else:
            yield ok(f"clock: {upkeep.show_time(now)}")

    def _open_files(self) -> Findings:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < _OPEN_FILES:
            yield warn(
                f"at most {soft} open files: each worker needs two",
                f"ulimit -n {min(hard, 65536) if hard > 0 else 65536} before the start, or LimitNOFILE= in the unit",
            )
        else:
            yield ok(f"open files: up to {'any number' if soft == resource.RLIM_INFINITY else soft}")

    def _controllers(self) -> Findings:
        """Code of modules is kept from the server's keys and database."""
        said = sandbox.exposed(self.config.controller_wrap)
        if said:
            text, _, todo = said.partition("; ")
            yield warn(text, todo)
        else:
            how = "bubblewrap" if self.config.controller_wrap == sandbox.AUTO else self.config.controller_wrap
            yield ok(f"controllers run under {how}")

    def _disk(self) -> Findings:
        if database.is_postgresql(self.config.database):
            return
        path = database.sqlite_path(self.config.database)
        filesystem.check_database(path)
        yield ok(f"the database is on a local file system ({filesystem.kind_of(path.parent) or 'of unknown kind'})")

    def _space(self) -> Findings:
        stored = checks.stored_settings(self.config.database)
        setting = settings.SETTINGS["min_free_space"]
        least = setting.parse(stored.get(setting.name, setting.default))
        assert isinstance(least, int)
        free = shutil.disk_usage(self.config.run_dir).free
        todo = "remove projects or jobs, set keep_results, or add disk space"
        if free < least // FLOOR:
            yield fail(f"only {show_size(free)} free: not even results are taken in", todo)
        elif free < least:
            yield fail(f"only {show_size(free)} free: no jobs and files are taken in", todo)
        elif free < 2 * least:
            yield warn(f"{show_size(free)} free: intake stops at {show_size(least)}", todo)
        else:
            yield ok(f"free space: {show_size(free)}")

    # --- the network ---

    def _ports(self) -> Findings:
        for address in self.config.listen:
            if not network.is_here(address):
                yield fail(f"this machine does not have the address {address}", "cpc-server config listen ADDRESS")
                continue
            for port in (self.config.port, self.config.client_port):
                yield self._port(address, port)

    def _port(self, address: str, port: int) -> Finding:
        if self._pid is not None:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
                probe.settimeout(5)
                if probe.connect_ex((_reachable(address), port)) == 0:
                    return ok(f"port {port} on {address}: the server's")
            return fail(f"nothing answers on port {port} of {address}", "see `cpc-server log`; cpc-server restart")
        try:
            network.check_port(address, port)
        except Conflict as error:
            return fail(error.message, error.hint)
        return ok(f"port {port} on {address} is free")

    def _host(self) -> Findings:
        """Do others find the server by the name that is in bundles?"""
        try:
            found = network.resolve(self.config.host)
        except BadInput as error:
            yield fail(error.message, "cpc-server config host NAME")
            return
        listened = set(self.config.listen)
        every = listened & {"0.0.0.0", "::"}
        if not every and not listened & set(found):
            yield warn(
                f"{self.config.host} is {', '.join(found)} here, but the server listens on {', '.join(listened)}",
                "that is right only behind a forwarded port; else: cpc-server config listen",
            )
        elif all(network.is_loopback(address) for address in found) and not all(map(network.is_loopback, listened)):
            yield warn(f"{self.config.host} is a loopback address: workers elsewhere do not find this server",
                       "cpc-server config host NAME, then make new bundles")  # fmt: skip
        else:
            yield ok(f"host name {self.config.host} leads here")

    def _answers(self) -> Findings:
        if self._pid is None:
            yield ok("the server is stopped")
            return
        reasons = Control(self._place, self.config, lambda: upkeep.site_certificate(self.config)).health()
        for reason in reasons:
            yield warn(reason, "see `cpc-server log`")
        if not reasons:
            yield ok(f"the server runs as process {self._pid} and answers")

    def _site(self) -> Findings:
        stored = checks.stored_settings(self.config.database)
        certificate, key = stored.get("site_certificate", ""), stored.get("site_key", "")
        if not certificate and not key:
            return
        if not (certificate and key):
            missing = "site_key" if certificate else "site_certificate"
            yield fail(f"{missing} is not set", f"cpc-server config {missing} /path")
            return
        if Path(key).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield fail(f"{key} can be used by other users of this machine", f"chmod 600 {key}")
        try:
            left = not_after_of(Path(certificate).read_bytes()) - self._clock.now()
        except CopernicusError as error:
            yield fail(f"the site certificate {certificate}: {error.message}", "renew it, then cpcc readconf")
            return
        if left < _SOON:
            when = f"ends in {show_span(left / SECOND)}" if left > 0 else "has expired"
            yield (warn if left > 0 else fail)(
                f"the site certificate {when}", f"renew {certificate}, then cpcc readconf"
            )
        else:
            yield ok(f"site certificate, until {upkeep.show_time(left + self._clock.now())}")

    # --- what is kept ---

    def _database(self) -> Findings:
        url = self.config.database
        checks.check_file(url)
        if self._pid is None:
            checks.check_log(url)
        found = checks.faults(url, thorough=self._deep)
        for fault in found[:_SHOWN]:
            yield fail(f"database {checks.shown(url)}: {fault}", "restore it: cpc-server restore FILE --force")
        if found:
            return
        revision = migrate.current(url)
        if not revision:
            yield fail(
                f"the database {checks.shown(url)} is empty", "check `cpc-server config database`, or restore it"
            )
        elif migrate.check(url) == "old":
            yield warn(
                f"the database is of an older release ({revision})", "cpc-server start backs it up and upgrades it"
            )
        else:
            yield ok(f"database {checks.shown(url)}, shape {revision}{', every index checked' if self._deep else ''}")
        for said in checks.durability(url):
            text, _, todo = said.partition("; ")
            yield warn(text, todo)

    def _belongs(self) -> Findings:
        if migrate.check(self.config.database) == "old":
            return
        server = checks.server_id(self.config.database)
        if self._authority is None:
            return
        if server != self._authority.server_id:
            yield fail(
                f"the database belongs to server {server}, the identity key to {self._authority.server_id}",
                "restore the key and the database of one backup",
            )
        else:
            yield ok(f"database and identity belong to server {server}")

    def _chunks(self) -> Findings:
        files = ChunkFiles(RealDisk(Path(self.config.run_dir))) if self._deep else None
        root = Path(self.config.run_dir)
        count = wrong = total = 0
        for digest, size in checks.chunk_rows(self.config.database):
            count += 1
            total += size
            said = files.fault(digest, size) if files else _look(root / chunks.path(digest), size)
            # The server may have removed it since the page was read.
            if not said or not checks.has_chunk(self.config.database, digest):
                continue
            wrong += 1
            if wrong <= _SHOWN:
                who = ", ".join(checks.users_of_chunk(self.config.database, digest)) or "nobody any more"
                yield fail(f"piece {digest.hex()} of the files is {said}; used by {who}", "restore it from a backup")
        for digest in checks.damaged_small_chunks(self.config.database) if self._deep else ():
            wrong += 1
            if wrong <= _SHOWN:
                who = ", ".join(checks.users_of_chunk(self.config.database, digest)) or "nobody any more"
                yield fail(
                    f"piece {digest.hex()} in the database has changed; used by {who}", "restore it from a backup"
                )
        if wrong > _SHOWN:
            yield fail(f"{wrong - _SHOWN} more pieces of files are missing or damaged", "restore them from a backup")
        if not wrong:
            how = "each read and checked" if self._deep else "by size; --deep reads them"
            yield ok(f"{count} pieces of files of up to {show_size(CHUNK)}, {show_size(total)}: {how}")

    def _pools(self) -> Findings:
        for row in offline.each(self.config.database):
            try:
                found = wait(self._examine(row))
            except CopernicusError as error:
                yield fail(f"pool {row.name}: {error.message}", error.hint)
                continue
            for one in found:
                text = f"pool {row.name}, {one.name}: {one.words}"
                yield _finding(text, one)

    async def _examine(self, row: PoolRow) -> tuple[Check, ...]:
        scheduler = offline.scheduler(row, self._clock, self._chance)
        ground = Ground(self.config.host, self.config.port, self.config.listen)
        return await examine(scheduler, row.facts, means.read(row.means, row.name), ground, offline.run)

    def _further(self) -> Findings:
        for package, one in further.checks(further.SERVER):
            text = f"{package}, {one.name}: {one.words}"
            yield _finding(text, one)

    def _backup(self) -> Findings:
        last = upkeep.last_backup(self._place)
        if last is None:
            yield warn("there is no backup", "cpc-server backup FILE, every night from cron or a systemd timer")
            return
        age = self._clock.now() - last.made
        if age > upkeep.OLD_BACKUP:
            yield warn(f"the last backup is {show_span(age / SECOND)} old", "cpc-server backup FILE, every night")
        else:
            yield ok(f"last backup: {upkeep.show_time(last.made)}, {last.file}")


def _finding(text: str, one: Check) -> Finding:
    if not one.ok:
        return fail(text, one.hint)
    return warn(text, one.hint) if one.doubt else ok(text)


def _look(path: Path, size: int) -> str:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"unreadable ({error.strerror})"
    return "" if found == size else f"{found} bytes instead of {size}"


def _reachable(address: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)


def _not_before(authority: Authority) -> int:
    from cpc.wire.identity import read_certificate, when

    return when(read_certificate(authority.certificate_pem).not_valid_before_utc)
