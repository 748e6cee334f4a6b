"""What a command of cpcc works with: the options that stand anywhere, the client, the output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpc.client.output import Output
from cpc.core.errors import BadInput

if TYPE_CHECKING:
    from cpc.client.client import Client
    from cpc.client.config import Config, Server
    from cpc.wire.bundle import Bundle


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
        self._client: Client | None = None

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
        """The default server, for what makes no sense with a bundle."""
        if self.bundle is not None:
            raise BadInput(
                f"{self.bundle} is a bundle: it has its own identity", "leave out -c, and add a server with add-server"
            )
        return self.config.find()

    @property
    def bundle(self) -> Path | None:
        """The client bundle to use: the one of -c; else, when no server was added, `client.cnx` in $CPC_HOME."""
        if self._bundle is not None:
            return Path(self._bundle).expanduser()
        if self.config.servers:
            return None
        from cpc.wire import bundle

        found = self.home / bundle.FILE_NAME
        return found if found.is_file() and bundle.read(found).role == "client" else None

    def client(self) -> Client:
        """A client for the server, project and identity that this call is about. Closed when cpcc ends."""
        from cpc.client.client import Client

        if self._client is None:
            path = self.bundle
            self._client = Client.from_bundle(path) if path else Client.of(self.server)
            self._client.project = self.project
        return self._client

    def close(self) -> None:
        """Let the connection go."""
        if self._client is not None:
            self._client.close()

    @property
    def project(self) -> str:
        """The project that was named, or the current one; "" for none."""
        if self._project:
            return self._project
        if self.bundle is not None:
            return self.config.bundle_project(_name(self._read_bundle()))
        return self.server.project

    @property
    def named_project(self) -> str:
        """The project of -p, for lists that the current one does not narrow; "" for all."""
        return self._project or ""

    def set_project(self, name: str) -> None:
        """Make it the current project; "" for none."""
        if self.bundle is not None:
            self.config.set_bundle_project(_name(self._read_bundle()), name)
        else:
            self.config.update(self.server.name, project=name)
        if self._client is not None:
            self._client.project = name

    def _read_bundle(self) -> Bundle:
        from cpc.wire import bundle

        assert self.bundle is not None
        return bundle.read(self.bundle)


def _name(found: Bundle) -> str:
    return f"{found.server}/{found.name}"


pass_context = click.make_pass_decorator(Context)
