"""Defects of the client: what it sends, keeps, draws and leaves behind."""

from tests.defects.defect import defect

_CPCC = "tests/unit/test_cpcc_networks.py::"
_DRAWING = "tests/unit/test_drawing.py::"

CLIENT = (
    defect(
        "half-archive-kept", "cpc.client.archive:_stream", "if not unpacked.eof:", "if unpacked.eof and not out.tell():",
        promise="a project that was saved is whole, or there is no file",
        caught_by=_CPCC + "test_a_project_that_broke_off_leaves_the_former_file",
    ),
    defect(
        "failed-load-left-behind", "cpc.client.commands.archives:_take_back", "context.client().delete_project(project)", "pass",
        promise="a project that cannot be loaded is not left behind",
        caught_by=_CPCC + "test_a_project_that_cannot_be_loaded_is_not_left_behind",
    ),
    defect(
        "file-leads-out", "cpc.client.values:_component", 'in ("", ".", "..")', 'in ("", ".")',
        promise="no name in a value leads out of the directory that it is fetched to",
        caught_by=_CPCC + "test_names_that_others_chose_cannot_lead_out_of_the_directory",
    ),
    defect(
        "programs-get-a-page", "cpc.client.commands.items:ls", "context.out.json or context.out.quiet", "False",
        promise="a list for a program is whole",
        caught_by="tests/unit/test_cpcc_networks_shown.py::test_programs_get_all_instances",
    ),
    defect(
        "boxes-overlap", "cpc.client.drawing.layout:apart", "pools[-1][0] > mean", "pools[-1][0] > mean + 40.0",
        promise="no box of a drawing covers another",
        caught_by=_DRAWING + "test_what_is_pushed_apart_stays_as_near_as_possible",
    ),
    defect(
        "cycles-not-seen", "cpc.client.drawing.layers:backward", "if path[target]:", "if path[target] and target == start:",
        promise="lines of a drawing lead from left to right but for those that close a cycle",
        caught_by=_DRAWING + "test_without_the_edges_that_go_back_there_is_no_cycle_and_layers_ascend",
    ),
    defect(
        "own-cancel-is-a-failure", "cpc.client.futures:JobFuture.settle", "self._cancelling and", "False and",
        promise="a future that was cancelled is cancelled, whoever hears of it first",
        caught_by="tests/unit/test_client_futures.py::test_a_cancel_whose_answer_comes_after_the_end_was_seen_is_a_cancel",
    ),
)  # fmt: skip
