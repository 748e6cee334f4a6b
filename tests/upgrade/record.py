"""Records what the current release leaves and says, so that no later one breaks it.

    python -m tests.upgrade.record 3.1.0

Writes `databases/3.1.0` and `transcripts/3.1.0`. Done once at a release, never again: see CONTRIBUTING.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from tests.helpers import postgres
from tests.helpers.network_of_processes import PASSWORD, Network
from tests.upgrade import fixture, inventory, scenario, tape
from tests.upgrade.api import Api
from tests.upgrade.conversation import Conversation


def database(release: str, kind: str, directory: Path, server: postgres.Server | None) -> None:
    """One fixture."""
    urls = (server.database(), server.database()) if server is not None else ("", "")
    network = Network(directory, urls[0])
    try:
        left = scenario.play(network, urls[1])
        network.start()  # once more, without workers: what it shows now is what it must show after an upgrade
        seen = inventory.take(Api.of(network).login("cpc-admin", PASSWORD))
        network.stop_server()
        fixture.record(network, fixture.Fixture(release, kind), left, seen)
    finally:
        network.close()


def main(release: str) -> None:
    """Everything, into the tree."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", release):
        sys.exit(f"{release!r} is not the number of a release: write for example 3.1.0")
    tape.save(tape.TRANSCRIPTS / release / "worker.jsonl", Conversation().run())
    print(f"recorded the machines' protocol of {release}")
    with tempfile.TemporaryDirectory(prefix="cpc-record-", ignore_cleanup_errors=True) as scratch:
        server = postgres.Server(Path(scratch) / "postgresql")
        try:
            for kind, given in (("sqlite", None), ("postgresql", server)):
                database(release, kind, Path(scratch) / kind, given)
                print(f"recorded the database {release}, {kind}")
        finally:
            server.stop()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
