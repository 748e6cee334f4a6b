"""A people's door over fakes on a loopback port, as a process of its own: prints one line of JSON about itself.

python -m tests.helpers.http_fake_server [--tls]
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    from twisted.internet import reactor

    from cpc.core.chance import SystemChance
    from cpc.core.clock import SystemClock
    from cpc.server.http.door import Door, over_tls
    from cpc.server.metrics import Metrics
    from cpc.wire.identity import Authority, Name, Role
    from cpc.wire.tls import PeopleTls
    from tests.helpers.fake_services import FakeServices

    clock, chance = SystemClock(), SystemChance()
    services = FakeServices()
    services.store_file(bytes(range(256)) * 5000, b"out/traj.xtc")
    services.world.logs["57"] = b"hello\n" * 100
    door = Door(services, reactor=reactor, clock=clock, chance=chance, metrics=Metrics())  # type: ignore[arg-type]
    about = {"token": "alice-token", "admin": "cpc-admin-token", "scheme": "http", "authority": ""}
    factory: object = door
    if "--tls" in sys.argv:
        server = services.view().id
        authority = Authority.create(server, clock, chance)
        identity = authority.identity(Name(server, Role.SERVER, ""), 86400.0, ("localhost", "127.0.0.1"))
        factory = over_tls(door, PeopleTls(identity), reactor)  # type: ignore[arg-type]
        about |= {"scheme": "https", "authority": authority.certificate_pem.decode()}
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    about["port"] = port.getHost().port
    print(json.dumps(about), flush=True)
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
