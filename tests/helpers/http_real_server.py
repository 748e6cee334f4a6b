"""The real server's doors on loopback ports, as a process of its own: prints one line of JSON about itself.

    python -m tests.helpers.http_real_server

A user owns the project `villin` with the jobs 1…57 and the project `doomed`. Being asked to stop changes nothing here.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from cpc.core.chance import SystemChance
from cpc.core.clock import SystemClock
from cpc.core.spec import JobSpec
from cpc.server.config import Config, Place, write_secret
from cpc.server.principal import SERVER, Call
from cpc.store import migrate
from cpc.wire.identity import Authority

SERVER_ID = "00000000-0000-4000-8000-000000000057"
PASSWORD = "a long enough password"


def place(directory: Path) -> tuple[Place, Config]:
    """A server's directory as `cpc-server setup` makes it, but for free ports."""
    made = Place.named(directory, "test")
    made.directory.mkdir(parents=True, mode=0o700)
    authority = Authority.create(SERVER_ID, SystemClock(), SystemChance())
    write_secret(made.key_file, authority.key_pem)
    write_secret(made.certificate_file, authority.certificate_pem)
    url = f"sqlite:///{directory}/test.db"
    migrate.initialise(url, server=SERVER_ID, name="test", now=SystemClock().now())
    config = Config(
        name="test", host="127.0.0.1", listen=("127.0.0.1",), port=0, client_port=0, database=url,
        run_dir=str(directory / "run"),
    )  # fmt: skip
    made.write(config)
    return made, config


async def fill(service: Any) -> dict[str, str]:
    """Users, projects, jobs; the tokens."""
    tokens: dict[str, str] = {}
    await service.accounts.add_user(Call(SERVER), "cpc-admin", PASSWORD, True)
    for name in ("owner", "alice"):
        await service.accounts.add_user(Call(SERVER), name, PASSWORD, False)
    for name, user in (("admin", "cpc-admin"), ("token", "owner"), ("spare", "owner")):
        tokens[name] = (await service.accounts.login(user, PASSWORD, "127.0.0.1")).token
    owner = Call(await service.accounts.authenticate(tokens["token"]))
    for project in ("villin", "doomed"):
        await service.projects.create(owner, project)
    for _ in range(57):
        await service.jobs.submit(owner, "villin", JobSpec(argv=("true",)), False)
    return tokens


def main() -> None:
    """Serve until killed."""
    from twisted.internet import reactor
    from twisted.internet.defer import ensureDeferred

    from cpc.server.service import Service

    with tempfile.TemporaryDirectory() as scratch:
        where, config = place(Path(scratch))
        service = Service(where, config, reactor, lambda reason: reactor.stop())  # type: ignore[attr-defined]

        async def go() -> None:
            await service.start()
            end = lambda: ensureDeferred(service.stop())  # noqa: E731
            reactor.addSystemEventTrigger("before", "shutdown", end)  # type: ignore[attr-defined]
            about: dict[str, object] = {**await fill(service), "scheme": "https"}
            about["authority"] = service.authority_key.certificate_pem.decode()
            about["port"] = service.client_port
            print(json.dumps(about), flush=True)

        def failed(failure: Any) -> None:
            failure.printTraceback()
            reactor.stop()  # type: ignore[attr-defined]

        reactor.callWhenRunning(lambda: ensureDeferred(go()).addErrback(failed))  # type: ignore[attr-defined]
        reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
