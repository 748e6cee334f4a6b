"""The SDK's `Network`: every call as the contract has it, values as Python has them, lists whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cpc.client.network import Network, instance_of
from cpc.client.values import files
from cpc.core import plain
from cpc.core.digest import Content
from cpc.core.edits import Activate, AddInstance, Connect, SetValue
from cpc.core.errors import BadInput, Damaged
from cpc.core.network_views import Changed, LinkView, NetworkView, RecordView, TransactionView
from cpc.core.plain import FileRef
from cpc.core.views import Page, UploadView
from tests.helpers import sample_views as sample
from tests.helpers.fake_api import Call, FakeApi, Raw, fake_api

HERE = "/projects/villin"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeApi]:
    with fake_api(tmp_path) as running:
        running.on("POST", f"{HERE}/edits", Changed(lines=("Done.",)))
        yield running


@pytest.fixture
def network(api: FakeApi) -> Iterator[Network]:
    with api.client() as client:
        yield client.network()


def test_edits_go_together_in_their_order(api: FakeApi, network: Network) -> None:
    assert network.edit(AddInstance("a", "float::add"), Connect("a:out.c", "b:in.a"), Activate()).lines == ("Done.",)
    (call,) = api.asked("POST", f"{HERE}/edits")
    assert [edit["edit"] for edit in call.json["edits"]] == ["instance", "connect", "activate"]


VALUES = [
    None,
    True,
    3,
    0.1 + 0.2,
    math.inf,
    -math.inf,
    "é\n",
    [1, None, [2.5]],
    {"a": {"b": [True]}},
    FileRef("x", Content(b"d" * 32, 5, (b"d" * 32,))),
]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_arrives_as_it_was_sent(api: FakeApi, network: Network, value: plain.Plain) -> None:
    network.set("a:in.x", value)
    (edit,) = msgspec.json.decode(api.asked("POST", f"{HERE}/edits")[0].body)["edits"]
    assert plain.read(edit["value"]) == value
    api.on("GET", f"{HERE}/value", sample.value("a:in.x", plain.wire(value)))
    assert network.get("a:in.x") == value


def test_a_file_is_there_before_it_is_named(api: FakeApi, network: Network, tmp_path: Path) -> None:
    api.on("POST", f"{HERE}/uploads", UploadView(id="u", size=1, received=1, done=True, digest=""))
    (tmp_path / "conf.gro").write_text("water")
    network.set_file("a:in.conf", tmp_path / "conf.gro")
    assert [call.path for call in api.calls] == [f"{HERE}/uploads", f"{HERE}/edits"]
    (edit,) = api.calls[-1].json["edits"]
    ref = plain.read(edit["value"])
    assert isinstance(ref, FileRef)
    assert (ref.name, ref.content.size) == ("conf.gro", 5)


def test_nothing_is_set_when_one_of_the_files_cannot_be_read(api: FakeApi, network: Network, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(BadInput, match="nosuch"):
        network.set_file("x:in.files[+]", tmp_path / "a", tmp_path / "nosuch")
    assert api.asked("POST", f"{HERE}/edits") == []


def test_transactions_are_begun_looked_at_and_ended(api: FakeApi, network: Network) -> None:
    api.on("POST", f"{HERE}/transaction", TransactionView(level=1))
    api.on("GET", f"{HERE}/transaction", TransactionView(level=1, edits=("Set a to 1",)))
    api.on("POST", f"{HERE}/transaction/commit", Changed(lines=("Set a to 1",)))
    api.on("DELETE", f"{HERE}/transaction", TransactionView(level=1))
    assert network.begin().level == 1
    assert network.transaction().edits == ("Set a to 1",)
    assert network.commit().lines == ("Set a to 1",)
    assert network.rollback().level == 1


def test_a_network_is_put_together_from_its_pages(api: FakeApi, network: Network) -> None:
    """A connection between instances of two pages is given with each: it is one."""
    link = LinkView(source="a:out.c", target="b:in.a")
    first = NetworkView(path="", instances=(sample.instance("a"),), links=(link,), next="a", count=2)
    second = NetworkView(path="", instances=(sample.instance("b"),), links=(link,), count=2)
    api.on("GET", f"{HERE}/network", lambda call: second if call.query.get("after") == "a" else first)
    found = network.drawing()
    assert [one.name for one in found.instances] == ["a", "b"]
    assert found.links == (link,)


def test_the_record_is_read_in_parts(api: FakeApi, network: Network) -> None:
    def page(call: Call) -> Page:
        after = int(call.query["after"])
        return Page(
            items=(RecordView(number=after + 1, time=0, actor="", kind="edit"),),
            next=str(after + 1) if after < 3 else "",
        )

    api.on("GET", f"{HERE}/record", page)
    assert [one.number for one in network.record()] == [1, 2, 3, 4]
    assert [one.number for one in network.record(limit=2)] == [1, 2]


def test_modules_are_asked_for_without_a_page(api: FakeApi) -> None:
    api.on("GET", "/modules", [sample.module()])
    with api.client() as client:
        assert [one.name for one in client.modules()] == ["float"]
    assert api.asked("GET", "/modules")[0].query == {}


def test_an_archive_that_is_none_is_not_kept(api: FakeApi, network: Network, tmp_path: Path) -> None:
    api.on("GET", f"{HERE}/archive", Raw(b"dear"))
    with pytest.raises(Damaged):
        network.save(tmp_path / "v.tar.gz")
    assert not list(tmp_path.glob("*tar*"))


@pytest.mark.parametrize(
    ("path", "instance"),
    [
        ("a:out.x", "a"), ("a.b:c.in.x[3]", "a:b:c"), ("a.msg.error", "a"), ("a:sub_in.x", "a"), ("a", "a"), ("", ""),
        ("run:sub-out.n", "run"),
    ],
)  # fmt: skip
def test_the_instance_of_an_item_is_found(path: str, instance: str) -> None:
    assert instance_of(path) == instance


def test_the_files_of_a_value_are_found_with_their_items() -> None:
    ref = FileRef("f", Content(b"d" * 32, 1, (b"d" * 32,)))
    value: plain.Plain = {"confs": [ref, None, ref], "n": 3.0, "log": ref}
    assert [(path, way) for path, way, _ in files("a:out", value)] == [
        ("a:out.confs[0]", ("confs", "0")), ("a:out.confs[2]", ("confs", "2")), ("a:out.log", ("log",)),
    ]  # fmt: skip


def test_an_edit_is_one_text_for_all_sides() -> None:
    """What the SDK sends is what the record keeps."""
    edit = SetValue("a:in.x", [1.5])
    assert msgspec.json.decode(msgspec.json.encode(edit), type=SetValue) == edit
