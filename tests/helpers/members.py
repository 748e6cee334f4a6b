"""Servers with all that has to do with other servers — database, trust, links, the machines' door — on a simulated network."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred

from cpc.core.chance import SeededChance
from cpc.core.errors import CopernicusError, Unavailable
from cpc.core.offload import inline
from cpc.core.peer_views import PeerAnswer, PeerRequest, PeerView
from cpc.core.views import ServerView
from cpc.server.bundles import Bundles, Terms
from cpc.server.config import Config
from cpc.server.federation.outside import Stranger
from cpc.server.federation.services import Federation
from cpc.server.files import Files
from cpc.server.gate import Gate
from cpc.server.machines import Machines
from cpc.server.machines import Terms as MachineTerms
from cpc.server.principal import SERVER as OPERATOR
from cpc.server.principal import Call
from cpc.server.seal import Seal
from cpc.server.settings import Settings
from cpc.server.storage import Storage
from cpc.server.tokens import Tokens
from cpc.server.worker_files import WorkerFiles
from cpc.store.chunks import ChunkFiles
from cpc.store.chunkstore import ChunkStore
from cpc.wire.connection import SERVER, Connection, Listener
from cpc.wire.identity import Name
from cpc.wire.peer_messages import PeerHello
from cpc.wire.tls import ServerTls
from tests.helpers.benches import Bench
from tests.helpers.disks import FakeDisk
from tests.helpers.memory_disk import MemoryDisk, Platter
from tests.helpers.sites import PORT, Lab, Site
from tests.helpers.stores import InlineThreads
from tests.simulation.server import shared_memory

CLIENT_PORT = PORT + 1000


class Member(Site):
    """A server. Its operator is whoever calls the methods that are named as commands."""

    lab: Members

    def start(self) -> None:
        """The process begins, on the database that it has."""
        if not hasattr(self, "bench"):
            directory = Path(self.lab.directory.name) / self.name
            directory.mkdir()
            self.bench = Bench(directory)
            self.local_disk = MemoryDisk(Platter(self.bench.clock.monotonic))
            self.local_disk.make_directory("/run")
            self.calls_itself = self.name
            self.listens = PORT
        host, store = self.host, self.bench.store
        gate = Gate(store, Seal(self.authority.key_pem, SeededChance(3)))
        config = Config(
            name=self.name, host=self.calls_itself, listen=("::",), port=self.listens, client_port=self.listens + 1000,
            database="", run_dir="/run",
        )  # fmt: skip
        self._make_machines(gate)
        self.federation = Federation(
            config=config, authority=self.authority, identity=lambda: self.identity, store=store, gate=gate,
            queue=self.bench.queue, machines=self.machines, storage=self.storage, settings=Settings(store, gate),
            offload=inline, connect=host.connect, reactor=host.reactor, clock=host.clock, chance=SeededChance(ord(self.name)),
            outside=_Outside(self), disk=self.local_disk,
        )  # fmt: skip
        self.book, self.links, self.trusting = self.federation.book, self.federation.links, self.federation.trust
        self.links.on_change(lambda peer, up: self.changes.append((self.lab.name(peer), up)))
        self.ended: list[tuple[str, bool]] = []
        self.trusting.on_revoke.append(lambda _tx, peer, back: self.ended.append((self.lab.name(peer), back)))
        self.trusting.cut = lambda: self.machines.cut_names(self.refusal, self.listener.connections)
        tls = ServerTls(self.identity, self.federation.pinned, self.refusal)
        self.listener = Listener(host.reactor, tls, self._connected, host.clock, greeting=SERVER)
        self.lab.finish(self.federation.load())
        self.lab.finish(self.listener.listen(host.listen(self.listens)))
        self.federation.start(self.listener)

    def _make_machines(self, gate: Gate) -> None:
        store, clock = self.bench.store, self.host.clock
        disk = FakeDisk(clock.now)
        disk.make("run")
        self.storage = storage = Storage(disk, InlineThreads(), self.host.reactor, lambda: 1 << 20)
        tokens = Tokens(store, gate, clock, SeededChance(6))
        self.bundles = Bundles(store, gate, tokens, self.authority, clock, Terms(self.name, (), ()))
        chunk_store = ChunkStore(store, ChunkFiles(disk), InlineThreads(), clock)
        files = Files(store, chunk_store, gate, storage, InlineThreads())
        self.machines = Machines(
            queue=self.bench.queue, store=store, clock=clock, chunks=WorkerFiles(files, storage), enrolment=self.bundles,
            terms=MachineTerms(self.id),
        )  # fmt: skip
        self.lab.finish(storage.start())

    def refusal(self, name: Name, fingerprint: str) -> str | None:
        return self.bundles.refusal(name, fingerprint) or self.federation.refusal(name, fingerprint)

    def _connected(self, connection: Connection) -> None:
        if self.federation.is_server(connection):
            self.links.connected(connection)
        else:
            self.machines.connected(connection)

    def say(self) -> PeerHello:
        return self.federation.say()

    # --- as cpcc does it ---

    def call(self) -> Call:
        return Call(OPERATOR)

    def connect_server(self, other: Member, host: str = "") -> PeerView | CopernicusError:
        """`connect-server`, with the fingerprint that the other one has."""
        trust = self.trusting
        work = trust.ask(self.call(), host or other.name, other.listens + 1000, 0, other.authority.fingerprint)
        return self.lab.outcome(work)

    def trust(self, other: Member) -> PeerView | CopernicusError:
        """`trust`, after comparing."""
        return self.lab.outcome(self.trusting.trust(self.call(), other.id, other.authority.fingerprint))

    def revoke(self, other: Member, hand_back: bool = False) -> PeerView | CopernicusError:
        """`revoke`."""
        return self.lab.outcome(self.trusting.revoke(self.call(), other.id, hand_back))

    def refuse_server(self, other: Member) -> CopernicusError | None:
        """`refuse-server`."""
        return self.lab.outcome(self.trusting.drop(self.call(), other.id))

    def view(self, other: Member) -> PeerView | None:
        """What `connected-servers` shows of the other one."""
        page = self.lab.finish(self.trusting.page(OPERATOR))
        return next((view for view in page.items if view.id == other.id), None)

    def state(self, other: Member) -> str:
        """How far it is with it; "" when it does not know it."""
        view = self.view(other)
        return view.state if view is not None else ""


class Members(Lab):
    """`Members("ab")`: servers of these names that do not know each other yet. Close it."""

    site = Member

    def __init__(self, names: str, seed: int = 1) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="cpc-members-", dir=shared_memory())
        super().__init__(names, seed)

    def __getitem__(self, name: str) -> Member:
        found = self.sites[name]
        assert isinstance(found, Member)
        return found

    def outcome(self, work: Any) -> Any:
        """The result or the refusal."""
        try:
            return self.finish(work)
        except CopernicusError as error:
            return error

    def befriend(self, *pairs: str) -> None:
        """`"ab"`: a asks b, b trusts a, and they are connected."""
        for pair in pairs:
            one, other = self[pair[0]], self[pair[1]]
            asked = one.connect_server(other)
            assert not isinstance(asked, CopernicusError), asked
            trusted = other.trust(one)
            assert not isinstance(trusted, CopernicusError), trusted
        self.until(lambda: all(self.connected(pair) for pair in pairs))

    def close(self) -> None:
        """Let go of the databases."""
        for name in self.sites:
            self[name].federation.stop()
            self[name].bench.close()
        self.directory.cleanup()


class _Outside:
    """The people's doors of the others, without HTTP in between. Where nobody runs, nobody answers."""

    def __init__(self, member: Member) -> None:
        self._lab = member.lab
        self._name = member.name

    def _find(self, host: str, port: int) -> Member:
        for name in self._lab.sites:
            found = self._lab[name]
            if host == name and port == found.listens + 1000 and found.host.reactor.alive:
                return found
        raise Unavailable(f"nothing listens at {host} port {port}")

    async def look(self, host: str, port: int) -> Stranger:
        other = self._find(host, port)
        said = other.say()
        view = ServerView(
            id=other.id, name=said.name, release=said.release, protocol=1, incarnation=1, host=said.host, port=said.port,
            client_port=said.client_port, fingerprint=other.authority.fingerprint, started=0, heartbeat_time=120.0,
        )  # fmt: skip
        return Stranger(view, other.authority.certificate_pem, other.federation.requests.word())

    async def ask(self, host: str, port: int, request: PeerRequest) -> PeerAnswer:
        other = self._find(host, port)
        return await ensureDeferred(other.federation.requests.take(request, f"10.0.0.{ord(self._name)}"))
