"""Defects of dataflow: of the pure engine, `cpc.dataflow`, and of steps at the server."""

from tests.defects.defect import defect

_STEPS = "tests/unit/test_dataflow_steps.py::"
_VALUES = "tests/unit/test_dataflow_values.py::"
_REFUSALS = "tests/unit/test_dataflow_refusals.py::"
_MODULES = "tests/unit/test_dataflow_modules.py::"
_CUT = "tests/unit/test_steps_cut_short.py::"
_MODEL = "tests/unit/test_dataflow_model.py"

DATAFLOW = (
    # --- values and connections ---
    defect(
        "equal-values-run-again", "cpc.dataflow.update:Update._own", "if new is old:", "if False:",
        promise="setting an equal value changes nothing and runs nothing",
        caught_by=_VALUES + "test_setting_an_equal_value_changes_nothing_and_runs_nothing",
        quick=True,
    ),
    defect(
        "zeros-of-both-signs-are-equal", "cpc.dataflow.values:same", "one != 0.0 or", "True or",
        promise="floats are compared exactly",
        caught_by=_VALUES + "test_floats_are_compared_exactly",
    ),
    defect(
        "arrays-keep-their-tail", "cpc.dataflow.trees:_emptied", "while holder and holder[-1] is None:", "while False:",
        promise="arrays shrink",
        caught_by=(_VALUES + "test_arrays_grow_and_shrink", _MODEL),
    ),
    defect(
        "targets-keep-what-was-disconnected", "cpc.dataflow.update:Update._remove_link", "if unset and", "if False and",
        promise="disconnecting unsets the input",
        caught_by=(_VALUES + "test_disconnecting_unsets_the_input", _MODEL),
    ),
    defect(
        "connected-inputs-can-be-set", "cpc.dataflow.update:Update._check_free", "if inbound is not None:", "if False:",
        promise="a connected input cannot be set or connected again",
        caught_by=_REFUSALS + "test_a_connected_input_cannot_be_set_or_connected_again",
    ),
    defect(
        "links-above-are-forgotten-in-large-sets", "cpc.dataflow.links:Ends.above", "if node.links:",
        "if part is None and node.links:",
        promise="links are found as if all were looked at",
        caught_by="tests/unit/test_dataflow_paths.py::test_links_are_found_as_if_all_were_looked_at",
    ),
    defect(
        "loops-without-a-decision", "cpc.dataflow.cycles:refuse", "if _overlap(place, goal):", "if False:",
        promise="a loop that nothing stops is refused",
        caught_by=_REFUSALS + "test_loops_need_a_function_that_decides",
    ),
    # --- transactions ---
    defect(
        "half-a-transaction-stays", "cpc.dataflow.graph:Graph.apply",
        "except CopernicusError:\n            self.journal.undo_to(mark)", "except CopernicusError:\n            pass",
        promise="a failing edit leaves nothing behind",
        caught_by=_REFUSALS + "test_a_failing_edit_undoes_all_of_its_transaction_and_is_named",
    ),
    defect(
        "answers-reach-everywhere", "cpc.dataflow.answering:_check_own", "if network is not instance:", "if False:",
        promise="an answer reaches its own network only",
        caught_by=_STEPS + "test_an_answer_reaches_its_own_network_only",
    ),
    # --- steps ---
    defect(
        "two-steps-at-once", "cpc.dataflow.conditions:ready", "not instance.step and", "",
        promise="an instance has one open step",
        caught_by=(_STEPS + "test_changes_while_a_step_is_open_make_one_more_step_when_it_closes", _MODEL),
    ),
    defect(
        "complete-arrays-run-with-holes", "cpc.dataflow.conditions:_holes", "if extent > len(node):", "if False:",
        promise="a complete array waits for all its connected elements",
        caught_by=_STEPS + "test_a_complete_array_waits_for_all_its_connected_elements",
    ),
    defect(
        "late-connections-are-not-news", "cpc.dataflow.step:arrived", "youngest = max(youngest, link.since)", "pass",
        promise="what comes through a new connection is new",
        caught_by=_STEPS + "test_what_comes_through_a_new_connection_is_new_however_old_it_is",
    ),
    defect(
        "moments-of-nonsense-stop-instances", "cpc.dataflow.update:Update._compute", "failures.pop(instance, None)", "pass",
        promise="what is put right within the same transaction stops nothing",
        caught_by=_VALUES + "test_a_moment_of_nonsense_within_a_transaction_stops_nothing",
    ),
    # --- modules ---
    defect(
        "new-versions-take-over-what-does-not-fit", "cpc.dataflow.update:Update._take_over",
        "if function is None or not same:", "if function is None:",
        promise="an instance never has values that its function does not take",
        caught_by=_MODULES + "test_a_new_version_that_takes_something_else_is_refused_while_there_are_instances",
    ),
    # --- steps at the server ---
    defect(
        "a-step-runs-without-its-input", "cpc.server.steps:take", "kept is None and", "False and",
        promise="a step whose required input is gone before it ran is no error",
        caught_by=_CUT + "test_a_step_whose_input_is_gone_before_it_ran_is_no_error",
    ),
    defect(
        "an-answer-counts-twice", "cpc.server.steps:answer", "not row.state.open or row.run != run.step.run", "False",
        promise="an answer counts once, and only while its step is open",
        caught_by=_CUT + "test_an_answer_counts_once_and_only_while_its_step_is_open",
    ),
    defect(
        "the-end-of-a-step-is-not-written-down", "cpc.server.changes:Change._end", "self.note(instance)", "pass",
        promise="that an open step has ended is on disk",
        caught_by="tests/unit/test_step_ends.py",
    ),
    # --- what is held ---
    defect(
        "a-lost-job-begins-while-held", "cpc.server.settling:_again_or_end",
        "queue.step_job_waits(tx, row.step, run.array)", "pass",
        promise="a lost job of a held instance waits until that is activated",
        caught_by=_CUT + "test_a_job_that_is_lost_while_its_instance_is_held_waits_until_that_is_activated",
    ),
    defect(
        "a-held-instance-asks-for-more", "cpc.server.steps:_go_on",
        "if not instance.state.runs", "if state is not State.READY and not instance.state.runs",
        promise="what a held instance's function asks for does not begin",
        caught_by=_CUT + "test_what_a_held_instance_asks_for_beside_a_job_that_has_ended_does_not_begin",
    ),
    defect(
        "cleared-although-held", "cpc.dataflow.update:Update.clear", "if _held_above(each)", "if False",
        promise="clearing an error does not activate what is held",
        caught_by=_STEPS + "test_clearing_an_error_within_a_held_instance_leaves_it_held",
    ),
    # --- modules, when they are imported ---
    defect(
        "networks-not-tried", "cpc.dataflow.update:Update.import_module", "self.try_networks(", "len(",
        promise="what cannot be in a fixed network is refused at import",
        caught_by="tests/unit/test_dataflow_modules.py",
    ),
    defect(
        "code-not-tried", "cpc.server.networks:Networks._named_in",
        "await self._modules.check([*found.values(), *uploads])", "pass",
        promise="a module whose code is not there is not imported",
        caught_by="tests/unit/test_networks.py::test_a_module_whose_code_is_not_there_is_not_imported",
    ),
    defect(
        "code-tried-for-anybody", "cpc.server.networks:Networks._may_name", "self._may_install(tx, who)", "pass",
        promise="code of those who may not bring it is not run",
        caught_by="tests/unit/test_networks.py::test_code_of_those_who_may_not_bring_it_is_not_even_tried",
    ),
)  # fmt: skip
