"""Values, connections and arithmetic: what is set where, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from cpc.core import edits
from cpc.core.errors import BadInput, NotFound
from cpc.dataflow import literals
from cpc.dataflow.instance import State, Tree
from tests.helpers.toy_modules import EXAMPLE, TOY, Bench, toy_bench


def test_the_originals_first_example_gives_41() -> None:
    bench = Bench()
    bench.apply(edits.Define(EXAMPLE))
    assert bench.value("add:out.c") is None
    bench.activate()
    assert bench.value("add.out.c") == 41.0
    assert bench.value("addmul:mul:out.c") == 35.0


def test_changing_an_input_runs_only_what_depends_on_it() -> None:
    bench = Bench()
    bench.apply(edits.Define(EXAMPLE))
    bench.activate()
    add = bench.instance("addmul:add")
    before = add.node(Tree.OUT, ("c",))
    bench.set("add:in.b", 10)
    assert bench.value("add:out.c") == 45.0
    assert add.node(Tree.OUT, ("c",)) is before


def test_setting_an_equal_value_changes_nothing_and_runs_nothing() -> None:
    bench = toy_bench()
    bench.set("w:in.n", 3)
    bench.answer("w")
    change = bench.graph.change
    outcome = bench.set("w:in.n", 3)
    assert outcome.empty
    assert not outcome.opens
    assert bench.graph.change == change
    assert bench.instance("w").number == 1


@pytest.mark.parametrize(
    ("one", "other", "same"), [(0.0, -0.0, False), (float("nan"), float("nan"), True), (1, 1.0, True)]
)
def test_floats_are_compared_exactly(one: float, other: float, same: bool) -> None:
    bench = Bench("float")
    bench.add("a", "float::add")
    bench.set("a:in.a", one)
    assert bench.set("a:in.a", other).empty is same


def test_disconnecting_unsets_the_input() -> None:
    bench = toy_bench()
    bench.apply(edits.AddInstance("v", "toy::work"), edits.Connect("w:out.n", "v:in.n"), edits.SetValue("w:in.n", 1))
    bench.answer("w", outputs={"n": 5})
    assert bench.value("v:in.n") == 5
    bench.apply(edits.Disconnect("v:in.n"))
    assert bench.value("v:in.n") is None


def test_removing_an_instance_takes_its_connections_and_ends_its_steps() -> None:
    bench = toy_bench()
    bench.apply(edits.AddInstance("v", "toy::work"), edits.Connect("w:out.n", "v:in.n"), edits.SetValue("w:in.n", 1))
    bench.answer("w", outputs={"n": 5})
    bench.set("w:in.n", 2)
    outcome = bench.graph.apply([edits.RemoveInstance("w")], bench.next_id)
    assert [each.name for each in outcome.removed] == ["w"]
    assert len(outcome.links_removed) == 1
    assert [each.name for each in outcome.ends] == ["w"]
    assert bench.value("v:in.n") is None
    with pytest.raises(NotFound):
        bench.value("w:in.n")


def test_what_comes_and_goes_in_one_transaction_is_not_written_down() -> None:
    bench = Bench("toy", toy=TOY)
    outcome = bench.apply(
        edits.AddInstance("a", "toy::through"),
        edits.SetValue("a:in.n", 1),
        edits.RemoveInstance("a"),
        edits.AddInstance("b", "toy::work"),
    )
    assert [each.name for each in outcome.added] == ["b"]
    assert (outcome.removed, outcome.values, outcome.links_added, outcome.links_removed) == ([], {}, [], [])


def test_an_int_becomes_a_float_where_one_is_wanted_and_not_the_other_way() -> None:
    bench = Bench("int", "float")
    bench.apply(
        edits.AddInstance("i", "int::add"), edits.AddInstance("f", "float::add"), edits.Connect("i:out.c", "f:in.a"),
        edits.SetValue("i:in.a", 1), edits.SetValue("i:in.b", 2), edits.Activate(),
    )  # fmt: skip
    assert repr(bench.value("f:in.a")) == "3.0"
    with pytest.raises(BadInput, match=r"f:out\.c is float; i:in.a takes int"):
        bench.connect("f:out.c", "i:in.a")


def test_arrays_grow_and_shrink() -> None:
    bench = toy_bench()
    bench.apply(*(edits.SetValue("w:in.xs[+]", float(n)) for n in range(3)))
    assert bench.value("w:in.xs") == [0.0, 1.0, 2.0]
    bench.apply(edits.Unset("w:in.xs[1]"))
    assert bench.value("w:in.xs") == [0.0, None, 2.0]
    bench.apply(edits.Unset("w:in.xs[2]"))
    assert bench.value("w:in.xs") == [0.0]
    bench.set("w:in.xs[3]", 9.0)
    assert bench.value("w:in.xs") == [0.0, None, None, 9.0]
    bench.set("w:in.xs", [])
    assert bench.value("w:in.xs") is None


def test_a_connected_array_follows_element_by_element_and_shrinks_too() -> None:
    bench = toy_bench()
    bench.apply(
        edits.AddInstance("v", "toy::work"),
        edits.Connect("w:out.ys", "v:in.xs"),
        edits.SetValue("v:in.n", 1),
        edits.Activate(),
    )
    bench.set("w:in.n", 1)
    bench.answer("w", close=False, outputs={"ys[0]": 1.0})
    bench.answer("w", close=False, outputs={"ys[1]": 2.0})
    assert bench.value("v:in.xs") == [1.0, 2.0]
    bench.answer("v")
    assert bench.snapshots["v"].updated == ("in.xs[0]", "in.xs[1]")
    bench.answer("w", outputs={"ys": [1.0]})
    bench.answer("v")
    assert bench.snapshots["v"].inputs["xs"] == [1.0]


def test_arithmetic_that_cannot_be_done_stops_one_instance_with_the_reason() -> None:
    bench = Bench("int", "float")
    bench.apply(
        edits.AddInstance("d", "int::div"), edits.AddInstance("f", "float::log"), edits.SetValue("f:in.a", -1),
        edits.SetValue("d:in.a", 7), edits.SetValue("d:in.b", 0), edits.Activate(),
    )  # fmt: skip
    assert (bench.instance("d").state, bench.instance("d").error) == (State.ERROR, "7 cannot be divided by zero")
    assert bench.instance("f").error == "-1.0 has no logarithm"
    bench.apply(edits.SetValue("d:in.b", 2), edits.ClearError("d"))
    assert bench.value("d:out.c") == 3


@pytest.mark.parametrize(
    ("function", "a", "b", "c"),
    [
        ("int::sub", 5, 7, -2),
        ("int::div", -7, 2, -3),
        ("int::mul", 3, 4, 12),
        ("float::sub", 5, 0.5, 4.5),
        ("float::div", 1, 4, 0.25),
        ("float::pow", 2, 0.5, 2**0.5),
    ],
)
def test_arithmetic_is_right(function: str, a: float, b: float, c: float) -> None:
    bench = Bench("int", "float")
    bench.apply(
        edits.AddInstance("x", function), edits.SetValue("x:in.a", a), edits.SetValue("x:in.b", b), edits.Activate()
    )
    assert bench.value("x:out.c") == c


def test_a_moment_of_nonsense_within_a_transaction_stops_nothing() -> None:
    """1 / (x - (x + ½ + ½)): where the long way has not been gone yet, the difference is 0 for a moment."""
    bench = Bench("float")
    for name, function in (("x", "add"), ("half", "add"), ("whole", "add"), ("less", "sub"), ("d", "div")):
        bench.add(name, f"float::{function}")
    for item, value in (("x:in.a", 0), ("x:in.b", 0), ("half:in.b", 0.5), ("whole:in.b", 0.5), ("d:in.a", 1)):
        bench.set(item, value)
    for source, target in (
        ("x", "half:in.a"),
        ("half", "whole:in.a"),
        ("x", "less:in.a"),
        ("whole", "less:in.b"),
        ("less", "d:in.b"),
    ):
        bench.connect(f"{source}:out.c", target)
    bench.activate()
    bench.set("x:in.a", 1)
    assert (bench.instance("d").state, bench.value("d:out.c")) == (State.ACTIVE, -1.0)


def test_hyphen_and_underscore_are_the_same_everywhere() -> None:
    bench = Bench("toy", toy=TOY)
    bench.add("my-work", "toy::work")
    bench.set("my_work:in.most.per-node", 3)
    assert bench.value("my-work.in.most.per_node") == 3


def test_dicts_and_records_are_set_whole_or_by_member() -> None:
    bench = toy_bench()
    bench.set("w:in.most", {"cores": 4, "gpus": 1})
    bench.apply(edits.SetLiteral("w:in.most.cores", "8"), edits.Unset("w:in.most.gpus"))
    assert bench.value("w:in.most") == {"cores": 8}
    bench.apply(edits.SetLiteral("w:in.ps", '[{"x": 1}, {"x": 2, "y": 0.1}]'))
    assert bench.value("w:in.ps[1]") == {"x": 2.0, "y": 0.1}


def test_a_whole_tree_is_connected_to_an_element() -> None:
    text = """<cpc><function id="part" type="python-extended"><outputs><field id="x" type="int"/></outputs>
    <controller function="m.p"/></function><type id="parts" base="array" member-type="part:out"/>
    <function id="all" type="python-extended"><subnet-inputs><field id="parts" type="parts"/></subnet-inputs>
    <inputs><field id="n" type="int"/></inputs><controller function="m.a"/></function></cpc>"""
    bench = Bench("m", m=text)
    bench.apply(edits.AddInstance("a", "m::all"), edits.SetValue("a:in.n", 1), edits.Activate())
    bench.answer("a", instances={"p": "part"}, connections=(("p:out", "self:sub_in.parts[2]"),))
    bench.apply(edits.Rerun("a:p"))
    bench.answer("a:p", outputs={"x": 3})
    assert bench.value("a:sub_in.parts") == [None, None, {"x": 3}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1e22, "1e+22"),
        (12.5, "12.5"),
        (True, "true"),
        (None, "None"),
        ([1, 2], "[ 1, 2 ]"),
        ({"a": 6.75}, "{ a : 6.75 }"),
        ([float(n) for n in range(12)], "[\n  0.0,\n  " + ",\n  ".join(f"{n}.0" for n in range(1, 12)) + "\n]"),
    ],
)
def test_values_are_printed_as_the_original_did_but_exactly(value: Any, text: str) -> None:
    assert literals.show(value) == text
