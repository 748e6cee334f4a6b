"""Defects of how batch systems are spoken with: `cpc.plugins.schedulers`, and the processes that do it."""

from tests.defects.defect import defect

_UNIT = "tests/unit/test_slurm.py::"
_SUITE = _UNIT + "test_the_stand_in_keeps_what_the_real_one_keeps"
_COMMANDS = "tests/integration/test_pool_commands.py::"

SCHEDULERS = (
    defect(
        "known-by-its-number", "cpc.plugins.schedulers.slurm:choose", "known.get((handle.token, handle.index), ())",
        "[one for each in known.values() for one in each if one.native == handle.native]",
        promise="an allocation is known by our token: numbers are used again",
        caught_by=(_SUITE, _UNIT + "test_what_the_controller_lost_is_told_from_what_it_never_had"),
    ),
    defect(
        "wait-status-as-exit-code", "cpc.plugins.schedulers.slurm_text:exit_of",
        "return 128 + (status & 0x7F) if status & 0x7F else status >> 8", "return status & 0x7F",
        promise="exit code 42 is not a success",
        caught_by=(_SUITE, _UNIT + "test_times_and_exit_codes_are_read"),
    ),
    defect(
        "late-sbatch-refused", "cpc.plugins.schedulers.slurm:Slurm.submit",
        "raise Unsettled(error.message, error.hint) from None",
        "raise Refused(error.message, error.hint) from None",
        promise="a submission whose answer was lost may have been accepted",
        caught_by=_UNIT + "test_an_sbatch_that_never_ends_may_have_been_heard",
    ),
    defect(
        "timeout-surely-not-sent", "cpc.plugins.schedulers.slurm_words:surely_not_sent",
        "return bool(_CONFIG.search(text) or _NOT_SENT.search(text))", "return True",
        promise="a submission whose answer was lost may have been accepted",
        caught_by=_UNIT + "test_what_sbatch_says_is_the_right_kind_of_error",
    ),
    defect(
        "silence-is-no-jobs", "cpc.plugins.schedulers.slurm_text:rows", "if not whole or rest.strip():",
        "if not text.strip():\n        return\n    if not whole or rest.strip():",
        promise="no answer at all is not the answer that there are no jobs",
        caught_by=_UNIT + "test_rows_without_a_header_or_an_end_are_not_believed",
    ),
    defect(
        "accounts-away-means-gone", "cpc.plugins.schedulers.slurm:Slurm._recorded",
        "return None if ran.code else seen_in_sacct(ran.out)", "return () if ran.code else seen_in_sacct(ran.out)",
        promise="while accounting does not answer, nothing is said of what only it knows",
        caught_by=_UNIT + "test_what_the_controller_lost_is_told_from_what_it_never_had",
    ),
    defect(
        "array-goes-for-one", "cpc.plugins.schedulers.slurm:whole_arrays", "native if array in staying else array", "array",
        promise="cancelling one of an array cancels one",
        caught_by=_UNIT + "test_an_array_goes_as_a_whole_and_a_part_of_it_as_a_part",
    ),
    defect(
        "secrets-described", "cpc.plugins.schedulers.slurm_script:script", "HIDDEN if hide else shlex.quote(value)",
        "shlex.quote(value)",
        promise="what is secret is never shown",
        caught_by=_SUITE,
    ),
    defect(
        "limit-for-good", "cpc.plugins.schedulers.slurm_words:_known", "return AtLimit(", "return Refused(",
        promise="a limit that is reached is no refusal for good",
        caught_by=_UNIT + "test_a_limit_is_not_a_refusal_for_good",
    ),
    defect(
        "restart-is-an-end", "cpc.plugins.schedulers.slurm_text:state_of", "if word in _STATES:",
        'if word == "COMPLETING":\n        return SeenState.ENDED, SeenOutcome.UNKNOWN\n    if word in _STATES:',
        promise="what is being ended may be about to start again",
        caught_by=_UNIT + "test_every_state_of_slurm_has_a_meaning",
    ),
    defect(
        "children-of-late-commands", "cpc.server.process:kill_group", "os.killpg(pid, signal.SIGKILL)",
        "os.kill(pid, signal.SIGKILL)",
        promise="a command that takes too long is killed with all it started",
        caught_by=_COMMANDS + "test_what_takes_too_long_is_killed_with_all_it_started",
    ),
    defect(
        "whole-environment", "cpc.server.pools.commands:Commands.__init__",
        "{name: environ[name] for name in PASSED if name in environ}", "dict(environ)",
        promise="nothing secret of the server's environment reaches a command",
        caught_by=_COMMANDS + "test_its_environment_is_clean",
    ),
    defect(
        "srun-kills-at-once", "cpc.plugins.platforms.slurm:Slurm.acquire", "prefix = (*step,", 'prefix = ("srun", *_STEP,',
        promise="a program under srun is told before it is killed",
        caught_by="tests/unit/test_platforms.py::"
        "test_a_program_that_begins_with_mpirun_has_no_other_start_before_it",
    ),
    defect(
        "arrays-of-any-size", "cpc.plugins.schedulers.slurm:Slurm.most", "min(self.most_at_once, int(found[1]))",
        "self.most_at_once",
        promise="no array is larger than the system takes",
        caught_by=_UNIT + "test_how_large_arrays_may_be_is_asked_of_the_system",
    ),
    defect(
        "every-gpu-for-every-step", "cpc.plugins.platforms.slurm:Slurm.acquire", "if self._each:",
        "if self._each and granted.gpus > 1:",
        promise="a program under srun sees its own GPUs alone",
        caught_by="tests/unit/test_platforms.py::"
        "test_slurm_shares_out_the_gpus_of_all_nodes_with_the_cores_beside_them",
    ),
    defect(
        "uneven-gpus-counted-on", "cpc.plugins.platforms.slurm:_gpus",
        "if all(not all_ or all_ == str(int(each) * nodes) for all_ in asked) else 0", "",
        promise="only GPUs of which each node has as many are counted on",
        caught_by="tests/unit/test_platforms.py::test_gpus_count_only_where_each_node_has_as_many",
    ),
    defect(
        "gpus-without-a-core", "cpc.api.platform:HostPool._hosts", " and len(chosen) <= cores", "",
        promise="each host of a job has a core beside its GPUs",
        caught_by="tests/unit/test_platforms.py::"
        "test_slurm_shares_out_the_gpus_of_all_nodes_with_the_cores_beside_them",
    ),
    defect(
        "waiting-ones-broken-off", "cpc.plugins.schedulers.slurm:Slurm.__init__", ', "SLURM_BITSTR_LEN": "0"', "",
        promise="whichever of an array wait, accounting names each",
        caught_by=_UNIT + "test_what_the_controller_lost_is_told_from_what_it_never_had",
    ),
    defect(
        "requeue-counts-twice", "cpc.plugins.schedulers.slurm_text:restarts_of", "told - ending", "told",
        promise="a run that ends does not count the next one",
        caught_by=_UNIT + "test_a_run_that_ends_does_not_count_the_next_one",
    ),
    defect(
        "dead-node-is-a-success", "cpc.worker.ending:outcome", "end.code is None or (lost and end.code == lost)",
        "end.code is None",
        promise="a job is not blamed when nobody knows how it ended",
        caught_by="tests/unit/test_agent_words.py::test_a_start_that_knows_no_end_blames_nobody",
    ),
    defect(
        "output-cut-by-a-standstill", "cpc.server.pools.commands:_Command.processExited", "self._no_more",
        "self._process.loseConnection",
        promise="what a command has printed is read, however long the server stood still",
        caught_by="tests/integration/test_pool_commands.py::"
        "test_what_a_command_has_printed_is_read_though_the_server_stood_still",
    ),
)  # fmt: skip
