"""What a fixture is made by: a small life of a server in which there is one of everything that a database can hold.

Played through the real programs, on either database. What it leaves open must come to its end after an upgrade: `Left`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from cpc.client.transfer import upload
from cpc.core.digest import CHUNK, of_chunks
from cpc.core.edits import Activate, SetValue
from cpc.core.spec import Dependency, Input, JobSpec
from tests.helpers.network_of_processes import PASSWORD, Network, Person
from tests.upgrade.api import PREFIX, Api

LATER = "later"  # the label of the worker that comes after the upgrade
SETTINGS = {"checkpoint_interval": "1", "keep_events": "0", "keep_audit": "0"}

UNLESS_REPEATED = 'echo "attempt $CPC_ATTEMPT"; test "$CPC_ATTEMPT" -gt 1'
FROM_CHECKPOINT = """
if [ -e state.cpt ]; then echo "from $(wc -l < state.cpt)"; exit 0; fi
seq 1 20000 > state.cpt; sleep 1000
"""
FROM_NOTHING = 'if [ "$CPC_ATTEMPT" -gt 1 ]; then echo again; exit 0; fi; sleep 1000'
BIG = "seq 1 60000 > numbers.txt; mkdir deep; echo small > deep/note; echo said; echo wrong >&2"


#: One job that ends, one that must be tried again, and a function that writes into its instance's log.
NETWORK = """<?xml version="1.0"?>
<cpc version="1">
  <import name="float"/>
  <function id="double" type="command">
    <inputs><field id="x" type="int"/></inputs>
    <outputs><field id="y" type="int"/><field id="copy" type="file"/></outputs>
    <command>
      <arg value="/bin/sh"/><arg value="-c"/>
      <arg value="test {x} -lt 5 -o &quot;$CPC_ATTEMPT&quot; -gt 1 || sleep 1000; echo $(({x} * 2)) | tee y > copy"/>
      <output id="y" path="y"/><output id="copy" path="copy"/>
    </command>
  </function>
  <function id="says" type="python">
    <inputs><field id="object" type="string"/></inputs><controller import="pprint" function="pprint.pprint" log="yes"/>
  </function>
  <network>
    <instance id="early" function="double"/><instance id="late" function="double"/>
    <instance id="says" function="says"/><instance id="sum" function="float::add"/>
    <connection src="early:out.y" dest="sum:in.a"/><connection src="late:out.y" dest="sum:in.b"/>
    <assign type="int" value="3" dest="early:in.x"/><assign type="int" value="7" dest="late:in.x"/>
    <assign type="string" value="hello" dest="says:in.object"/>
  </network>
</cpc>
"""


class Left(msgspec.Struct):
    """What is open at the end. `jobs`: those that must succeed later, with what they print; `values`: what items of the
    network of project p must become."""

    jobs: dict[str, str]
    upload: dict[str, Any]  # id, project, and the announcement
    repeated: dict[str, Any]  # a call with its key, and its answer
    files: dict[str, str]  # uploaded contents: digest → project
    token: str
    values: dict[str, Any] = {}


def part(number: int) -> bytes:
    """A chunk of the file whose upload is under way; it compresses well."""
    return (b"%07d\n" % number) * (CHUNK // 8)


def play(network: Network, spare: str = "") -> Left:
    """From an empty server to one with everything; nothing runs any more when it returns. `spare`: an empty database."""
    _lose_a_life(network, spare)
    client = network.client
    _people(network)
    worker = network.worker(cores=8)
    network.worker("--labels", "tired", cores=1)
    client.drain(network.name(network.workers[-1]), "its disk is full")
    files = _ended_jobs(network)
    left = Left(jobs=_open_jobs(network), upload=_upload(network), repeated={}, files=files, token="")
    left.values = _network(network)
    left.token = client.make_token("script")[0]
    left.repeated = _repeated(network)
    client.set_setting("heartbeat_time", "600")  # what runs is not called lost while a test looks at it
    network.stop_server()
    for each in network.workers:
        each.kill()
    assert not worker.running
    return left


def _lose_a_life(network: Network, spare: str) -> None:
    """A result of a life that a restore undid: it is in quarantine, and all that follows is of the second life."""
    client = network.client
    flag = network.directory / "flag"
    first = network.shell("echo of the first life", name="first life")
    lost = network.shell(
        f"while [ ! -e {flag} ]; do sleep 0.05; done; echo twice", name="ran in both", labels=("twice",)
    )
    with network.working():
        network.success_of(first)
    network.run("cpc-server", "backup", str(network.directory / "backup.tar")).done()
    worker = network.worker("--labels", "twice")
    network.running(lost)
    network.stop_server()
    flag.touch()
    network.until(
        lambda: any(b"lease" in path.read_bytes() for path in worker.directory.rglob("spool.log")),
        "its result is on disk",
    )
    database = ("--database", spare) if spare else ()
    network.run("cpc-server", "restore", str(network.directory / "backup.tar"), "--force", *database).done()
    network.start()
    network.until(lambda: client.events(kind="result.quarantined"), "the result is kept aside", 30.0)
    network.success_of(lost)
    network.dismiss(worker)


def _people(network: Network) -> None:
    client = network.client
    for name in ("ann", "bob", "carol", "dave"):
        client.add_user(name, PASSWORD)
    client.add_user("sue", PASSWORD, super_user=True)
    client.change_user("dave", disabled=True)
    client.delete_user("carol")
    client.grant("ann", "member")
    client.grant("bob", "viewer")
    client.create_project("second", quota=1 << 30, weight=2.0)
    client.create_project("doomed")
    client.delete_project("doomed")
    client.make_bundle("lost", "worker")
    client.revoke_bundle("lost")
    client.make_bundle("ann-laptop", "client")
    Person(network, "ann", network.directory / "ann")
    for name, value in SETTINGS.items():
        client.set_setting(name, value)


def _ended_jobs(network: Network) -> dict[str, str]:
    client, scratch = network.client, network.directory
    small, large = scratch / "small.txt", scratch / "large.txt"
    small.write_text("a few words\n")
    large.write_text("".join(f"{number}\n" for number in range(50_000)))
    inputs = (Input("small.txt", upload(client, small)), Input("large.txt", upload(client, large)))
    network.success_of(
        network.shell(f"cat small.txt; wc -l < large.txt; {BIG}", name="files", inputs=inputs, priority=3)
    )
    network.success_of(network.shell(UNLESS_REPEATED, name="flaky", max_failures=2))
    assert network.end_of(network.shell("echo no; exit 3", name="bad")).state == "failed"
    assert network.end_of(network.shell("sleep 1000", name="slow", walltime=0.5)).outcome == "exceeded"
    again = network.shell(UNLESS_REPEATED, name="retried")
    assert network.end_of(again).state == "failed"
    client.retry(again)
    network.success_of(again)
    ended = network.submit("/bin/sh", "-c", "exit {index}", name="some fail", array=3)
    network.end_of_array(ended)
    cancelled = network.submit("/bin/true", labels=("nowhere",), name="not wanted")
    client.cancel(cancelled, "never mind")
    forgotten = network.submit("/bin/true", name="forgotten")
    network.success_of(forgotten)
    client.forget(forgotten)
    network.success_of(client.submit_spec(JobSpec(argv=("/bin/echo", "hi")), "second").id)
    return {hashlib.sha256(path.read_bytes()).hexdigest(): "p" for path in (small, large)}


def _open_jobs(network: Network) -> dict[str, str]:
    """Running, waiting and blocked ones."""
    kept = network.shell(FROM_CHECKPOINT, name="with a checkpoint", checkpoint=("*.cpt",))
    plain = network.shell(FROM_NOTHING, name="without")
    network.until(lambda: network.job(kept).checkpoint, "a checkpoint is there")
    network.running(plain)
    waiting = network.shell("echo was waiting", name="waiting", labels=(LATER,), priority=-2)
    array = network.shell("echo element $CPC_INDEX", name="array", labels=(LATER,), array=4)
    after = network.shell("echo after", name="after", after=(plain, Dependency(waiting, on="end")))
    pairs = network.shell("echo pair {index}", name="pairs", array=4, after=(Dependency(array, pairwise=True),))
    said = {kept: "from 20000\n", plain: "again\n", waiting: "was waiting\n", after: "after\n"}
    for index in range(4):
        said[f"{array}[{index}]"] = f"element {index}\n"
        said[f"{pairs}[{index}]"] = f"pair {index}\n"
    return said


def _network(network: Network) -> dict[str, Any]:
    """A network with a step that is open, and a transaction that is."""
    project = network.client.network("p")
    project.define(NETWORK)
    project.edit(Activate())
    assert project.wait_for("early:out.y", 60.0).value == 6
    network.until(lambda: "hello" in project.log("says").data, "it has said so")
    network.until(lambda: project.item("late").jobs, "the job of the other one is there")
    network.running(project.item("late").jobs[0])
    project.begin()
    project.edit(SetValue("says:in.object", "good-bye"))
    return {"sum:out.c": 20.0, "late:out.y": 14}


def _upload(network: Network) -> dict[str, Any]:
    """One that has half of its bytes."""
    content = of_chunks([part(0), part(1)])
    announced = {
        "digest": content.digest.hex(), "size": content.size, "chunks": [each.hex() for each in content.chunks],
    }  # fmt: skip
    api = Api.of(network).login("cpc-admin", PASSWORD)
    begun = api.ask("POST", f"{PREFIX}/projects/p/uploads", announced).done()
    api.ask("PUT", f"{PREFIX}/uploads/{begun['id']}?offset=0", raw=part(0)).done()
    return {"id": begun["id"], "project": "p", "announced": announced}


def _repeated(network: Network) -> dict[str, Any]:
    """A submission of ann's that may be made again."""
    api = Api.of(network).login("ann", PASSWORD)
    call = {"spec": {"argv": ["/bin/echo", "once"], "labels": ["nowhere"], "name": "only once"}}
    answer = api.ask("POST", f"{PREFIX}/projects/p/jobs", call, Idempotency_Key="fixture-1").done()
    return {"path": f"{PREFIX}/projects/p/jobs", "body": call, "key": "fixture-1", "answer": answer}
