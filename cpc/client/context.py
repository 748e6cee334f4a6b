"""What a command of cpcc works with: the options that stand anywhere, the client, the output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpc.client.output import Output

if TYPE_CHECKING:
    from cpc.client.client import Client
    from cpc.client.config import Config, Server


class Context:
    """Made once per call of cpcc."""

    def __init__(
        self, *, home: str | None, project: str | None, bundle: str | None, json: bool, quiet: bool
    ) -> None:  # fmt: skip
        self.out = Output(json=json, quiet=quiet)
        self._home = home
        self._project = project
        self._bundle = bundle
        self._config: Config | None = None

    @property
    def home(self) -> Path:
        """$CPC_HOME."""
        from cpc.client.config import home

        return home(self._home)

    @property
    def config(self) -> Config:
        """What cpcc remembers."""
        if self._config is None:
            from cpc.client.config import Config

            self._config = Config(self.home)
        return self._config

    @property
    def server(self) -> Server:
        """The default server."""
        return self.config.find()

    def client(self) -> Client:
        """A client for the server, project and identity that this call is about."""
        from cpc.client.client import Client

        made = Client.from_bundle(self._bundle) if self._bundle else Client.of(self.server)
        if self._project:
            made.project = self._project
        return made

    @property
    def project(self) -> str:
        """The project that was named, or the current one; "" for none."""
        return self._project or ("" if self._bundle else self.server.project)


pass_context = click.make_pass_decorator(Context)
