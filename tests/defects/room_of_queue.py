"""Defects of decisions about jobs: `cpc.queue`, and the units of the server that carry them out."""

from tests.defects.defect import defect

_QUIET = "tests/simulation/test_quiet.py::"
_STORIES = "tests/simulation/test_stories.py::"
_SUBMISSION = "tests/unit/test_submission.py::"
_SETTLING = "tests/unit/test_settling.py::"

QUEUE = (
    # --- leases ---
    defect(
        "reaper-counts-its-own-outage", "cpc.queue.leaseclock:LeaseClock.tick", "else PACE", "else gap",
        promise="a server that stood still gives no job away",
        caught_by=_QUIET + "test_a_server_that_stood_still_gives_no_job_away",
        quick=True,
    ),
    defect(
        "database-outage-expires-leases", "cpc.server.monitor:Monitor._tick", "bool(self._store.writer.away)", "False",
        promise="time in which the database was away counts for nobody",
        caught_by=_QUIET + "test_a_database_that_was_away_gives_no_job_away",
    ),
    defect(
        "nobody-connected-nothing-expires", "cpc.server.monitor:Monitor._work", "index.sessions or index.running",
        "index.sessions",
        promise="a job whose worker ended while the server was away waits again",
        caught_by=_STORIES + "test_a_job_whose_worker_ended_while_the_server_was_away_is_taken_from_it",
    ),
    defect(
        "dead-worker-taken-for-forgetful", "cpc.server.monitor:Monitor.expire", " and self._missed(run)", "",
        promise="a job counts as lost with its worker, whenever that has named it last",
        caught_by=_STORIES + "test_a_worker_that_dies_after_a_turn_that_named_nothing_is_lost_with_its_job",
    ),
    defect(
        "shorter-heartbeat-counts-at-once", "cpc.server.monitor:Monitor._is_silent", "return heard < limit and",
        "return heard < limit or",
        promise="a heartbeat time that is made shorter loses no job",
        caught_by="tests/simulation/test_heartbeats.py::test_a_heartbeat_time_that_is_made_shorter_loses_nothing",
    ),
    defect(
        "shorter-heartbeat-not-told", "cpc.worker.desk:Desk.obey", "if orders.beat:", "if orders.beat < 0.0:",
        promise="who is joined hears of another heartbeat time at once",
        caught_by="tests/simulation/test_heartbeats.py::test_a_heartbeat_time_that_is_made_shorter_loses_nothing",
    ),
    defect(
        "shorter-heartbeat-counts-for-homes-at-once", "cpc.server.federation.owner:Owner.promised",
        "self._hearing.promised(self.register.way_to(worker))", "0.0",
        promise="a heartbeat time that is made shorter loses no job that is lent",
        caught_by="tests/simulation/federation/test_beats.py::"
        "test_a_heartbeat_time_that_is_made_shorter_loses_nothing_that_is_lent",
    ),
    defect(
        "lease-not-extended-after-restart", "cpc.server.queue:Queue._running", "renewed=self.now",
        "renewed=self.now - self.limits.heartbeat_time",
        promise="after a restart every running attempt has a whole period",
        caught_by=_STORIES + "test_a_restart_of_the_server_is_noticed_by_nobody",
    ),
    defect(
        "silent-before-it-has-a-seat", "cpc.server.machines:Machines.heard", "joined.since if", "0.0 if",
        promise="a worker that has just said hello is not silent",
        caught_by="tests/simulation/test_heartbeats.py::test_a_worker_that_has_just_said_hello_is_not_silent",
    ),
    # --- verdicts ---
    defect(
        "no-verdict-on-old-attempts", "cpc.queue.verdict:_table", "Verdict.ACCEPT_LATE if success else Verdict.DROP",
        "Verdict.DROP",
        promise="finished science of an old attempt is accepted",
        caught_by=_STORIES + "test_a_frozen_worker_delivers_late_and_once",
    ),
    defect(
        "late-failure-of-an-old-attempt-counts", "cpc.server.settling:_judge", "run.lease == lease and", "",
        promise="only the current attempt may fail a job",
        caught_by=(_SETTLING + "test_an_old_attempt_can_only_deliver_a_success", "seeds 0-59"),
    ),
    defect(
        "restored-server-matches-old-numbers", "cpc.server.settling:_relation",
        "attempt is None or attempt.incarnation != lease.incarnation", "attempt is None",
        promise="what a lost life has leased is put aside, not matched by number",
        caught_by=_SETTLING + "test_what_another_life_of_the_server_leased_is_put_aside",
    ),
    defect(
        "closed-twice-in-one-turn", "cpc.server.settling:_judge",
        "next((row for row in work.closed if row.id == lease.job), None)", "None",
        promise="a result is accepted once, also when two come at once",
        caught_by=_SETTLING + "test_two_old_attempts_that_succeed_in_one_turn_close_the_job_once",
    ),
    defect(
        "result-told-again-is-kept-twice", "cpc.server.settling:_judge", "kept=there is not None", "kept=False",
        promise="a success that is told again closes a job that was retried meanwhile",
        caught_by=_SETTLING + "test_a_success_that_is_told_again_closes_a_job_that_is_to_be_done_again",
    ),
    defect(
        "poison-guard-off-by-one", "cpc.queue.verdict:gives_up", "losses >= max_losses", "losses > max_losses",
        promise="a job that kills every worker is stopped after max_losses",
        caught_by=_STORIES + "test_a_job_that_kills_every_worker_is_stopped",
    ),
    defect(
        "infrastructure-counts-as-a-failure", "cpc.server.settling:_again_or_end",
        "failures=run.failures + (said is Verdict.COUNT)", "failures=run.failures + 1",
        promise="only the job's own exit counts as its failure", caught_by="seeds 0-59",
    ),
    # --- going back, and on ---
    defect(
        "attempt-number-reused", "cpc.server.closing:requeue", "(run.lease.attempt,", "(run.lease.attempt - 1,",
        promise="no number of an attempt is given twice", caught_by="seeds 0-59",
    ),
    defect(
        "requeue-forgets-the-checkpoint", "cpc.server.queue:Queue._task", "checkpoint[2] if checkpoint else None", "None",
        promise="the next attempt goes on from the last checkpoint",
        caught_by=_STORIES + "test_a_lost_worker_costs_what_came_after_the_last_checkpoint",
    ),
    defect(
        "new-checkpoint-dropped-with-the-old", "cpc.server.settling:take_checkpoints", "before[0] + 1", "before[0]",
        promise="the chunks of a checkpoint on record are kept", caught_by="seeds 0-59",
    ),
    defect(
        "cancel-stays-at-home", "cpc.server.closing:cancel_run", "queue.outbox.cancel(tx, session.number, run.lease, reason)",
        "pass",
        promise="a cancel reaches the running process",
        caught_by=_QUIET + "test_a_cancelled_job_stops_where_it_runs",
    ),
    # --- who is next ---
    defect(
        "window-refill-skips-a-job", "cpc.queue.window:Window.fill", "in rows:", "in rows[1:]:",
        promise="a window holds every eligible job up to its watermark", caught_by="seeds 0-59",
    ),
    defect(
        "window-order-lost", "cpc.queue.window:Window._insert", "key < self.entries[-1]", "key > self.entries[-1]",
        promise="a job goes back to its old place in the order", caught_by="seeds 0-59",
    ),
    defect(
        "priority-inversion", "cpc.queue.match:_Order.again", "(rank, other", "(-rank, other",
        promise="higher priority begins first, whatever class it is of",
        caught_by=_QUIET + "test_what_matters_more_begins_first",
    ),
    defect(
        "fair-share-not-charged", "cpc.server.closing:end_attempt", "used - run.granted.cores", "-run.granted.cores",
        promise="projects share workers in the measure of their use",
        caught_by=_QUIET + "test_two_projects_share_a_worker",
    ),
    defect(
        "big-job-blocks-the-queue", "cpc.queue.match:fill", "if run is not None:",
        "if run is None:\n            break\n        else:",
        promise="a job that does not fit blocks nobody behind it", caught_by="seeds 0-59",
    ),
    defect(
        "cores-given-twice", "cpc.queue.index:Index._add", "session.free -= run.granted",
        "session.free -= run.granted - run.granted",
        promise="no worker is given more than it has", caught_by="seeds 0-59",
    ),
    defect(
        "drain-hands-work-out", "cpc.queue.session:Session.hungry", "self.drain is None and", "",
        promise="a draining worker gets nothing new",
        caught_by=_QUIET + "test_a_draining_worker_gets_nothing_until_it_is_resumed",
    ),
    # --- who waits ---
    defect(
        "dependency-released-on-failure", "cpc.queue.dependency:doomed", "needs_success and not succeeded", "False",
        promise="what waits for a success never runs after a failure", caught_by="seeds 0-59",
    ),
    defect(
        "dependency-released-early", "cpc.server.closing:_array_ended", "if still_open:", "if still_open > 1:",
        promise="a job begins when all it waits for has ended",
        caught_by=_SUBMISSION + "test_a_job_waits_for_the_whole_of_another",
    ),
    defect(
        "array-counts-drift", "cpc.server.submission:retry", "bad=-failed", "bad=0",
        promise="the counts of a submission are those of its jobs",
        caught_by=_SUBMISSION + "test_only_what_failed_or_was_cancelled_is_retried",
    ),
    defect(
        "why-says-soon-for-ever", "cpc.queue.why:standing", "session.free.covers", "session.total.covers",
        promise="the reason for a wait is the true one", caught_by="seeds 0-59",
    ),
    defect(
        "why-lies-about-the-nearest-miss", "cpc.queue.why:_nearest_misses", "(len(miss[0])", "(-len(miss[0])",
        promise="the nearest miss is named first",
        caught_by="tests/unit/test_queue_why.py::test_nobody_could_ever_run_it_and_the_nearest_miss_is_first",
    ),
)  # fmt: skip
