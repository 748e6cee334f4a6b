"""What must be so after an upgrade: nothing lost, everything goes on. The same for every fixture and every next release."""

from __future__ import annotations

from cpc.core.edits import SetValue
from tests.helpers.network_of_processes import PASSWORD, Network
from tests.upgrade import inventory
from tests.upgrade.api import PREFIX, Api
from tests.upgrade.fixture import About
from tests.upgrade.scenario import LATER, part


def all_is_there(network: Network, about: About) -> None:
    """Before anybody works: everything that was shown is shown again."""
    seen = inventory.take(Api.of(network).login("cpc-admin", PASSWORD))
    lost = inventory.differences(about.inventory, seen)
    assert not lost, "\n".join(lost)


def all_goes_on(network: Network, about: About) -> None:
    """Open jobs run to their end, tokens, keys, files and uploads are worth what they were."""
    left = about.left
    admin = Api.of(network).login("cpc-admin", PASSWORD)
    assert admin.bearing(left.token).get("/whoami")["name"] == "cpc-admin"
    for digest, project in left.files.items():
        assert len(admin.get(f"/projects/{project}/files/{digest}"))
    _repeated(network, about)
    _upload(admin, about)
    network.run(
        "cpc-server", "bundle", "--name", "after", "--role", "worker", "-o", str(network.directory / "after.cnx")
    ).done()
    network.client.set_setting("heartbeat_time", "2")  # whoever held the leases is gone
    network.worker("--labels", LATER, cores=4, bundle=network.directory / "after.cnx")
    _network(network, about)
    for job, said in left.jobs.items():
        network.success_of(job, 60.0)
        assert network.output(job) == said.encode(), job


def _network(network: Network, about: About) -> None:
    """What is set leads to what it must, also through a job that was lost with its worker."""
    project = network.client.network("p")
    for item, value in about.left.values.items():
        assert project.wait_for(item, 60.0).value == value
    if about.left.values:
        assert project.transaction().level == 0, "it belongs to the login that has begun it"
        project.edit(SetValue("early:in.x", 4))
        network.until(lambda: project.get("sum:out.c") == 22.0, "it goes on")


def _repeated(network: Network, about: About) -> None:
    """A call that is made again, with its key, gets its answer and does nothing."""
    call = about.left.repeated
    ann = Api.of(network).login("ann", PASSWORD)
    before = len(ann.items("/jobs"))
    assert ann.ask("POST", call["path"], call["body"], Idempotency_Key=call["key"]).done() == call["answer"]
    assert len(ann.items("/jobs")) == before


def _upload(admin: Api, about: About) -> None:
    """An upload goes on where it was."""
    upload = about.left.upload
    state = admin.get(f"/uploads/{upload['id']}")
    assert state["received"] == len(part(0))
    done = admin.ask("PUT", f"{PREFIX}/uploads/{upload['id']}?offset={state['received']}", raw=part(1)).done()
    assert done["done"]
    whole = admin.get(f"/projects/{upload['project']}/files/{upload['announced']['digest']}")
    assert whole == part(0) + part(1)
