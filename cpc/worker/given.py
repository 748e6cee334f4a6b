"""What a worker program is given: the bundle that it comes with, and a work directory that nobody else may write in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from cpc.core.errors import BadInput
from cpc.wire import bundle as bundles
from cpc.wire.bundle import Bundle
from cpc.worker.credentials import check_bundle
from cpc.worker.options import Settings


def bundle_of(settings: Settings, say: Callable[[str], None]) -> Bundle:
    """The bundle that was named, found, or comes on stdin. NotFound, BadInput or Damaged in words."""
    if settings.bundle == "-":
        return _handed()
    path = bundles.find(settings.bundle, settings.home)
    bundle = bundles.read(path)
    if bundle.role == "client":
        raise BadInput(f"{path} is a {bundle.role} bundle", "make one for workers: cpc-server bundle --role worker")
    check_bundle(bundle, str(path))
    if not bundles.is_private(path):
        say(f"{path} can be read by others; it is a secret: chmod 600 {path}")
    return bundle


def _handed() -> Bundle:
    """The bundle that comes on stdin. Nobody reads that a second time: what we start inherits an empty one."""
    what = "the bundle on stdin"
    bundle = bundles.decode(sys.stdin.buffer.read(bundles.MAX_SIZE + 1), what)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if bundle.role == "client":
        raise BadInput(f"{what} is a client bundle", "make one for workers: cpc-server bundle --role worker")
    check_bundle(bundle, what)
    return bundle


def own(work: str, user: int) -> None:
    """The work directory of an allocation has a name that anybody on the node can guess, and may have made: in one that is
    somebody else's (not `user`'s or root's), what is run and the key could be taken or replaced. BadInput then."""
    for found in (os.lstat(work), os.stat(work)):
        if found.st_uid not in (0, user):
            raise BadInput(
                f"the work directory {work} belongs to another user ({found.st_uid}), who could read and change all in it",
                "remove it, or give the pool another one: cpcc pool set POOL --work DIR",
            )
