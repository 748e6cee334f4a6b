"""Records what the current release leaves and says, so that no later one breaks it.

    python -m tests.upgrade.record 3.1.0

Writes `databases/3.1.0` and `transcripts/3.1.0`. Done once at a release, never again: see CONTRIBUTING.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

from cpc.server.http import openapi
from cpc.server.http.routes import ROUTES
from cpc.wire import messages, peer_messages
from tests.helpers import postgres
from tests.helpers.network_of_processes import PASSWORD, Network
from tests.upgrade import calls, fixture, inventory, scenario, tape
from tests.upgrade.api import Api
from tests.upgrade.conversation import Conversation
from tests.upgrade.peer_conversation import PeerConversation


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


def protocol(target: Path) -> None:
    """The machines' protocol, of workers and between servers; every method of it."""
    for name, lines, module in (
        ("worker", Conversation().run(), messages), ("peer", PeerConversation().run(), peer_messages),
    ):  # fmt: skip
        missing = tape.methods(module) - tape.said(lines)
        assert not missing, f"tests/upgrade/…conversation.py does not say {missing}"
        tape.save(target / f"{name}.jsonl", lines)


def public(target: Path, directory: Path) -> None:
    """The public API; every call of it."""
    network = Network(directory)
    try:
        lines = calls.record(network)
    finally:
        network.close()
    described = openapi.document(ROUTES)
    missing = calls.every(json.loads(described)) - calls.reached(lines, json.loads(described))
    assert not missing, f"tests/upgrade/calls.py does not ask {missing}"
    tape.save(target / "api.jsonl", lines)
    (target / "openapi.json").write_bytes(described + b"\n")


def main(release: str) -> None:
    """Everything, into the tree."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", release):
        sys.exit(f"{release!r} is not the number of a release: write for example 3.1.0")
    target = tape.TRANSCRIPTS / release
    with tempfile.TemporaryDirectory(prefix="cpc-record-", ignore_cleanup_errors=True) as scratch:
        protocol(target)
        public(target, Path(scratch) / "api")
        server = postgres.Server(Path(scratch) / "postgresql")
        try:
            for kind, given in (("sqlite", None), ("postgresql", server)):
                database(release, kind, Path(scratch) / kind, given)
        finally:
            server.stop()
    print(f"recorded {release}: look at `git status tests/upgrade`, and commit what is new")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
