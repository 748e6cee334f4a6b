"""Every setting of the server: its name, default, limits, and what it is for. One table.

What the server needs before it can open its database (addresses, ports, the database's URL) is in `server.json` instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cpc.core import names
from cpc.core.errors import BadInput, NotFound
from cpc.core.views import Page, SettingView
from cpc.server.gate import Gate
from cpc.server.principal import Call, Principal
from cpc.server.roles import Act
from cpc.store import settings
from cpc.store.store import Store
from cpc.store.transaction import Tx

Value = float | int | str
Parser = Callable[[str], Value]

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_SPANS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 366 * 86400}
_SIZES = {"": 1, "B": 1} | {
    unit + tail: 1024**power for power, unit in enumerate("KMGT", 1) for tail in ("", "B", "iB")
}  # fmt: skip


def _measure(text: str, units: dict[str, int], example: str) -> float:
    found = _NUMBER.fullmatch(text)
    unit = found.group(2) if found else ""
    scale = units.get(unit) or units.get(unit.upper()) or units.get(unit.lower())
    if found is None or scale is None:
        raise BadInput(f"{text[:40]!r} is not such a value", f"write for example {example}")
    return float(found.group(1)) * scale


def span(low: float, high: float, zero: bool = False) -> Parser:
    """A time: `120`, `15m`, `2h`, `30d`; seconds. `zero`: 0 is also taken (off, or for ever)."""

    def parse(text: str) -> Value:
        value = _measure(text, _SPANS, "120, 15m, 2h or 30d")
        if not (low <= value <= high or (zero and value == 0)):
            raise BadInput(f"{text} is not between {low:g} and {high:g} seconds{' or 0' if zero else ''}")
        return value

    return parse


def size(low: int, high: int) -> Parser:
    """A size: `500M`, `2 GiB`; bytes, in powers of 1024."""

    def parse(text: str) -> Value:
        value = _measure(text, _SIZES, "500M or 2G")
        if not low <= value <= high:
            raise BadInput(f"{text} is not between {low} and {high} bytes")
        return math.floor(value)

    return parse


def whole(low: int, high: int) -> Parser:
    """A whole number."""

    def parse(text: str) -> Value:
        text = text.strip()
        if not (text.isascii() and text.isdigit() and len(text) < 16 and low <= int(text) <= high):
            raise BadInput(f"{text[:40]!r} is not a whole number between {low} and {high}")
        return int(text)

    return parse


def choice(*words: str) -> Parser:
    """One of a few words."""

    def parse(text: str) -> Value:
        if text.strip() not in words:
            raise BadInput(f"{text[:40]!r} is not one of {', '.join(words)}")
        return text.strip()

    return parse


def path(text: str) -> Value:
    """An absolute path, or nothing."""
    text = text.strip()
    if text and (not Path(text).is_absolute() or "\0" in text):
        raise BadInput(f"{text[:200]!r} is not an absolute path", "begin it with /")
    return text


def search_path(text: str) -> Value:
    """Absolute paths with colons between them, or nothing."""
    return ":".join(str(path(part)) for part in text.split(":") if part.strip())


def user_names(text: str) -> Value:
    """Names of users with commas between them, or nothing."""
    return ", ".join(names.clean(part, "user name") for part in text.split(",") if part.strip())


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `default` is text, as it would be set; `restart`: a change waits for the next start."""

    name: str
    default: str
    parse: Parser
    text: str
    restart: bool = False


_MINUTE, _HOUR, _DAY, _YEAR = 60.0, 3600.0, 86400.0, 366 * 86400.0

SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("heartbeat_time", "120", span(2, 1 * _DAY), "a worker that is silent so long is lost, its jobs run again"),
        Setting("beats", "4", whole(2, 20), "how often a worker reports within heartbeat_time", restart=True),
        Setting("peer_grace", "1h", span(2, 30 * _DAY), "so long jobs at workers of a server that is silent may run on there"),
        Setting("checkpoint_interval", "15m", span(1, 7 * _DAY), "how often workers send in checkpoint files"),
        Setting("max_reserved_wait", "10m", span(1, 30 * _DAY), "a job that waits longer for room gets a worker reserved"),
        Setting("fairshare_halflife", "1d", span(60, _YEAR), "after this time, what a project has used counts half"),
        Setting("keep_jobs", "0", span(_HOUR, 100 * _YEAR, True), "how long finished jobs are kept; 0: for ever"),
        Setting("keep_results", "0", span(_HOUR, 100 * _YEAR, True), "how long their output files are kept; 0: for ever"),
        Setting("keep_events", "90d", span(_DAY, 100 * _YEAR, True), "how long events about jobs are kept; 0: for ever"),
        Setting("keep_audit", "400d", span(_DAY, 100 * _YEAR, True), "how long all other events are kept; 0: for ever"),
        Setting("min_free_space", "1G", size(1 << 20, 1 << 50), "with less free disk than this nothing new is taken in"),
        Setting("session_time", "7d", span(60, _YEAR), "how long a login is good for"),
        Setting("login_tries", "10", whole(1, 1000), "failed logins of one user from one address within login_window"),
        Setting("login_tries_address", "50", whole(1, 100_000), "failed logins from one address within login_window"),
        Setting("login_tries_user", "200", whole(1, 100_000), "failed logins of one user from anywhere within login_window"),
        Setting("login_window", "15m", span(1, _DAY), "the time in which failed logins are counted"),
        Setting("bundle_time", "366d", span(60, 20 * _YEAR), "how long a new bundle is good for, unless said otherwise"),
        Setting("certificate_time", "30d", span(600, 2 * _YEAR), "how long workers' certificates are valid between renewals"),
        Setting("warn_expiry", "30d", span(_DAY, _YEAR), "how long before its end a certificate or bundle is announced"),
        Setting("log_level", "info", choice("debug", "info", "warn", "error"), "how much goes into the log"),
        Setting("metrics_access", "loopback", choice("loopback", "token"), "who reads /metrics without a token"),
        Setting("site_certificate", "", path, "PEM chain of a site certificate for the people's door; reload to read it"),
        Setting("site_key", "", path, "PEM key of the site certificate; reload to read it"),
        Setting("controllers", "0", whole(0, 256), "how many processes run controllers; 0: one for each core, at most two"),
        Setting("controller_time", "10m", span(1, 7 * _DAY), "how long one run of a controller may take by default"),
        Setting("controller_memory", "2G", size(64 << 20, 1 << 44), "how much memory such a run may use by default"),
        Setting("controller_idle", "10m", span(1, 7 * _DAY), "a controller process that has nothing to do for so long ends"),
        Setting("import_path", "", search_path, "directories with modules, a colon between them, before all other places"),
        Setting("module_installers", "", user_names, "users who may upload definitions that name code, beside super users"),
        Setting("relay_cache", "4G", size(0, 1 << 50), "disk for files of other servers' jobs that pass through; 0: none"),
        Setting("custody_limit", "20G", size(0, 1 << 50), "disk for results whose server is out of reach; 0: workers wait"),
        Setting("quarantine_limit", "1G", size(0, 1 << 50), "disk for results that a peer brings and nobody here knows of"),
        Setting("backup_directory", "", path, "where backups go; empty: backups/ in the run directory"),
    )
}  # fmt: skip


def find(name: str) -> Setting:
    """The setting with this name (`-` and `_` are the same), or NotFound with those that exist."""
    found = SETTINGS.get(name.replace("-", "_"))
    if found is None:
        raise NotFound(f"there is no setting {name[:80]!r}", f"the settings are {', '.join(SETTINGS)}")
    return found


def view(setting: Setting, stored: dict[str, str]) -> SettingView:
    """How a setting is shown."""
    return SettingView(
        name=setting.name, value=stored.get(setting.name, setting.default), default=setting.default,
        text=setting.text, restart=setting.restart,
    )  # fmt: skip


class Settings:
    """The values in force. `watch` is told the name of each that changed, after the commit."""

    def __init__(self, store: Store, gate: Gate) -> None:
        self._store = store
        self._gate = gate
        self._stored: dict[str, str] = {}
        self._values: dict[str, Value] = {}
        self._watchers: list[Callable[[str], None]] = []

    async def load(self) -> None:
        """Read what is set. A stored value that this release does not take any more counts as its default."""
        stored = await self._store.read(settings.all_set)
        self._stored = stored
        self._values = {}
        for name in [name for name in stored if name in SETTINGS]:
            try:
                SETTINGS[name].parse(stored[name])
            except BadInput:
                del stored[name]

    def watch(self, told: Callable[[str], None]) -> None:
        """Call `told(name)` on the reactor after each change."""
        self._watchers.append(told)

    # --- values ---

    def value(self, name: str) -> Value:
        """The value in force, parsed."""
        if name not in self._values:
            setting = SETTINGS[name]
            self._values[name] = setting.parse(self._stored.get(name, setting.default))
        return self._values[name]

    def number(self, name: str) -> float:
        """A time in seconds."""
        value = self.value(name)
        assert isinstance(value, int | float)
        return float(value)

    def whole(self, name: str) -> int:
        """A number or a size in bytes."""
        value = self.value(name)
        assert isinstance(value, int)
        return value

    def text(self, name: str) -> str:
        """A word or a path; "" for none."""
        value = self.value(name)
        assert isinstance(value, str)
        return value

    # --- for people ---

    async def page(self, who: Principal) -> Page:
        """All settings with their values and defaults."""

        def unit(tx: Tx) -> Page:
            stored = settings.all_set(tx)
            return Page(items=tuple(view(setting, stored) for setting in SETTINGS.values()))

        return await self._gate.read(who, Act.SETTING_LIST, unit)

    async def get(self, who: Principal, name: str) -> SettingView:
        """One setting."""
        setting = find(name)
        return await self._gate.read(who, Act.SETTING_LIST, lambda tx: view(setting, settings.all_set(tx)))

    async def set(self, call: Call, name: str, value: str) -> SettingView:
        """Change a setting; the empty text means its default. BadInput says what it takes."""
        setting = find(name)
        value = value.strip() or setting.default
        try:
            setting.parse(value)
        except BadInput as error:
            raise BadInput(f"{setting.name}: {error.message}", error.hint) from None

        def unit(tx: Tx) -> SettingView:
            put(tx, setting, value)
            tx.event(call.who.actor, "setting.changed", name=setting.name, value=value)
            tx.after(lambda: self._changed(setting, value))
            return view(setting, settings.all_set(tx))

        return await self._gate.write(call, Act.SETTING_SET, unit, answer=SettingView)

    def _changed(self, setting: Setting, value: str) -> None:
        self._stored[setting.name] = value
        self._values.pop(setting.name, None)
        for told in self._watchers:
            told(setting.name)


def put(tx: Tx, setting: Setting, value: str) -> None:
    """Store a value that has been checked; a default is not stored, so that a later release may have a better one."""
    if value == setting.default:
        settings.unset(tx, setting.name)
    else:
        settings.put(tx, setting.name, value)
