"""Networks as people change and see them: whole or not at all, kept, looked at, in transactions. On both databases."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cpc.core import ids, plain
from cpc.core.clock import DAY
from cpc.core.edits import (
    Activate,
    AddInstance,
    Connect,
    Define,
    Edit,
    Import,
    RemoveInstance,
    SetLiteral,
    SetValue,
    Unset,
)
from cpc.core.errors import BadInput, Conflict, CopernicusError, Denied, NotFound
from cpc.core.plain import FileRef
from cpc.dataflow.answer import Answer, StepInput
from cpc.dataflow.description import ControllerText, FunctionKind
from cpc.server.principal import SERVER, Call, Principal
from cpc.server.retention import Keep, Retention
from cpc.store import drafts, members, networks, projects, schema, tokens, users
from tests.helpers.network_bench import NetworkBench, controlled

SUM: tuple[Edit, ...] = (
    Import("float"),
    AddInstance("a", "float::add"),
    AddInstance("b", "float::add"),
    Connect("a:out.c", "b:in.a"),
    Activate(),
)


@pytest.fixture
def bench(database_url: str, tmp_path: Path) -> Iterator[NetworkBench]:
    made = NetworkBench(tmp_path, url=database_url)
    yield made
    made.close()


def test_arithmetic_is_done_in_the_call_that_sets_its_inputs(bench: NetworkBench) -> None:
    bench.edit(*SUM)
    bench.edit(SetLiteral("a:in.a", "3"), SetLiteral("a:in.b", "4.5"), SetLiteral("b:in.b", "0.25"))
    assert (bench.get("a:out.c"), bench.get("b:out.c")) == (7.5, 7.75)
    bench.check()


def test_a_network_survives_a_restart(bench: NetworkBench) -> None:
    bench.edit(*SUM)
    bench.edit(SetLiteral("a:in.a", "1e-300"), SetLiteral("a:in.b", "0.1"))
    bench.restart()
    bench.check()
    assert bench.get("b:in.a") == 0.1
    bench.edit(SetLiteral("b:in.b", "1"))
    assert bench.get("b:out.c") == 1.1
    bench.check()


@pytest.mark.parametrize(
    ("guilty", "words"),
    [
        (AddInstance("a", "float::nix"), "function nix not found"),
        (AddInstance("in", "float::add"), "cannot be an instance's name"),
        (SetValue("a:in.a", "text"), "a:in.a takes"),
        (SetValue("a:in.nix", 1.0), "nix"),
        (SetValue("nix:in.a", 1.0), "no instance 'nix'"),
        (Connect("b:out.c", "a:in.a"), "loop"),
        (Import("nix"), "module nix not found"),
        (RemoveInstance("nix"), "nix"),
        (Define("<cpc"), "line 1"),
    ],
)
def test_a_failing_edit_leaves_nothing_behind_and_is_named(bench: NetworkBench, guilty: Edit, words: str) -> None:
    bench.edit(*SUM)
    before = bench.count(schema.instances), bench.count(schema.leaves), bench.count(schema.changes)
    with pytest.raises(CopernicusError, match=words):
        bench.edit(SetValue("a:in.a", 1.0), AddInstance("new", "float::sub"), guilty)
    assert (bench.count(schema.instances), bench.count(schema.leaves), bench.count(schema.changes)) == before
    assert bench.get("a:in.a") is None
    bench.check()
    bench.edit(AddInstance("new", "float::sub"))
    bench.check()


def test_setting_an_equal_value_changes_nothing(bench: NetworkBench) -> None:
    bench.edit(*SUM, SetValue("a:in.a", 2.0))
    before = bench.count(schema.changes), bench.count(schema.events, kind="network.edited")
    assert bench.edit(SetValue("a:in.a", 2.0)).lines == ("Set a:in.a to 2.0",)
    assert (bench.count(schema.changes), bench.count(schema.events, kind="network.edited")) == before


def test_what_is_removed_is_gone_with_its_values_and_connections(bench: NetworkBench) -> None:
    bench.edit(*SUM, SetValue("a:in.a", 2.0), SetValue("a:in.b", 2.0))
    bench.edit(RemoveInstance("a"))
    assert bench.get("b:in.a") is None
    assert (bench.count(schema.instances), bench.count(schema.links), bench.count(schema.leaves)) == (1, 0, 0)
    bench.check()


def test_a_project_keeps_the_module_that_it_imported(bench: NetworkBench) -> None:
    bench.define(controlled("f", {"x": "int"}, {"y": "int"}))
    bench.edit(Import("lab"), AddInstance("f", "lab::f"))
    bench.modules.texts.clear()
    bench.restart()
    bench.edit(AddInstance("g", "lab::f"))
    assert [one.name for one in bench.item().instances] == ["f", "g"]
    assert bench.wait(bench.networks.info(SERVER, "p", "lab::f")).functions[0].inputs[0].type == "int"
    for name, hint in (("nosuch", "cpcc import nosuch"), ("nosuch::f", "cpcc import nosuch"), ("lab::g", "it has f")):
        with pytest.raises(NotFound, match=hint):
            bench.wait(bench.networks.info(SERVER, "p", name))


def test_an_uploaded_network_is_merged_into_the_top(bench: NetworkBench) -> None:
    text = """<cpc><import name="float"/><network>
        <instance id="s" function="float::add"/>
        <assign type="float" value="40" dest="s:in.a"/><assign type="float" value="1" dest="s:in.b"/>
    </network></cpc>"""
    bench.edit(Define(text))
    bench.edit(Activate())
    assert bench.get("s:out.c") == 41.0
    bench.check()


# --- code ----------------------------------------------------------------------------------------------------------------

MISSING = [("there_is_no_such_module", "f", "there is no Python module there_is_no_such_module"),
           ("json", "no_such_function", "Python module json has no no_such_function"),
           ("json", "__name__", "__name__ in Python module json is no function")]  # fmt: skip


def nothing_new(bench: NetworkBench) -> bool:
    tables = (schema.instances, schema.leaves, schema.changes, schema.definitions, schema.steps)
    return not any(map(bench.count, tables)) and bench.graph.library.modules == {}


@pytest.mark.parametrize(("module", "function", "words"), MISSING)
@pytest.mark.parametrize("kind", [FunctionKind.PYTHON, FunctionKind.PYTHON_EXTENDED])
def test_a_module_whose_code_is_not_there_is_not_imported(
    bench: NetworkBench, kind: FunctionKind, module: str, function: str, words: str
) -> None:
    controller = ControllerText(module=module, function=function)
    bench.define(
        controlled("good", {"x": "int"}, {}), controlled("bad", {"x": "int"}, {}, kind=kind, controller=controller)
    )
    bench.modules.texts["lab"] = msgspec.structs.replace(bench.modules.texts["lab"], source="/lib/lab.xml")
    with pytest.raises(BadInput, match=rf"^/lib/lab\.xml, function bad: {words}") as refusal:
        bench.edit(Import("float"), Import("lab"))
    assert "\n" not in str(refusal.value)
    assert nothing_new(bench)
    bench.check()


def test_code_that_fails_without_inputs_is_told_in_one_line(bench: NetworkBench) -> None:
    controller = ControllerText(module="tests.unit.test_networks", function="failing")
    bench.define(controlled("bad", {"x": "int"}, {}, kind=FunctionKind.PYTHON_EXTENDED, controller=controller))
    with pytest.raises(BadInput, match=r"^the upload, function bad: ZeroDivisionError: division by zero") as refusal:
        bench.edit(Import("lab"))
    assert "\n" not in str(refusal.value)
    assert nothing_new(bench)


def failing(inp: object) -> None:
    raise ZeroDivisionError("division by zero")


UPLOAD = """<cpc><function id="f" type="python"><inputs><field id="x" type="int"/></inputs>
    <controller import="{0}" function="{0}.{1}"/></function>
    <network><instance id="f" function="f"/></network></cpc>"""


@pytest.mark.parametrize(("module", "function", "words"), MISSING)
def test_an_upload_whose_code_is_not_there_leaves_nothing_behind(
    bench: NetworkBench, module: str, function: str, words: str
) -> None:
    with pytest.raises(BadInput, match=f"^the upload, function f: {words}"):
        bench.edit(Define(UPLOAD.format(module, function)))
    assert nothing_new(bench)
    bench.wait(bench.networks.begin(Call(SERVER), "p"))
    with pytest.raises(BadInput, match=words):
        bench.edit(Define(UPLOAD.format(module, function)))
    assert nothing_new(bench)
    assert bench.wait(bench.networks.transaction(SERVER, "p")).edits == ()
    bench.wait(bench.networks.rollback(Call(SERVER), "p"))
    bench.edit(Define(UPLOAD.format("json", "dumps")))
    assert [one.name for one in bench.item().instances] == ["f"]
    bench.check()


def test_code_of_those_who_may_not_bring_it_is_not_even_tried(
    bench: NetworkBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []
    monkeypatch.setattr("cpc.controller.run.check", tried.append)
    ann = bench.do(lambda tx: users.add(tx, "ann", "", False))
    who = Principal(ann.id, "ann", False)
    with pytest.raises(NotFound, match="no project"):
        bench.edit(Define(UPLOAD.format("json", "dumps")), who=who)
    bench.do(lambda tx: members.grant(tx, bench.project, ann.id, "member"))
    with pytest.raises(Denied, match="names code"):
        bench.edit(Define(UPLOAD.format("json", "dumps")), who=who)
    assert tried == []
    assert nothing_new(bench)
    bench.edit(Define('<cpc><type id="t" base="int"/></cpc>'), who=who)


# --- files ---------------------------------------------------------------------------------------------------------------


def files(bench: NetworkBench) -> None:
    bench.define(controlled("f", {"x": "file?", "n": "int"}, {}))
    bench.edit(Import("lab"), AddInstance("f", "lab::f"))


def test_a_file_is_kept_while_it_is_a_value_and_no_longer(bench: NetworkBench) -> None:
    files(bench)
    first, second = bench.file(b"first"), bench.file(b"second")
    bench.edit(SetValue("f:in.x", plain.wire(first)))
    assert bench.count(schema.references, kind=6) == 1
    bench.edit(SetValue("f:in.x", plain.wire(second)))
    assert bench.wait(bench.networks.file(SERVER, "p", "f:in.x")) == second
    assert bench.count(schema.references, kind=6) == 1
    bench.check()
    bench.edit(Unset("f:in.x"))
    assert bench.count(schema.references, kind=6) == 0
    bench.edit(SetValue("f:in.x", plain.wire(second)), RemoveInstance("f"))
    assert bench.count(schema.references, kind=6) == 0
    bench.check()


def test_a_file_of_somebody_else_cannot_be_a_value(bench: NetworkBench) -> None:
    files(bench)
    content = bench.file(b"mine").content
    stranger = FileRef("x", type(content)(b"\1" * 32, 4, (b"\1" * 32,)))
    with pytest.raises(NotFound, match="is not in this project"):
        bench.edit(SetValue("f:in.n", 1), SetValue("f:in.x", plain.wire(stranger)))
    assert bench.get("f:in.n") is None
    bench.check()


# --- transactions --------------------------------------------------------------------------------------------------------


def test_a_transaction_is_carried_out_at_once_by_its_commit(bench: NetworkBench) -> None:
    call = Call(SERVER)
    assert bench.wait(bench.networks.begin(call, "p")).level == 1
    recorded = bench.edit(*SUM)
    assert (recorded.level, bench.item().count) == (1, 0)
    bench.restart()
    bench.edit(SetValue("a:in.a", 1.0), SetValue("a:in.b", 1.0))
    shown = bench.wait(bench.networks.transaction(SERVER, "p"))
    assert (shown.level, len(shown.edits), shown.problem) == (1, 7, "")
    assert "instance a (float::add) is added" in shown.changes
    assert bench.item().count == 0
    done = bench.wait(bench.networks.commit(call, "p"))
    assert done.lines[0] == "Imported module float"
    assert bench.get("b:in.a") == 2.0
    assert bench.wait(bench.networks.transaction(SERVER, "p")).level == 0
    bench.check()


def test_a_commit_that_fails_changes_nothing_and_leaves_the_transaction_open(bench: NetworkBench) -> None:
    call = Call(SERVER)
    bench.wait(bench.networks.begin(call, "p"))
    bench.edit(Import("float"), AddInstance("a", "float::add"))
    bench.edit(SetValue("a:in.a", "no number"))
    assert "a:in.a takes" in bench.wait(bench.networks.transaction(SERVER, "p")).problem
    with pytest.raises(BadInput, match=r"a:in\.a takes"):
        bench.wait(bench.networks.commit(call, "p"))
    assert bench.item().count == 0
    assert len(bench.wait(bench.networks.rollback(call, "p")).edits) == 3
    with pytest.raises(Conflict, match="no transaction"):
        bench.wait(bench.networks.commit(call, "p"))
    with pytest.raises(Conflict, match="no transaction"):
        bench.wait(bench.networks.rollback(call, "p"))
    bench.check()


def test_levels_are_committed_from_the_inside(bench: NetworkBench) -> None:
    call = Call(SERVER)
    bench.wait(bench.networks.begin(call, "p"))
    bench.edit(Import("float"))
    bench.wait(bench.networks.begin(call, "p"))
    assert bench.edit(Import("int")).level == 2
    bench.wait(bench.networks.commit(call, "p"))
    assert set(bench.graph.library.modules) == {"int"}
    bench.wait(bench.networks.commit(call, "p"))
    assert set(bench.graph.library.modules) == {"int", "float"}


def test_a_file_in_an_open_transaction_stays(bench: NetworkBench) -> None:
    files(bench)
    bench.wait(bench.networks.begin(Call(SERVER), "p"))
    bench.edit(SetValue("f:in.x", plain.wire(bench.file(b"data"))))
    assert bench.count(schema.references, kind=8) == 1
    bench.wait(bench.networks.commit(Call(SERVER), "p"))
    assert (bench.count(schema.references, kind=8), bench.count(schema.references, kind=6)) == (0, 1)
    bench.check()


def test_a_transaction_goes_with_its_session_and_gives_its_files_back(bench: NetworkBench) -> None:
    files(bench)
    ann = bench.do(lambda tx: users.add(tx, "ann", "", False))
    token = bench.do(lambda tx: tokens.add(tx, ann.id, b"1" * 32, tokens.SESSION, "", "all", tx.now + DAY))
    bench.do(lambda tx: members.grant(tx, bench.project, ann.id, "member"))
    who = Principal(ann.id, "ann", False, token.id)
    bench.wait(bench.networks.begin(Call(who), "p"))
    bench.edit(SetValue("f:in.x", plain.wire(bench.file(b"data"))), who=who)
    other = bench.wait(bench.networks.transaction(SERVER, "p"))
    assert other.level == 0, "nobody else's edits are recorded there"
    assert bench.do(lambda tx: drafts.drop_orphans(tx, 10)) == 0
    bench.do(lambda tx: tokens.delete(tx, token.id))
    assert bench.do(lambda tx: drafts.drop_orphans(tx, 10)) == 2
    assert (bench.count(schema.drafts), bench.count(schema.references, kind=8)) == (0, 0)
    bench.check()


# --- looking -------------------------------------------------------------------------------------------------------------


def test_what_is_shown_of_a_project_and_its_instances(bench: NetworkBench) -> None:
    bench.edit(*SUM, SetValue("a:in.a", 2.0))
    top = bench.item()
    assert (top.kind, top.count, top.states, top.state) == ("project", 2, {"active": 2}, "active")
    b = bench.item("b")
    assert (b.kind, b.function, b.own) == ("instance", "float::add", "active")
    assert [(one.name, one.source, one.set) for one in b.inputs] == [("a", "a:out.c", False), ("b", "", False)]
    assert bench.item("a:in.a").type == "float"
    page = bench.wait(bench.networks.item(SERVER, "p", "", "", 1))
    assert ([one.name for one in page.instances], page.next) == (["a"], "a")
    page = bench.wait(bench.networks.item(SERVER, "p", "", "a", 1))
    assert ([one.name for one in page.instances], page.next) == (["b"], "")
    drawn = bench.wait(bench.networks.network(SERVER, "p", "", "", 10))
    assert [(link.source, link.target) for link in drawn.links] == [("a:out.c", "b:in.a")]
    with pytest.raises(NotFound, match="nix"):
        bench.item("nix")


def test_a_value_is_explained_by_who_set_it_through_its_connections(bench: NetworkBench) -> None:
    bench.edit(*SUM, SetValue("a:in.a", 2.0), SetValue("a:in.b", 2.0))
    found = bench.wait(bench.networks.explain(SERVER, "p", "a:in.a"))
    assert (found.set_by, found.via) == ("server", ())
    computed = bench.wait(bench.networks.explain(SERVER, "p", "b:in.a"))
    assert computed.via == ("a:out.c",)
    assert computed.step is not None
    assert (computed.step.instance, computed.step.function) == ("a", "float::add")


def test_the_record_played_into_an_empty_project_gives_the_same_network(bench: NetworkBench) -> None:
    bench.edit(*SUM, SetValue("a:in.a", 2.0))
    bench.edit(SetValue("a:in.b", 0.1))
    bench.edit(RemoveInstance("b"))
    rows = bench.wait(bench.networks.record(SERVER, "p", 0, 100)).items
    assert [row.kind for row in rows] == ["edited"] * 3
    bench.do(lambda tx: projects.add(tx, "q", 1, 0, 1.0))
    for row in rows:
        bench.edit(*msgspec.convert(row.details["edits"], list[Edit]), project="q")
    assert bench.get("a:out.c", project="q") == bench.get("a:out.c") == 2.1


def test_a_deleted_project_leaves_no_directories(bench: NetworkBench) -> None:
    files(bench)
    bench.edit(SetValue("f:in.x", plain.wire(bench.file(b"data"))), SetValue("f:in.n", 1))
    bench.wait(bench.workspace.prepare(bench.project, 5, 1, 1, output=True, persistent=True, former=""))
    (directory,) = bench.workspace.root.iterdir()
    retention = Retention(bench.store, bench.chunks, Keep, bench.gate.expire_answers, bench.clock, bench.reactor)
    retention.directories = bench.workspace
    bench.wait(retention.short_round())
    assert directory.exists()
    bench.wait(bench.projects.delete(Call(SERVER), "p"))
    bench.wait(retention.short_round())
    assert not directory.exists()


def test_a_deleted_project_leaves_nothing(bench: NetworkBench) -> None:
    files(bench)
    bench.edit(SetValue("f:in.x", plain.wire(bench.file(b"data"))), SetValue("f:in.n", 1))
    bench.wait(bench.networks.begin(Call(SERVER), "p"))
    bench.edit(Unset("f:in.n"))
    bench.wait(bench.projects.delete(Call(SERVER), "p"))
    assert bench.do(lambda tx: networks.of_deleted_projects(tx, 10)) == [bench.project]
    while not bench.do(lambda tx: networks.purge(tx, bench.project, 1)):
        pass
    tables = (
        schema.networks, schema.definitions, schema.instances, schema.leaves, schema.links, schema.steps,
        schema.step_jobs, schema.changes, schema.drafts, schema.instance_logs,
    )  # fmt: skip
    assert [table.name for table in tables if bench.count(table)] == []
    assert bench.do(lambda tx: networks.of_deleted_projects(tx, 10)) == []


def test_a_saved_project_has_the_links_that_stay_within_and_says_what_it_has_not(bench: NetworkBench) -> None:
    def keeps(step: StepInput) -> Answer:
        directory = Path(step.persistent_dir)
        (directory / "deep").mkdir(exist_ok=True)
        (directory / "deep/part").write_bytes(b"one")
        for name, target in (("last", "deep/part"), ("out", "/etc"), ("deep/up", "../last")):
            (directory / name).symlink_to(target)
        return Answer(outputs=(("y", 1),))

    controller = ControllerText(module="lab", function="f", persistent_dir=True)
    bench.define(controlled("f", {"x": "int"}, {"y": "int"}, controller=controller), f=keeps)
    bench.edit(Import("lab"), AddInstance("f", "lab::f"), SetValue("f:in.x", 1), Activate())
    said = bench.wait(bench.networks.log(SERVER, "p", "f", 0, 1000)).data
    assert said == (
        "backups and saved projects do not have all of its directory: "
        "out is no file, nor a link that stays within its directory\n"
    )

    async def save() -> bytes:
        return b"".join([piece async for piece in await bench.networks.archive(SERVER, "p")])

    data = bench.wait(save())
    bench.project = bench.do(lambda tx: projects.add(tx, "q", 1, 0, 1.0)).id
    ref = bench.file(data, "p.tar.gz")
    loaded = bench.wait(bench.networks.load(Call(SERVER), "q", plain.wire(ref)))
    assert loaded.lines[0] == "Loaded project p: 1 instances"
    assert "/out is no file, nor a link that stays within its directory" in loaded.lines[1]
    (kept,) = (bench.workspace.root / ids.show(bench.project)).glob("*/persistent-*")
    assert (kept / "deep/up").read_bytes() == b"one"
    assert (os.readlink(kept / "last"), (kept / "out").is_symlink()) == ("deep/part", False)
