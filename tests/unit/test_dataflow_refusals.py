"""What cannot be done is refused in one line, and leaves nothing behind."""

from __future__ import annotations

import pytest

from cpc.core import edits
from cpc.core.errors import BadInput, Conflict, CopernicusError, NotFound
from cpc.dataflow import snapshot
from tests.helpers.toy_modules import TOY, Bench, toy_bench


def test_a_failing_edit_undoes_all_of_its_transaction_and_is_named() -> None:
    bench = toy_bench()
    before = snapshot.dump(bench.graph)
    with pytest.raises(
        NotFound, match=r"Set w:in\.nosuch to 3 \(3 of 4\): w:in \(toy::work:in\) has no member 'nosuch'"
    ):
        bench.apply(
            edits.AddInstance("v", "toy::work"),
            edits.SetValue("w:in.n", 3),
            edits.SetLiteral("w:in.nosuch", "3"),
            edits.SetValue("w:in.n", 4),
        )
    assert snapshot.dump(bench.graph) == before


@pytest.mark.parametrize(
    ("edit", "kind", "message"),
    [
        (edits.SetLiteral("w:in.n", "abc"), BadInput, "w:in.n takes an int; 'abc' is none"),
        (edits.SetValue("w:in.n", 1.5), BadInput, "w:in.n takes an int; 1.5 is none"),
        (edits.SetValue("w:in.n", True), BadInput, "w:in.n takes an int; True is none"),
        (edits.SetValue("w:in.n", 1 << 63), BadInput, "does not fit into 64 bits"),
        (edits.SetValue("w:in.xs", [1.0, "x"]), BadInput, r"w:in.xs\[1\] takes a float; 'x' is none"),
        (edits.SetValue("w:in.ps[0].nosuch", 1), NotFound, "has no member 'nosuch'"),
        (edits.SetValue("w:in.n[0]", 1), NotFound, r"has no member \[0\]"),
        (edits.SetValue("w:in.n[+]", 1), BadInput, "w:in.n is int, not an array"),
        (edits.SetValue("nosuch:in.x", 1), NotFound, "the project has no instance 'nosuch'"),
        (edits.SetValue("w:out.n", 1), BadInput, "cannot be set: its function gives it"),
        (edits.SetValue("w", 1), BadInput, "w is not a value"),
        (edits.AddInstance("w", "toy::work"), Conflict, "w exists already"),
        (edits.AddInstance("in", "toy::work"), BadInput, "paths use the word"),
        (edits.AddInstance("1x", "toy::work"), BadInput, "cannot be an instance's name"),
        (edits.AddInstance("v", "toy::nosuch"), NotFound, "function nosuch not found in module toy"),
        (edits.AddInstance("v", "nosuch::f"), NotFound, "module nosuch is not imported"),
        (edits.AddInstance("nosuch:v", "toy::work"), NotFound, "has no instance 'nosuch'"),
        (edits.Import("nosuch"), NotFound, "module nosuch not found"),
        (edits.Connect("w:out.q", "w:in.n"), BadInput, "w:out.q is toy::triple; w:in.n takes int"),
        (edits.Connect("w:in.n", "w:in.n"), BadInput, "begins at an output"),
        (edits.Connect("w:out.n", "w:out.n"), BadInput, "ends at an input"),
        (edits.Connect("w:out.nosuch", "w:in.n"), NotFound, "w:out .* has no member 'nosuch'"),
        (edits.Connect("nosuch:out.n", "w:in.n"), NotFound, "has no instance 'nosuch'"),
        (edits.Disconnect("w:in.n"), NotFound, "w:in.n is not connected to anything"),
        (edits.Activate("nosuch"), NotFound, "nosuch not found"),
        (edits.RemoveInstance(""), BadInput, "the project itself cannot be removed"),
        (
            edits.Define("<cpc><oops/></cpc>"),
            BadInput,
            r"uploaded file \(line 1, column 6\): <oops> is not known in <cpc>",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line_with_path_and_type(
    edit: edits.Edit, kind: type[CopernicusError], message: str
) -> None:
    bench = toy_bench()
    before = snapshot.dump(bench.graph)
    with pytest.raises(kind, match=message) as caught:
        bench.apply(edit)
    assert "\n" not in str(caught.value)
    assert snapshot.dump(bench.graph) == before


def test_a_connected_input_cannot_be_set_or_connected_again() -> None:
    bench = toy_bench()
    bench.apply(edits.AddInstance("v", "toy::work"), edits.Connect("w:out.ys", "v:in.xs"))
    for edit in (
        edits.SetValue("v:in.xs", [1.0]),
        edits.SetValue("v:in.xs[0]", 1.0),
        edits.Unset("v:in.xs"),
        edits.Connect("w:out.ys[0]", "v:in.xs[3]"),
    ):
        with pytest.raises(Conflict, match=r"v:in\.xs is connected to w:out.ys"):
            bench.apply(edit)
    bench.apply(edits.Disconnect("v:in.xs"), edits.SetValue("v:in.xs", [1.0]))
    assert bench.value("v:in.xs") == [1.0]


def test_loops_need_a_function_that_decides() -> None:
    bench = Bench("toy", "float", toy=TOY)
    bench.apply(
        edits.AddInstance("a", "float::add"), edits.AddInstance("b", "float::add"), edits.Connect("a:out.c", "b:in.a")
    )
    with pytest.raises(BadInput, match="would close a loop that never ends"):
        bench.connect("b:out.c", "a:in.a")
    bench.apply(edits.AddInstance("w", "toy::work"), edits.Connect("b:out.c", "w:in.xs[0]"))
    bench.connect("w:out.ys[0]", "a:in.a")


def test_a_value_of_endless_depth_is_refused() -> None:
    bench = toy_bench()
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(BadInput, match="too many lists"):
        bench.set("w:in.xs", value)
