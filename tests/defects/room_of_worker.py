"""Defects of the worker: its results, its heartbeats, its processes and their limits."""

from tests.defects.defect import defect

_GUARDIAN = "tests/integration/test_guardian.py::"
_FETCHING = "tests/unit/test_fetching.py::"
_PROCESSES = "tests/integration/test_processes.py::"
_LINE = "tests/integration/test_guardian_line.py::"

WORKER = (
    # --- results ---
    defect(
        "room-kept-until-the-result-is-here", "cpc.worker.desk:Desk._over", "return tuple(", "return () and tuple(",
        promise="the next jobs begin while results are on their way",
        caught_by="tests/simulation/test_slow_ways.py::test_the_next_jobs_begin_while_results_are_on_their_way",
    ),
    defect(
        "results-lie-there-without-end", "cpc.queue.session:Session.lets_go", "<= self.total.cores", "<= 10**9",
        promise="no more results come to lie at a worker than it has cores for",
        caught_by="tests/simulation/test_slow_ways.py::test_the_next_jobs_begin_while_results_are_on_their_way",
    ),
    defect(
        "room-of-lent-jobs-kept", "cpc.server.abroad:parted", "tuple(lease for lease in turn.over if lease.path)", "()",
        promise="a slow way leaves no core idle at a worker that is lent",
        caught_by="tests/simulation/test_slow_ways.py::test_the_same_at_a_worker_that_is_lent",
    ),
    defect(
        "result-dropped-on-reconnect", "cpc.worker.desk:Desk.welcomed", "delivery.again()", "delivery.way = Way.SETTLED",
        promise="a result is told until the server has settled it", caught_by="seeds 0-59",
    ),
    defect(
        "spool-forgets-before-the-word", "cpc.worker.desk:Desk.compose", "delivery.report(kept)",
        "(delivery._spool is not None and delivery._spool.forget(delivery.lease), delivery.report(kept))[1]",
        promise="a result stays in the spool until it is acknowledged",
        caught_by="tests/simulation/test_quiet.py::test_a_result_that_was_told_to_nobody_survives_its_worker",
    ),
    defect(
        "spool-not-flushed", "cpc.spool.spool:Spool._append", "self._disk.sync(self._path)", "pass",
        promise="a spooled result survives a power loss",
        caught_by="tests/unit/test_spool.py::test_what_was_added_survives_a_power_loss",
    ),
    defect(
        "spooled-before-its-files", "cpc.worker.running:Attempt._sync",
        "sync_files(self._room.disk, self.directory, found.files, found.small)", "pass",
        promise="the files of a spooled result survive a power loss",
        caught_by="tests/unit/test_agent.py::test_a_power_loss_keeps_every_result_that_was_spooled",
    ),
    defect(
        "brief-result-waits-for-the-disk", "cpc.worker.running:Attempt._keep", "told = delivery.is_brief and",
        "told = not delivery.is_brief and",
        promise="a disk that takes nothing keeps no brief result from the server",
        caught_by="tests/unit/test_agent_jobs.py::test_a_brief_result_is_told_while_the_disk_does_not_take_it",
    ),
    defect(
        "settled-before-it-was-spooled-stays", "cpc.worker.running:Attempt._keep", "room.spool.forget(self.lease)", "pass",
        promise="what the server has on record is kept no longer",
        caught_by="tests/unit/test_agent_jobs.py::test_a_brief_result_that_the_server_has_before_the_disk_is_kept_no_longer",
    ),
    defect(
        "forgotten-before-it-lies-aside", "cpc.worker.delivery:Delivery.is_settled", "self._forgotten", "self.way is Way.SETTLED",
        promise="a result leaves the spool when it lies aside, not before",
        caught_by="tests/unit/test_agent_aside.py::"
        "test_what_cannot_be_kept_aside_yet_is_spooled_though_the_server_has_said_its_word",
    ),
    defect(
        "full-disk-blames-the-job", "cpc.worker.running:Attempt._blame_disk", "free < room.least_free", "free < 0",
        promise="a full disk is never the job's failure",
        caught_by="tests/unit/test_agent_jobs.py::test_a_job_that_fails_on_a_full_disk_is_not_blamed",
    ),
    defect(
        "task-told-twice-runs-twice", "cpc.worker.desk:Desk._accept", "or task.lease in self._finished", "",
        promise="an attempt begins once",
        caught_by="tests/unit/test_agent.py::test_a_task_that_is_told_twice_runs_once",
    ),
    defect(
        "handed-back-without-its-last-steps", "cpc.worker.running:Attempt._collect", "if handed_back and",
        "if result.wall_seconds < 0 and",
        promise="a job handed back loses nothing that it has done",
        caught_by="tests/unit/test_agent_jobs.py::test_a_job_handed_back_reports_its_checkpoint_before_it_ends",
    ),
    defect(
        "stopped-counts-as-done", "cpc.worker.ending:outcome", "if stop is Stop.HAND_BACK:",
        "if stop is Stop.HAND_BACK and end.code:",
        promise="what was asked to stop is never counted as done",
        caught_by="tests/unit/test_agent_words.py::test_only_the_jobs_own_end_is_blamed_on_it",
    ),
    # --- its own time ---
    defect(
        "end-told-with-the-next-heartbeat", "cpc.worker.agent:Agent._look_at_time", "self._changed()", "pass",
        promise="a worker whose time is nearly over is given nothing from that moment",
        caught_by="tests/unit/test_agent_time.py::test_the_server_hears_at_once_that_nothing_new_is_begun", quick=True,
    ),
    defect(
        "begun-to-be-ended", "cpc.worker.desk:Desk._accept", "self.standing.declines(self.room.clock.monotonic())", '""',
        promise="what comes to a worker that takes nothing more is not begun",
        caught_by="tests/unit/test_agent_time.py::test_a_job_that_was_on_its_way_then_is_handed_back_before_it_begins",
        quick=True,
    ),
    # --- the way to the server ---
    defect(
        "heartbeat-behind-an-upload", "cpc.worker.link:Link._open_bulk", "await self._connect(address, identity)",
        "self.session.connection",
        promise="a heartbeat never waits behind a file",
        caught_by="tests/simulation/test_quiet.py::test_an_upload_that_is_stuck_holds_no_heartbeat_up",
    ),
    defect(
        "chunk-not-verified-on-download", "cpc.worker.transfer:Transfer.fetch", "!= digest", "== b''",
        promise="a job never begins with other bytes than it was given",
        caught_by="tests/unit/test_agent_files.py::test_bytes_that_are_not_what_was_asked_for_never_reach_a_job",
    ),
    defect(
        "every-chunk-read-twice", "cpc.worker.running:Attempt._finish", "room.transfer.will_send(fresh)", "pass",
        promise="a result that is sent at once is read once",
        caught_by="tests/unit/test_agent_files.py::test_what_was_read_to_hash_it_is_sent_as_it_is",
    ),
    defect(
        "chunks-to-be-sent-stay", "cpc.worker.transfer:Transfer.will_send", "self._expire()", "pass",
        promise="what cannot be sent soon does not stay in memory",
        caught_by="tests/unit/test_agent_files.py::test_what_cannot_be_sent_soon_is_kept_in_memory_for_a_minute_only",
    ),
    defect(
        "damaged-result-handed-in", "cpc.worker.collecting:check_chunk", "!= digest", "== b''",
        promise="a worker's bad disk is not the job's result",
        caught_by="tests/unit/test_transfer_files.py::test_chunks_are_read_back_and_damage_is_seen",
    ),
    defect(
        "one-chunk-for-each-round-trip", "cpc.worker.fetching:InOrder.next", "self._fits(self._left[0][1])", "0",
        promise="a file from far away costs no round trip for each of its chunks",
        caught_by=_FETCHING + "test_some_chunks_are_on_their_way_at_once_and_come_in_order", quick=True,
    ),
    defect(
        "every-attempt-fetches-ahead", "cpc.worker.fetching:Early.take", "if size > self.left:", "if 0:",
        promise="chunks that wait in memory for their turn do not grow with the attempts",
        caught_by=_FETCHING + "test_what_is_fetched_early_is_bounded_for_all_attempts_together", quick=True,
    ),
    # --- processes ---
    defect(
        "memory-limit-not-set", "cpc.worker.guardian:Guardian._look", "if attempt.over_memory(roots) and", "if 0 and",
        promise="no job takes more memory than it was given",
        caught_by=_PROCESSES + "test_memory_is_limited_by_watching_all_processes_together",
    ),
    defect(
        "address-space-not-limited", "cpc.worker.birth:start", "if memory and group is None:", "if memory < 0:",
        promise="one big grab of memory is refused",
        caught_by=_PROCESSES + "test_one_big_grab_of_memory_is_refused_by_the_rlimit",
    ),
    defect(
        "orphan-left-after-guardian-death", "cpc.worker.guardian:_keep", "end_children()", "pass",
        promise="no process of a job outlives its guardian",
        caught_by=_GUARDIAN + "test_a_killed_guardian_leaves_nothing_and_is_not_the_jobs_fault",
        quick=True,
    ),
    defect(
        "daemon-gets-away", "cpc.worker.guardian:main", "_prctl(PR_SET_CHILD_SUBREAPER, 1)\n    _prctl(PR_SET_PDEATHSIG",
        "_prctl(PR_SET_PDEATHSIG",
        promise="what a job forks away ends with the job",
        caught_by=_GUARDIAN + "test_a_daemon_of_a_job_ends_with_the_job",
    ),
    defect(
        "walltime-not-kept", "cpc.worker.guardian:Guardian._start", "if walltime:", "if walltime and number < 0:",
        promise="a job over its walltime is ended",
        caught_by=_PROCESSES + "test_an_attempt_over_its_walltime_is_asked_then_ended",
    ),
    defect(
        "line-crowds-the-slots", "cpc.worker.guardian:Guardian._next", "len(self._attempts) >= beside",
        "len(self._attempts) > beside",
        promise="what is next begins when another has ended, not before",
        caught_by=_LINE + "test_no_more_run_at_a_time_than_may",
    ),
    defect(
        "withdrawn-though-it-runs", "cpc.worker.processes:GuardedProcesses.withdraw", 'self._say(key, "withdraw")',
        "self.stop(key, 0.0)",
        promise="a job that runs is not taken back because it waited long",
        caught_by=_LINE + "test_what_is_withdrawn_or_stopped_in_line_has_not_begun",
    ),
    defect(
        "next-with-another-need", "cpc.worker.slots:Slots._suits", "first.wanted == self._last", "True",
        promise="a job begins only in room that is its own",
        caught_by="tests/unit/test_slots.py::test_nobody_is_next_whose_need_is_another_or_whose_things_have_names", quick=True,
    ),
    defect(
        "gpus-given-out-twice", "cpc.worker.slots:Slots._suits", "and not first.by_name", "",
        promise="what is set aside by name is free before it is given out",
        caught_by="tests/unit/test_slots.py::test_nobody_is_next_whose_need_is_another_or_whose_things_have_names", quick=True,
    ),
    defect(
        "directory-given-on-with-something-in-it", "cpc.worker.running:Attempt._collect_brief",
        "all(map(untouched, listing)) and", "",
        promise="no job sees what another has left",
        caught_by="tests/unit/test_agent_jobs.py::test_only_a_directory_with_nothing_in_it_is_anothers_at_once",
    ),
    defect(
        "unknown-to-the-server-and-forgotten", "cpc.worker.desk:Desk._settle", "settled.verdict == Verdict.ASIDE", "False",
        promise="what a restore has undone is kept at the worker that has done it",
        caught_by="tests/unit/test_agent_aside.py::"
        "test_what_a_job_has_left_is_kept_aside_and_told_of_when_the_server_does_not_know_it",
    ),
    # --- told to end ---
    defect(
        "second-sigterm-of-slurm-kills", "cpc.worker.main:_leave_on_signals", "if not batch or number == signal.SIGINT:",
        "if True:",
        promise="a batch system may say several times that an allocation ends",
        caught_by="tests/integration/test_worker_program.py::"
        "test_in_a_batch_job_sigterm_may_come_often_and_reach_the_jobs_as_well",
    ),
    defect(
        "told-before-the-worker-is-blamed", "cpc.worker.running:Attempt._listen", "if room.listens and", "if False and",
        promise="a job that a batch system has ended is not blamed",
        caught_by="tests/unit/test_agent_jobs.py::"
        "test_what_ends_because_the_whole_allocation_does_is_handed_back_though_it_ends_before_the_worker_is_told",
    ),
    defect(
        "done-after-the-signal", "cpc.worker.running:Attempt._listen", "if room.told:", "if False:",
        promise="what ends after the worker was told to leave is not done",
        caught_by="tests/unit/test_agent_jobs.py::"
        "test_what_has_ended_since_the_signal_came_is_handed_back_though_the_reactor_has_not_heard_of_it",
    ),
    defect(
        "held-is-named-once-only", "cpc.worker.session:Session.run", "< self._desk.beat / 2", "< 1e9",
        promise="what a worker holds is named in every beat",
        caught_by="tests/unit/test_agent.py::"
        "test_what_a_worker_holds_is_named_twice_in_a_beat_if_the_server_takes_brief_turns",
    ),
    defect(
        "last-words-unheard", "cpc.worker.search:PathSearch._listen", "if not ready and ended:",
        "if not ready and process.poll() is not None:",
        promise="what a program says at its very end is heard",
        caught_by="tests/unit/test_executables.py::test_what_a_program_says_at_its_very_end_is_heard",
    ),
)  # fmt: skip
