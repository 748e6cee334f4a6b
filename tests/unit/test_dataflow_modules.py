"""Modules in the original's XML load unchanged; what is wrong with one is said with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpc.core import edits
from cpc.core.errors import BadInput, Conflict, CopernicusError, NotFound
from cpc.core.journal import Journal
from cpc.dataflow import snapshot, xml
from cpc.dataflow.description import FieldText, FunctionKind, FunctionText, ModuleText
from cpc.dataflow.instance import State
from cpc.dataflow.library import Library
from cpc.dataflow.types import SCALARS, Kind, fit
from tests.helpers.toy_modules import Bench, library

MODULES = Path(__file__).parent / "fixtures" / "modules"
LAB = (MODULES / "lab" / "_import.xml").read_text()
STOCK = (MODULES / "stock.xml").read_text()
UPLOAD = (MODULES / "upload.xml").read_text()


def lab() -> Library:
    found = library(lab=LAB, stock=STOCK)
    found.need("lab", Journal())
    return found


def test_a_module_brings_what_it_imports_first() -> None:
    found = library(lab=LAB, stock=STOCK)
    assert [text.name for text in found.need("lab", Journal())] == ["stock", "float", "lab"]
    assert found.need("lab", Journal()) == []


def test_types_have_their_parents_members_and_descriptions() -> None:
    found = lab()
    numbers = found.type("lab::positive_numbers")
    assert (numbers.kind, numbers.member) == (Kind.ARRAY, SCALARS["float"])
    assert found.type("lab::numbers").desc == "Samples"
    structure = found.type("lab::structure")
    assert (structure.kind, structure.extension, structure.mime_type) == (Kind.FILE, "pdb", "chemical/x-pdb")
    better = found.type("lab::better-fit")
    assert list(better.positions) == ["slope", "note", "origin", "error"]
    assert [field.flags for field in better.fields] == [(), ("opt",), ("opt",), ("opt",)]
    assert better.fields[0].desc == "of the line"
    assert better.at(("origin", "y")) is SCALARS["float"]
    assert found.type("lab::fits").member is better
    assert found.type("lab::results").member is found.type("lab::fit_line:out")


def test_functions_have_their_trees_flags_and_code() -> None:
    line = lab().function("lab::fit-line")
    assert line.kind is FunctionKind.PYTHON_EXTENDED
    assert [list(each.positions) for each in line.types] == [
        ["ys", "degree", "resources"],
        ["result"],
        ["parts"],
        ["start"],
    ]
    assert [field.flags for field in line.types[0].fields] == [("complete",), ("opt", "const"), ("opt",)]
    controller = line.controller
    assert controller is not None
    assert (controller.module, controller.function) == ("mylab.fit", "run")
    flags = (controller.persistent_dir, controller.output_dir, controller.log, controller.access_outputs)
    assert flags == (True, True, True, True)
    assert controller.access_subnet_outputs
    plain = lab().function("lab::plain").controller
    assert plain is not None
    assert (plain.module, plain.function) == ("mylab.fit", "plain")
    outside = lab().function("lab::outside")
    assert outside.directory
    assert outside.controller is not None
    assert (outside.controller.executable, outside.controller.log) == ("outside.py", False)


def test_a_fixed_network_comes_with_its_instances_connections_and_values() -> None:
    bench = Bench("lab", lab=LAB, stock=STOCK)
    bench.add("t", "lab::twice")
    bench.set("t:in.ys", [0.5])
    bench.activate()
    assert bench.value("t:sum:out.c") == 3.0
    assert bench.snapshots["t:first"].inputs == {"ys": [0.5], "degree": 3}
    assert {each.path: each.state for each in bench.graph.root.within()} == {
        "t": State.ACTIVE, "t:first": State.ACTIVE, "t:sum": State.ACTIVE,
    }  # fmt: skip
    bench.answer("t:first", outputs={"result": {"slope": 0.1}})
    assert bench.value("t:out.second") == {"slope": 0.1}


def test_an_upload_merges_its_network_into_the_top_and_is_held() -> None:
    bench = Bench(lab=LAB, stock=STOCK)
    outcome = bench.apply(edits.Define(UPLOAD))
    assert outcome.lines == ["Read file"]
    assert [text.name for text in outcome.modules] == ["stock", "float", "lab", ""]
    assert bench.value("b:t:first:in.ys") == [1.5, 0.1]
    assert bench.instance("b:t").state is State.HELD
    assert bench.instance("b").function.name == "both"


def test_uploaded_definitions_are_kept_with_the_project() -> None:
    bench = Bench(lab=LAB, stock=STOCK)
    bench.apply(edits.Define(UPLOAD))
    found = snapshot.dump(bench.graph)
    again = Library()
    for text in found.modules:
        again.add(text, Journal())
    assert again.function("both").network is not None
    with pytest.raises(Conflict, match="has a definition of pair already"):
        bench.apply(edits.Define(UPLOAD))
    assert snapshot.dump(bench.graph) == found


def test_what_an_upload_that_fails_has_imported_is_forgotten() -> None:
    bench = Bench(lab=LAB, stock=STOCK)
    with pytest.raises(NotFound, match="function nosuch not found in module lab"):
        bench.apply(
            edits.Define('<cpc><import name="lab"/><network><instance id="x" function="lab::nosuch"/></network></cpc>')
        )
    assert bench.graph.library.modules == {}


def function(inner: str, kind: str = "python", controller: str = '<controller function="m.f"/>') -> str:
    return f'<cpc><function id="f" type="{kind}">{inner}{controller}</function></cpc>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<cpc>", r"\(line 1, column 6\): no element found"),
        ("<other/>", "the root element is <other>"),
        ('<cpc version="2"/>', "version '2' of the format cannot be read"),
        ("<!DOCTYPE cpc><cpc/>", "has a document type or entities"),
        ('<!DOCTYPE c [<!ENTITY e "x">]><cpc>&e;</cpc>', "has a document type or entities"),
        ("<cpc>\n  <function/></cpc>", r"\(line 2, column 3\): <function> needs the attribute type"),
        ('<cpc><function id="f" type="builtin"/></cpc>', "there is no function type 'builtin'"),
        (function("", controller='<controller function="m.f"><stdin/></controller>'), "<stdin> is not known in <controller>"),
        (function("", controller='<controller function="m.f" log="maybe"/>'), "log='maybe' is neither true nor false"),
        (function("", controller=""), "function f: a python function needs a controller"),
        (function("", "network", ""), "a network function needs a network"),
        (function("", "external"), "an external controller needs an executable"),
        (function("<inputs/><inputs/>"), "a second <inputs>"),
        (function('<inputs><field type="int"/></inputs>'), "<field> needs the attribute id"),
        (function('<inputs><field id="x" type="nosuch"/></inputs>'), "function f, in, field x: type nosuch not found"),
        (function('<inputs><field id="x" type="array"/></inputs>'), "field x: array does not say what it holds"),
        (function('<inputs><field id="x" type="value"/></inputs>'), "value alone does not say what it holds"),
        (function('<inputs><field id="x" type="other::t"/></inputs>'), "type t not found in module other"),
        (function('<inputs><field id="a-b" type="int"/><field id="a_b" type="int"/></inputs>'), "two fields have the name a_b"),
        ('<cpc><type id="t" base="array" member-type="t"/></cpc>', "the type t contains itself"),
        ('<cpc><type id="t" base="t"/></cpc>', "the type t contains itself"),
        ('<cpc><type id="t" base="int" member-type="int"/></cpc>', "only arrays and dicts have members"),
        ('<cpc><type id="t" base="int"/><type id="t" base="int"/></cpc>', "two definitions have the same name"),
        ('<cpc><active id="a"/></cpc>', "belongs to a saved project"),
        (function('<network><instance id="a" function="f"/></network>', "network", ""), "the network f is within itself"),
        (function('<network><instance id="in" function="f"/></network>', "network", ""), "instance in: 'in' cannot be"),
        ('<cpc><network><connection src="a" value="1" dest="b"/></network></cpc>', "has either src or value"),
        ('<cpc><network><assign dest="b" type="int"/></network></cpc>', "<assign> needs the attribute value"),
    ],
)  # fmt: skip
def test_a_bad_module_is_refused_with_its_place(text: str, message: str) -> None:
    found = Library(lambda name: xml.read(text, name))
    with pytest.raises(BadInput, match=message) as caught:
        found.need("bad", Journal())
    assert "\n" not in str(caught.value)
    assert found.modules == {}


def fixed(*connections: str) -> str:
    """A module with a network of two adders, within another network."""
    return f"""<cpc><import name="float"/>
    <type id="pair" base="record"><field id="x" type="float"/><field id="s" type="string"/></type>
    <function id="inner" type="network">
      <inputs><field id="p" type="pair"/><field id="x" type="float"/></inputs><outputs><field id="y" type="float"/></outputs>
      <network><instance id="a" function="float::add"/><instance id="b" function="float::add"/>{"".join(connections)}</network>
    </function>
    <function id="outer" type="network"><network><instance id="i" function="inner"/></network></function></cpc>"""


def connection(source: str, target: str) -> str:
    return f'<connection src="{source}" dest="{target}"/>'


WRONG = [
    ((connection("self:ext_in.p", "a:in.a"),), "module m, function inner: inner:in.p is m::pair; inner:a:in.a takes float"),
    ((connection("self:ext_in.p.s", "a:in.a"),), "inner:in.p.s is string; inner:a:in.a takes float"),
    ((connection("self:ext_in.nix", "a:in.a"),), "nix"),
    ((connection("c:out.c", "a:in.a"),), "function inner: c:out.c not found"),
    ((connection("a:in.a", "b:in.a"),), "a:in.a cannot be that end of a connection"),
    ((connection("a:out.c", "b:in.a"), connection("self:ext_in.x", "b:in.a")), "inner:b:in.a is connected to inner:a:out.c"),
    ((connection("a:out.c", "b:in.a"), connection("b:out.c", "a:in.a")), "would close a loop that never ends"),
    (('<assign type="string" value="one" dest="a:in.a"/>',), "inner:a:in.a takes"),
    (('<instance id="a" function="float::sub"/>',), "inner:a exists already"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_what_cannot_be_in_a_fixed_network_is_refused_when_its_module_is_imported(
    wrong: tuple[str, ...], message: str
) -> None:
    bench = Bench()
    bench.graph.library = library(m=fixed(*wrong))
    before = snapshot.dump(bench.graph)
    with pytest.raises(BadInput, match=message) as caught:
        bench.apply(edits.Import("m"))
    assert "\n" not in str(caught.value)
    assert bench.graph.library.modules == {}
    with pytest.raises(BadInput, match=message.replace("module m,", "the upload,").replace("m::pair", "pair")):
        bench.apply(edits.Define(fixed(*wrong)))
    assert bench.graph.library.modules == {}
    assert snapshot.dump(bench.graph) == before


def test_a_fixed_network_that_is_tried_leaves_no_trace() -> None:
    good = fixed(connection("self:ext_in.x", "a:in.a"), connection("a:out.c", "self:ext_out.y"))
    texts = {"m": good}
    bench = Bench()
    bench.graph.library = Library(lambda name: xml.read(texts[name], name))
    outcome = bench.apply(edits.Import("m"))
    assert [text.name for text in outcome.modules] == ["float", "m"]
    assert (outcome.added, outcome.links_added, outcome.values) == ([], [], {})
    assert list(bench.graph.instances) == [0]
    assert next(bench.ids) == 1, "no number of the project was used"
    bench.add("o", "m::outer")
    before = snapshot.dump(bench.graph)
    texts["m"] = fixed(connection("self:ext_in.p", "a:in.a"))
    with pytest.raises(BadInput, match=r"takes float"):
        bench.apply(edits.Import("m"))
    assert snapshot.dump(bench.graph) == before
    bench.add("again", "m::outer")


def test_a_network_of_very_many_instances_is_not_made_to_be_tried() -> None:
    levels = [
        f'<function id="f{level}" type="network"><network>'
        + "".join(
            f'<instance id="i{one}" function="{"float::add" if level == 9 else f"f{level + 1}"}"/>' for one in range(10)
        )
        + "</network></function>"
        for level in range(10)
    ]
    bench = Bench()
    bench.apply(edits.Define(f'<cpc><import name="float"/>{"".join(levels)}</cpc>'))
    assert list(bench.graph.instances) == [0]


def test_modules_that_import_each_other_are_refused() -> None:
    found = library(a='<cpc><import name="b"/></cpc>', b='<cpc><import name="a"/></cpc>')
    with pytest.raises(BadInput, match="a → b → a"):
        found.need("a", Journal())


def test_deep_and_long_texts_are_refused() -> None:
    for text in ("<cpc>" * 100, "<cpc>" * 5):
        with pytest.raises(CopernicusError):
            xml.read(text, "m")


def test_files_of_different_kinds_do_not_fit_and_derived_ones_do() -> None:
    text = """<cpc><type id="pdb" base="file" extension="pdb"/><type id="any_pdb" base="file" extension=".PDB"/>
    <type id="gro" base="file" extension="gro"/><type id="mine" base="pdb"/><type id="bare" base="file"/></cpc>"""
    found = library(m=text)
    found.need("m", Journal())
    pdb, same, gro, mine, bare = (found.type(f"m::{name}") for name in ("pdb", "any_pdb", "gro", "mine", "bare"))
    assert fit(pdb, gro) is None
    assert all(
        fit(*pair) for pair in ((pdb, mine), (mine, pdb), (pdb, SCALARS["file"]), (pdb, same), (bare, gro), (gro, gro))
    )


def test_records_fit_by_their_members() -> None:
    text = """<cpc><type id="a" base="record"><field id="x" type="int"/><field id="more" type="string"/></type>
    <type id="b" base="record"><field id="x" type="float"/><field id="y" type="float" opt="yes"/></type>
    <type id="c" base="record"><field id="x" type="float"/><field id="y" type="float"/></type></cpc>"""
    found = library(m=text)
    found.need("m", Journal())
    a, b, c = (found.type(f"m::{name}") for name in "abc")
    assert fit(a, b) is not None
    assert fit(a, c) is None
    assert fit(b, c) is not None
    assert fit(b, a) is None


def test_a_field_with_a_default_is_optional_and_seen_with_it() -> None:
    text = ModuleText(
        name="m",
        functions=(
            FunctionText(
                id="f",
                kind=FunctionKind.COMMAND,
                inputs=(FieldText("n", "int", default=7), FieldText("x", "float")),
                command=xml.CommandText(),
            ),
        ),
    )
    bench = Bench()
    bench.graph.library.add(text, bench.journal)
    bench.apply(edits.AddInstance("f", "m::f"), edits.Activate(), edits.SetValue("f:in.x", 1))
    assert bench.snapshots["f"].inputs == {"n": 7, "x": 1.0}
    assert bench.value("f:in.n") is None


def test_a_command_function_is_written_in_xml() -> None:
    text = """<cpc><function id="double" type="command"><inputs><field id="x" type="int"/><field id="conf" type="file"/></inputs>
    <outputs><field id="y" type="int"/><field id="log" type="file"/></outputs>
    <command executable="math/double" cores="2" walltime="60"><arg value="{x}"/><env name="A" value="b"/>
    <file path="c.gro" input="conf"/><output id="y" path="y.txt"/><output id="log" path="md.log"/></command></function></cpc>"""
    command = xml.read(text, "m").functions[0].command
    assert command is not None
    assert command.spec == {
        "executable": "math/double", "argv": ["{x}"], "walltime": 60.0, "need": {"cores": 2}, "env": {"A": "b"},
    }  # fmt: skip
    assert command.files == (("c.gro", "conf"),)
    assert command.outputs == (("y", "y.txt"), ("log", "md.log"))


VERSIONS = function('<inputs><field id="x" type="int"/></inputs>')


def test_a_module_that_is_imported_again_is_taken_as_it_is_now_by_its_instances_too() -> None:
    texts = {"m": VERSIONS}
    bench = Bench()
    bench.graph.library = Library(lambda name: xml.read(texts[name], name))
    bench.apply(edits.Import("m"), edits.AddInstance("f", "m::f"))
    assert bench.apply(edits.Import("m")).empty
    texts["m"] = VERSIONS.replace("m.f", "m.better")
    outcome = bench.apply(edits.Import("m"))
    assert [text.name for text in outcome.modules] == ["m"]
    controller = bench.instance("f").function.controller
    assert controller is not None
    assert controller.function == "better"


def test_a_new_version_that_takes_something_else_is_refused_while_there_are_instances() -> None:
    texts = {"m": VERSIONS}
    bench = Bench()
    bench.graph.library = Library(lambda name: xml.read(texts[name], name))
    bench.apply(edits.Import("m"), edits.AddInstance("f", "m::f"))
    texts["m"] = VERSIONS.replace('type="int"', 'type="float"')
    with pytest.raises(Conflict, match="m::f takes or gives something else in the new version, and f is one"):
        bench.apply(edits.Import("m"))
    assert bench.graph.library.function("m::f").types[0].at(("x",)) is SCALARS["int"]
    bench.apply(edits.RemoveInstance("f"), edits.Import("m"))
    assert bench.graph.library.function("m::f").types[0].at(("x",)) is SCALARS["float"]
