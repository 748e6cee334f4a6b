"""A server process killed at any moment has every chunk that it answered for; real files, a real database, kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet.defer import ensureDeferred

from cpc.core.clock import SystemClock
from cpc.store import references
from cpc.store.chunks import ChunkFiles
from cpc.store.chunkstore import ChunkStore
from cpc.store.disk import RealDisk
from tests.helpers.files import add_project, block, content_of, counted, dangling, on_record, storage
from tests.helpers.stores import InlineThreads, open_store, result, sqlite_url

ROOT = Path(__file__).parents[2]
SIZE = 200_000

PROGRAM = """
import sys
from pathlib import Path
from twisted.internet.defer import ensureDeferred
from cpc.core.clock import SystemClock
from cpc.store import references, uploads
from cpc.store.chunks import ChunkFiles
from cpc.store.chunkstore import ChunkStore
from cpc.store.disk import RealDisk
from cpc.store.references import Kind
from tests.helpers.files import block, content_of
from tests.helpers.stores import InlineThreads, open_store, result

run, url = Path(sys.argv[1]), sys.argv[2]
store = open_store(url)
chunks = ChunkStore(store, ChunkFiles(RealDisk(run)), InlineThreads(), SystemClock())

def record(tx, arrived):
    references.arrive(tx, Kind.UPLOAD, uploads.pin_owner(tx, 1)[0], 1, arrived)

number = 0
while True:
    data = block(number, 200_000 if number % 3 else 1_000)
    digest = content_of(data).digest
    result(ensureDeferred(chunks.put({digest: data}, record)))
    print(number, flush=True)
    if number % 4 == 3:  # forget it again, and collect
        def forget(tx):
            owner, _ = uploads.pin_owner(tx, 1)
            tx.many(references._DELETE, [{"kind": 5, "owner": owner, "number": 0, "digest": digest}])
            references.grow(tx, 1, -len(data))
            references.chunks.doom(tx, [digest])
        result(store.write(forget))
        result(ensureDeferred(chunks.collect(-1)))
    number += 1
"""


@pytest.mark.parametrize("answers", [1, 7, 20])
def test_what_was_answered_is_there_after_kill_9(tmp_path: Path, answers: int) -> None:
    url = sqlite_url(tmp_path)
    first = open_store(url)
    result(first.write(lambda tx: add_project(tx, 1)))
    result(ensureDeferred(first.close()))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "run"), url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as child:  # fmt: skip
        assert child.stdout is not None
        answered = [int(child.stdout.readline()) for _ in range(answers)]
        os.kill(child.pid, signal.SIGKILL)
        answered += [int(line) for line in child.stdout.read().splitlines()]
    store = open_store(url, holder="next")
    files = ChunkFiles(RealDisk(tmp_path / "run"))
    chunks = ChunkStore(store, files, InlineThreads(), SystemClock())

    async def faults() -> list[object]:
        return [fault async for fault in chunks.verify()]

    assert result(ensureDeferred(faults())) == []
    kept = [number for number in answered if number % 4 != 3]
    digests = [content_of(block(number, SIZE if number % 3 else 1_000)).digest for number in kept]
    assert result(store.read(lambda tx: references.missing(tx, 1, digests))) == ()
    assert result(store.read(dangling)) == 0
    assert result(store.read(lambda tx: storage(tx, 1))) == result(store.read(lambda tx: counted(tx, 1)))
    result(ensureDeferred(chunks.sweep(-60)))
    on_disk = {path.name for path in (tmp_path / "run" / "chunks").rglob("*") if path.is_file()}
    recorded = result(store.read(on_record))
    assert on_disk == {digest.hex() for digest, (_, data, _) in recorded.items() if data is None}
    result(ensureDeferred(store.close()))
