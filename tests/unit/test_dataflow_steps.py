"""When steps open, what they start from, and what their answers do."""

from __future__ import annotations

from typing import Any

import pytest

from cpc.core import edits
from cpc.core.errors import Conflict
from cpc.dataflow import conditions, snapshot
from cpc.dataflow.instance import State
from tests.helpers.toy_modules import TOY, Bench, toy_bench


def test_several_changes_of_one_transaction_make_one_step() -> None:
    bench = toy_bench()
    outcome = bench.apply(
        edits.SetValue("w:in.n", 1), edits.SetValue("w:in.xs[+]", 1.5), edits.SetValue("w:in.xs[+]", 2.5)
    )
    assert [each.name for each in outcome.opens] == ["w"]
    assert bench.snapshots["w"].inputs == {"n": 1, "xs": [1.5, 2.5]}
    assert bench.snapshots["w"].updated == ("in.n", "in.xs[0]", "in.xs[1]")


def test_changes_while_a_step_is_open_make_one_more_step_when_it_closes() -> None:
    bench = toy_bench()
    bench.set("w:in.n", 1)
    for value in (2, 3, 4):
        assert not bench.set("w:in.n", value).opens
    bench.answer("w", outputs={"n": 10})
    assert bench.instance("w").number == 2
    assert bench.snapshots["w"].inputs == {"n": 4}
    assert bench.snapshots["w"].updated == ("in.n",)
    bench.answer("w")
    assert bench.instance("w").number == 2


def test_a_step_waits_for_required_inputs_and_says_which() -> None:
    bench = toy_bench()
    assert not bench.set("w:in.xs", [1.0]).opens
    assert list(conditions.missing(bench.instance("w"))) == ["w:in.n is not set"]
    assert bench.set("w:in.n", 1).opens


def test_a_held_instance_keeps_values_and_runs_when_activated() -> None:
    bench = Bench("toy", toy=TOY)
    bench.add("w", "toy::work")
    assert not bench.set("w:in.n", 1).opens
    assert bench.activate("w").opens
    bench.answer("w")
    bench.apply(edits.Deactivate())
    assert not bench.activate().opens, "nothing has changed meanwhile"


def test_deactivating_parks_open_steps_at_all_depths_also_within_errors() -> None:
    bench = toy_bench()
    bench.set("w:in.n", 1)
    bench.answer("w", close=False, instances={"inner": "work"}, values={"inner:in.n": 2}.items())
    assert bench.instance("w:inner").step
    bench.carry_out(bench.graph.stopped(bench.instance("w"), "broken"))
    outcome = bench.apply(edits.Deactivate("w"))
    assert [each.path for each in outcome.parks] == ["w:inner"]
    assert bench.instance("w").state is State.ERROR
    assert [each.path for each in bench.activate().unparks] == ["w:inner"]


def test_an_error_stops_one_instance_and_clearing_it_runs_it_again() -> None:
    bench = toy_bench()
    bench.apply(edits.AddInstance("v", "toy::work"), edits.Activate("v"))
    bench.set("w:in.n", 1)
    bench.set("v:in.n", 1)
    outcome = bench.answer("w", error="A was negative!")
    assert [each.name for each in outcome.ends] == ["w"]
    assert (bench.instance("w").state, bench.instance("w").error) == (State.ERROR, "A was negative!")
    assert bench.instance("v").state is State.ACTIVE
    assert not bench.set("w:in.n", 2).opens
    cleared = bench.apply(edits.ClearError())
    assert cleared.lines == ["Cleared error state on w"]
    assert [each.name for each in cleared.opens] == ["w"]
    assert bench.apply(edits.ClearError("w")).lines == ["No errors cleared."]


def test_clearing_an_error_within_a_held_instance_leaves_it_held() -> None:
    bench = toy_bench()
    for path in ("w:inner", "w:inner:deep"):
        bench.add(path, "toy::work")
        bench.set(f"{path}:in.n", 1)
    bench.activate()
    for path in ("w:inner", "w:inner:deep"):
        bench.carry_out(bench.graph.stopped(bench.instance(path), "broken"))
    bench.apply(edits.Deactivate("w"))
    cleared = bench.apply(edits.ClearError("w:inner:deep"))
    assert cleared.lines == ["Cleared error state on w:inner:deep"]
    assert bench.instance("w:inner:deep").state is State.HELD, "what holds it is above one that is in error"
    cleared = bench.apply(edits.ClearError())
    assert (bench.instance("w:inner").state, cleared.opens) == (State.HELD, [])
    opened = bench.activate("w").opens
    assert {each.path for each in opened} == {"w:inner", "w:inner:deep"}


def test_the_project_itself_is_never_held() -> None:
    """It has no row that could keep that: after a restart it would be active again."""
    bench = toy_bench()
    bench.set("w:in.n", 1)
    bench.answer("w", error="A was negative!")
    bench.apply(edits.Deactivate())
    assert bench.graph.root.state is State.ACTIVE
    bench.apply(edits.ClearError())
    assert bench.instance("w").state is State.ACTIVE


def test_a_warning_is_shown_until_the_next_run_without_one() -> None:
    bench = toy_bench()
    bench.set("w:in.n", 1)
    bench.answer("w", warning="hm")
    assert (bench.instance("w").state, bench.instance("w").warning) == (State.WARNING, "hm")
    bench.set("w:in.n", 2)
    bench.answer("w")
    assert (bench.instance("w").state, bench.instance("w").warning) == (State.ACTIVE, "")


def test_an_answer_that_cannot_be_carried_out_leaves_nothing_behind_but_the_error() -> None:
    bench = toy_bench()
    bench.set("w:in.n", 1)
    outcome = bench.answer("w", instances={"inner": "work"}, outputs={"n": 3, "ys": "text"})
    assert "w:out.ys takes toy::floats, an array; 'text' is none" in outcome.refused
    assert bench.instance("w").children in (None, {})
    assert bench.value("w:out.n") is None
    assert bench.instance("w").state is State.ERROR


@pytest.mark.parametrize(
    "reach",
    [
        {"values": (("v:in.n", 7),)},
        {"values": (("s0:deep:in.n", 7),)},
        {"values": (("s0:self:sub_in.r", [7.0]),)},
        {"connections": (("s0:deep:out.n", "s0:deep:in.n"),)},
        {"connections": (("s0:self:sub_out.s", "s0:deep:in.xs"),)},
    ],
)
def test_an_answer_reaches_its_own_network_only(reach: dict[str, Any]) -> None:
    bench = toy_bench()
    bench.add("v", "toy::work")
    bench.set("w:in.n", 1)
    bench.answer("w", close=False, instances={"s0": "work"})
    bench.add("w:s0:deep", "toy::work")
    before = snapshot.dump(bench.graph)
    outcome = bench.answer("w", **reach)
    assert outcome.refused
    assert snapshot.dump(bench.graph).values == before.values
    assert snapshot.dump(bench.graph).links == before.links


def test_a_controller_grows_its_network_and_is_run_by_what_comes_back() -> None:
    bench = toy_bench()
    bench.set("w:in.n", 1)
    bench.answer(
        "w",
        instances={"s0": "work"},
        connections=(("self:sub_out.s", "s0:in.xs"), ("self:ext_in.n", "s0:in.n"), ("s0:out.ys", "self:sub_in.r")),
        sub_outputs={"s": [0.5]},
    )
    assert bench.snapshots["w:s0"].inputs == {"n": 1, "xs": [0.5]}
    bench.answer("w:s0", outputs={"ys": [1.0, 2.0]})
    assert bench.snapshots["w"].sub_inputs == {"r": [1.0, 2.0]}
    assert bench.snapshots["w"].updated == ("sub_in.r[0]", "sub_in.r[1]")


def test_instances_of_a_controller_are_held_while_it_is_held() -> None:
    bench = toy_bench()
    bench.set("w:in.n", 1)
    bench.apply(edits.Deactivate())
    bench.answer("w", instances={"s0": "work"})
    assert bench.instance("w:s0").state is State.HELD


CANCELS = TOY.replace('function="toy.work"/>', 'function="toy.work" cancel_on_change="yes"/>')


def test_a_changed_input_ends_the_step_under_way_if_the_function_says_so() -> None:
    bench = Bench("toy", toy=CANCELS)
    bench.add("w", "toy::work")
    bench.activate()
    bench.set("w:in.n", 1)
    first = bench.instance("w").step
    outcome = bench.set("w:in.n", 2)
    assert [each.name for each in outcome.ends] == ["w"]
    assert bench.instance("w").step not in (0, first)
    assert bench.snapshots["w"].inputs == {"n": 2}


def test_forcing_a_rerun_ends_the_open_step_and_opens_another() -> None:
    bench = toy_bench()
    bench.set("w:in.n", 1)
    outcome = bench.apply(edits.Rerun("w"))
    assert outcome.lines == ["Forcing rerun on w"]
    assert bench.instance("w").number == 2
    bench.answer("w")
    bench.apply(edits.Rerun("w"))
    assert bench.instance("w").number == 3


def test_an_eager_function_runs_once_without_inputs() -> None:
    eager = '<cpc><function id="e" type="python" eager="yes"><outputs><field id="x" type="int"/></outputs>'
    bench = Bench("m", m=f'{eager}<controller function="m.e"/></function></cpc>')
    bench.add("e", "m::e")
    assert bench.activate().opens
    bench.answer("e", outputs={"x": 1})
    assert bench.instance("e").number == 1


def test_what_comes_through_a_new_connection_is_new_however_old_it_is() -> None:
    bench = toy_bench()
    bench.set("w:in.n", 1)
    bench.answer("w", outputs={"n": 5})
    bench.apply(edits.AddInstance("v", "toy::work"), edits.SetValue("v:in.n", 1), edits.Activate("v"))
    bench.answer("v")
    bench.apply(edits.Unset("v:in.n"))
    bench.connect("w:out.n", "v:in.n")
    assert bench.snapshots["v"].updated == ("in.n",)


CONSTANT = """<cpc><function id="f" type="python"><inputs>
<field id="seed" type="int" const="yes"/><field id="n" type="int"/></inputs><controller function="m.f"/></function></cpc>"""


def test_a_constant_input_stays_as_it_is_from_the_first_run_on() -> None:
    bench = Bench("m", "int", m=CONSTANT)
    bench.apply(
        edits.AddInstance("f", "m::f"), edits.SetValue("f:in.seed", 1), edits.SetValue("f:in.n", 1), edits.Activate()
    )
    bench.answer("f")
    bench.set("f:in.n", 2)
    with pytest.raises(Conflict, match=r"f:in\.seed is constant, and f has run"):
        bench.set("f:in.seed", 2)


def test_a_constant_input_that_changes_through_a_connection_stops_the_instance() -> None:
    bench = Bench("m", "int", m=CONSTANT)
    bench.apply(
        edits.AddInstance("f", "m::f"), edits.AddInstance("i", "int::add"), edits.Connect("i:out.c", "f:in.seed"),
        edits.SetValue("i:in.a", 1), edits.SetValue("i:in.b", 1), edits.SetValue("f:in.n", 1), edits.Activate(),
    )  # fmt: skip
    assert bench.instance("f").step
    bench.set("i:in.a", 2)
    assert bench.instance("f").error == "the constant input seed has changed after the first run"


GATHER = """<cpc><type id="floats" base="array" member-type="float"/><type id="point" base="record">
<field id="x" type="float"/><field id="note" type="string" opt="yes"/></type><type id="points" base="array" member-type="point"/>
<function id="sum" type="python" broadcast="xs ys"><inputs><field id="xs" type="floats" complete="yes"/>
<field id="ys" type="floats" opt="yes"/><field id="ps" type="points" opt="yes" complete="yes"/></inputs>
<outputs><field id="s" type="float"/></outputs><controller function="m.s"/></function></cpc>"""


def test_a_complete_array_waits_for_all_its_connected_elements() -> None:
    bench = Bench("m", "float", m=GATHER)
    bench.add("s", "m::sum")
    for n in range(3):
        bench.apply(
            edits.AddInstance(f"a{n}", "float::add"),
            edits.SetValue(f"a{n}:in.a", n),
            edits.Connect(f"a{n}:out.c", "s:in.xs[+]"),
        )
    bench.activate()
    for n in range(3):
        assert bench.instance("s").number == 0
        bench.set(f"a{n}:in.b", 1)
    assert bench.snapshots["s"].inputs == {"xs": [1.0, 2.0, 3.0]}
    assert bench.instance("s").number == 1


def test_a_complete_array_of_records_needs_their_required_members() -> None:
    bench = Bench("m", m=GATHER)
    bench.apply(
        edits.AddInstance("s", "m::sum"),
        edits.SetValue("s:in.xs", [1.0]),
        edits.SetValue("s:in.ps[1].note", "n"),
        edits.Activate(),
    )
    assert list(conditions.missing(bench.instance("s"))) == ["s:in.ps[0].x is not set", "s:in.ps[1].x is not set"]
    bench.apply(edits.SetValue("s:in.ps[0].x", 1), edits.SetValue("s:in.ps[1].x", 2))
    assert bench.instance("s").number == 1


def test_one_element_serves_for_all_of_the_others_and_unequal_arrays_wait() -> None:
    bench = Bench("m", m=GATHER)
    bench.apply(
        edits.AddInstance("s", "m::sum"),
        edits.SetValue("s:in.xs", [1.0, 2.0, 3.0]),
        edits.SetValue("s:in.ys", [5.0]),
        edits.Activate(),
    )
    assert bench.snapshots["s"].inputs == {"xs": [1.0, 2.0, 3.0], "ys": [5.0, 5.0, 5.0]}
    bench.answer("s")
    bench.set("s:in.ys", [5.0, 6.0])
    assert bench.instance("s").number == 1
    assert next(conditions.missing(bench.instance("s"))) == (
        "s: inconsistent number of items, xs has 3 and ys has 2: 1 or the same number is needed"
    )
    bench.set("s:in.xs", [1.0, 2.0])
    assert bench.instance("s").number == 2


def test_closing_the_step_of_a_removed_instance_changes_nothing_any_more() -> None:
    bench = toy_bench()
    bench.set("w:in.n", 1)
    instance = bench.instance("w")
    outcome = bench.graph.apply([edits.RemoveInstance("w")], bench.next_id)
    assert outcome.ends == [instance]
    assert bench.graph.step_closed(instance).empty


def test_a_rerun_that_changes_nothing_else_still_ends_the_step() -> None:
    bench = toy_bench()
    bench.set("w:in.n", 1)
    bench.set("w:in.n", 2)
    outcome = bench.graph.apply([edits.Rerun("w")], bench.next_id)
    assert [each.name for each in outcome.ends] == ["w"]
    assert not outcome.empty
