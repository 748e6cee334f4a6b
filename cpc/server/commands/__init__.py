"""The commands of cpc-server, and what they work with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import click

from cpc.core.chance import Chance, SystemChance
from cpc.core.clock import Clock, SystemClock
from cpc.core.views import BundleView, SettingView
from cpc.server import config
from cpc.server.config import Config, Place


class Office(Protocol):
    """What is the same whether the server runs or not."""

    def make_bundle(self, name: str, role: str, user: str, expires_in: float) -> tuple[str, BundleView]: ...
    def bundles(self) -> list[BundleView]: ...
    def revoke_bundle(self, name: str) -> None: ...
    def settings(self) -> list[SettingView]: ...
    def set(self, name: str, value: str) -> SettingView: ...
    def pause_pool(self, name: str, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Context:
    """The options that stand anywhere, and the machine's clock and randomness."""

    home: str | None = None
    name: str | None = None
    clock: Clock = field(default_factory=SystemClock)
    chance: Chance = field(default_factory=SystemChance)

    @property
    def base(self) -> Path:
        """The home directory of all configurations."""
        return config.home(self.home)

    def place(self) -> Place:
        """The server that is meant; NotFound when there is none."""
        return Place.find(self.base, self.name)

    @contextmanager
    def office(self, place: Place, settings: Config) -> Iterator[Office]:
        """Talk to the server if it runs, else work on its database; nobody else can meanwhile."""
        from cpc.server import offline, process, upkeep
        from cpc.server.control import Control

        if process.find(place) is not None:
            yield Control(place, settings, lambda: upkeep.site_certificate(settings))
            return
        with process.held(place, settings):
            upkeep.check_database(settings)
            authority = upkeep.authority(place, self.clock, self.chance)
            with offline.services(settings, authority, self.clock, self.chance) as services:
                yield services


pass_context = click.make_pass_decorator(Context)


def warn(message: str) -> None:
    """One line on stderr that stops nothing."""
    click.echo(f"cpc-server: warning: {message}", err=True)
