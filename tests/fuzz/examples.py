"""A few good examples for each target, from which changes begin. Made by the code itself, so that they never grow old.

What once broke something is a file in `corpus/TARGET/`, and stays there.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import msgspec

from cpc.core.digest import of_chunks
from cpc.core.lease import Lease
from cpc.core.manifest import Entry, Manifest
from cpc.core.outcome import Outcome
from cpc.core.resources import Amounts
from cpc.spool import log
from cpc.spool.spool import Record
from cpc.wire import bundle, frames
from cpc.wire.identity import Authority, Name, Role, request
from cpc.wire.messages import ChunksMissing, Hello, Message, Orders, Program, Result, Settled, Turn
from cpc.worker.room import Kept

CORPUS = Path(__file__).parent / "corpus"
LEASE = Lease(57 << 20, 3, 1)


@lru_cache(maxsize=1)
def examples() -> dict[str, list[bytes]]:
    """Target → its examples."""
    content = of_chunks([b"hello"])
    files = Manifest((
        Entry(b"d", "dir"), Entry(b"d/out", content=content), Entry(b"l", "link", target=b"d/out"),
    ))  # fmt: skip
    result = Result(
        lease=LEASE, outcome=Outcome.OK, exit_code=0, files=files, small={content.digest: b"hello"}, tail="hello"
    )
    messages: list[Message] = [
        Hello(boot="b", host="h", release="3", platform="smp", total=Amounts(cores=4, memory=1 << 30, other={"x": 1}),
              programs=(Program(name="sim", version="1.0"),), labels=("fast",), time_left=60.0, holds=(LEASE,)),
        Turn(number=7, holds=(LEASE,), results=(result,)),
        Orders(settled=(Settled(lease=LEASE, verdict="accepted"),), cancel=((LEASE, "enough"),)),
        ChunksMissing(lease=LEASE, digests=(content.digest,)),
    ]  # fmt: skip
    authority = Authority.create("fuzz")
    worker = authority.identity(Name("fuzz", Role.WORKER, "w"), 1e9)
    bodies = [msgspec.msgpack.encode(message) for message in messages]
    good = bundle.Bundle(
        role="worker", name="w", server="fuzz", server_name="lab", addresses=(("h", 13807),), authority="A", key="K",
        certificate="C",
    )  # fmt: skip
    records = [
        msgspec.msgpack.encode(Record(LEASE, msgspec.msgpack.encode(Kept(result)))),
        msgspec.msgpack.encode(Record(LEASE, None)),
    ]
    head = b"POST /api/v1/projects/villin/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice-token\r\n"
    return {
        "frame": [
            b"".join(frames.greeting(frames.Greeting(1, 1, "3.0", ("relay",)))),
            b"".join(b"".join(frames.question("turn", number, each)) for number, each in enumerate(bodies)),
            b"".join(frames.question("report", 5, bodies[0], ("a", "b", "c"), 30.0)),
            b"".join(frames.answer(1, bodies[2])), b"".join(frames.refusal(frames.Refused("no", "hint"), 2)),
        ],
        "body": bodies,
        "paths": [msgspec.msgpack.encode(files)],
        "connection_bundle": [bundle.encode(good)],
        "certificate": [
            worker.certificate_pem, worker.key_pem + worker.certificate_pem, request(worker.key_pem),
            authority.key_pem + authority.certificate_pem,
        ],
        "spool": [log.frame(records[0]), log.frame(records[0]) + b"junk" + log.frame(records[0]) + log.frame(records[1])],
        "settings_files": [
            b'{"name":"lab","host":"h","listen":["127.0.0.1"],"port":1,"client_port":2,"database":"sqlite:///x","run_dir":"/r"}',
            b'{"version":1,"default":"a","servers":[{"name":"a","host":"h","port":1,"pin":{}}],"bundles":{}}',
        ],
        "http": [
            b"GET /api/v1/whoami HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice-token\r\n\r\n",
            head + b'Content-Type: application/json\r\nContent-Length: 28\r\n\r\n{"spec":{"argv":["x"],"a":1}}',
            head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"GET /api/v1/jobs/57/outputs/out HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2\r\n"
            b"Authorization: Bearer alice-token\r\n\r\n",
        ],
    }  # fmt: skip


def corpus(name: str) -> list[bytes]:
    """What a target begins with: its examples, then what once broke it."""
    kept = CORPUS / name
    return examples()[name] + [path.read_bytes() for path in sorted(kept.iterdir() if kept.is_dir() else ())]
