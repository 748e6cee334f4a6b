"""Defects of what runs the code of modules: whom a crash hurts, what code may use and see, what an answer holds."""

from tests.defects.defect import defect

_CONTROLLERS = "tests/integration/test_controllers.py::"
_FUNCTIONS = "tests/unit/test_api_functions.py::"

CONTROLLERS = (
    defect(
        "crash-hurts-its-neighbours", "cpc.server.controllers:Controllers.ended",
        "self._queue.extendleft(reversed(left))", "[self._blame(call, why) for call in left]",
        promise="a crash fails one step only",
        caught_by=f"{_CONTROLLERS}test_a_process_that_dies_fails_one_step_only",
    ),
    defect(
        "memory-without-a-limit", "cpc.server.controllers:Controllers.run", "told.controller.memory or options.memory", "0",
        promise="a run has the memory that its function says, and no more",
        caught_by=f"{_CONTROLLERS}test_too_much_memory_is_the_error_of_the_step",
    ),
    defect(
        "secrets-for-controllers", "cpc.server.sandbox:environment",
        "if name in _KEPT or name.startswith(_KEPT_BEGINNINGS)", "",
        promise="controllers have none of the server's secrets",
        caught_by=f"{_CONTROLLERS}test_the_environment_of_controllers_has_none_of_the_servers_secrets",
    ),
    defect(
        "stale-code-runs-on", "cpc.server.controllers:Controllers.describe", "self.renew()", "pass",
        promise="a module runs as it was described last",
        caught_by=f"{_CONTROLLERS}test_a_module_that_was_changed_is_run_as_it_was_described_last",
    ),
    defect(
        "half-an-answer", "cpc.api.running:run", "step.failed(said)", "step.answer()",
        promise="a run that raises asks for nothing",
        caught_by=f"{_FUNCTIONS}test_a_run_that_raises_asks_for_nothing",
    ),
    defect(
        "answer-in-time-not-read", "cpc.server.controllers:Controllers._expired",
        "running.process.heard != heard and turns", "False",
        promise="an answer that is there when the time is over counts",
        caught_by=f"{_CONTROLLERS}test_an_answer_that_was_not_read_yet_when_the_time_was_over_counts",
    ),
    defect(
        "sleep-is-the-runs", "cpc.server.controllers:Controllers._watch", "min(running.left, _PORTION)", "running.left",
        promise="time in which the machine slept is nobody's",
        caught_by=f"{_CONTROLLERS}test_time_in_which_the_machine_slept_is_nobodys",
    ),
    defect(
        "busy-means-no-sandbox", "cpc.server.sandbox:why_not", 'return ""', 'return "it took too long"',
        promise="a machine that is too busy to tell lets no code out of the sandbox",
        caught_by=f"{_CONTROLLERS}test_a_machine_that_is_too_busy_to_tell_lets_no_code_out_of_the_sandbox",
    ),
)  # fmt: skip
