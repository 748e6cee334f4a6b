"""The worker's own key and certificate. The key is made here and never leaves; the bundle only serves to enrol it.

Each worker on a host uses a key of its own (a numbered, locked place), because the server lets a credential have one
session at a time; the next worker in the same place is the same worker, started again.
"""

from __future__ import annotations

import os
import urllib.parse
from dataclasses import dataclass

from cpc.core.chance import Chance
from cpc.core.errors import BadInput, CopernicusError, Damaged, Refused
from cpc.spool.disk import Disk, Held
from cpc.wire.bundle import Bundle
from cpc.wire.connection import Connection
from cpc.wire.identity import Identity, Name, Role, fingerprint_of, name_of, new_key, read_certificate, request
from cpc.wire.messages import Enrol, Enrolled

KEY = "key.pem"
CERTIFICATE = "certificate.pem"
MOST_WORKERS = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """A directory for one worker's key, ours while we hold the lock."""

    directory: str
    lock: Held


def place(disk: Disk, roots: tuple[str, ...], bundle: Bundle, host: str) -> Place:
    """The first free place below the first of `roots` that can be written. BadInput when none can."""
    trouble: OSError | None = None
    for root in roots:
        name = urllib.parse.quote(bundle.name, safe="")
        try:
            for number in range(1, MOST_WORKERS):
                directory = os.path.join(root, "worker", bundle.server, name, f"{host}-{number}")
                disk.make_directory(directory, 0o700)
                lock = disk.lock(os.path.join(directory, "lock"))
                if lock is not None:
                    return Place(directory, lock)
        except OSError as error:
            trouble = error
    raise BadInput(f"the worker's key cannot be kept in {' or '.join(roots)}: {trouble}", "see --home and -wd")


def check_bundle(bundle: Bundle, path: str) -> None:
    """Damaged, naming the file, when what it holds cannot be what the server has made."""
    try:
        authority = bundle.authority.encode()
        found = Identity.load(bundle.key.encode(), bundle.certificate.encode(), authority)
        if found.name != Name(bundle.server, Role.BUNDLE, bundle.name):
            raise Damaged(
                f"its certificate is for {found.name.uri}, not for bundle {bundle.name} of server {bundle.server}"
            )
    except CopernicusError as error:
        again = "copy it again, or ask for a new one: cpc-server bundle"
        raise Damaged(f"the connection bundle {path} is damaged: {error.message}", again) from None


class Credentials:
    """Key and certificate of this worker, on disk with mode 0600. `repaired` says in words what had to be made anew."""

    def __init__(self, disk: Disk, directory: str, bundle: Bundle, chance: Chance) -> None:
        self._disk = disk
        self._directory = directory
        self._bundle = bundle
        self.repaired = ""
        self._key = self._read(KEY)
        try:
            fingerprint_of(self._key)
        except CopernicusError:  # none yet, or damaged: the bundle enrols a new one
            if self._key:
                path = os.path.join(directory, KEY)
                self.repaired = f"the worker's key {path} was damaged: a new one is enrolled, under another name"
            self._key = new_key(chance)
            self._write(KEY, self._key)
        self.identity = self._load()

    @property
    def bundle_identity(self) -> Identity:
        """What enrols: the bundle's own key and certificate."""
        bundle = self._bundle
        certificate = bundle.certificate.encode()
        name = name_of(read_certificate(certificate))
        return Identity(name, bundle.key.encode(), certificate, bundle.authority.encode())

    async def enrol(self, connection: Connection, method: str = "enrol") -> float:
        """Get a certificate for our key ("renew-certificate" over a live session); for how many seconds it is valid."""
        answer = await connection.call(method, Enrol(request=request(self._key)), Enrolled)
        identity = Identity.load(self._key, answer.certificate, self._bundle.authority.encode())
        if identity.name != Name(self._bundle.server, Role.WORKER, answer.name):
            raise Refused(f"the server gave a certificate for {identity.name.uri}, which is not this worker")
        self._write(CERTIFICATE, answer.certificate)
        self.identity = identity
        return answer.valid_for

    def _load(self) -> Identity | None:
        try:
            return Identity.load(self._key, self._read(CERTIFICATE), self._bundle.authority.encode())
        except CopernicusError:
            return None  # none yet, or not ours: enrol

    def _read(self, name: str) -> bytes:
        try:
            return self._disk.read(os.path.join(self._directory, name))
        except FileNotFoundError:
            return b""

    def _write(self, name: str, data: bytes) -> None:
        path = os.path.join(self._directory, name)
        self._disk.write(path + ".new", data, 0o600)
        self._disk.sync(path + ".new")
        self._disk.rename(path + ".new", path)
        self._disk.sync_directory(self._directory)
