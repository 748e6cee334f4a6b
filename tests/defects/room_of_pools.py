"""Defects of what batch systems are asked for: `cpc.pools`."""

from tests.defects.defect import defect

_SIMULATION = "tests/simulation/pools/test_pools.py::"
_ANY = _SIMULATION + "test_any_pools_with_any_faults"
_LIMITS = "tests/unit/test_pools_limits.py::"
_KEPT = "tests/unit/test_pools_kept.py::"
_CREDENTIALS = "tests/unit/test_pools_credentials.py::"
_SERIES = "tests/unit/test_pools_series.py::"
_UNUSABLE = "tests/unit/test_pools_unusable.py::"
_SCALE = "tests/unit/test_pools_scale.py::"
_PROBE = "tests/unit/test_pools_probe.py::"
_RAMP = "tests/unit/test_pools_ramp.py::"
_DIRECT = "tests/unit/test_pools_direct.py::"

POOLS = (
    defect(
        "back-off-does-not-double", "cpc.pools.learning:pause", "FIRST * 2.0 ** min(setback.count - 1, 20)", "FIRST",
        promise="a batch system that takes nothing is asked less and less",
        caught_by=_SIMULATION + "test_a_batch_system_that_takes_nothing_is_asked_less_and_less_and_used_when_it_does",
        quick=True,
    ),
    defect(
        "back-off-for-ever", "cpc.pools.room:Room.__post_init__", "until > max(self.now,", "until + 1e9 > max(self.now,",
        promise="a pool that could serve is tried again",
        caught_by=_ANY,
    ),
    defect(
        "refusals-at-once-count-each", "cpc.pools.learning:_again", "now < setback.at + pause(setback)", "False",
        promise="refusals of what was asked for at the same time are one",
        caught_by=_LIMITS + "test_refusals_of_what_was_asked_for_at_the_same_time_are_one",
    ),
    defect(
        "leaving-ones-do-not-count", "cpc.pools.allocation:State.live", "self is not State.ENDED",
        "self not in (State.ENDED, State.LEAVING)",
        promise="whatever may be there counts against the limits",
        caught_by=_LIMITS + "test_whatever_may_be_there_counts_against_the_limits",
    ),
    defect(
        "lost-answer-is-a-refusal", "cpc.pools.allocation:_ROWS", "Event.SILENT: (_U, (Effect.LOOK,)),\n        Event.MISSING",
        "Event.SILENT: (_E, (Effect.CLOSE,)),\n        Event.MISSING",
        promise="a lost answer is looked for before anything is asked again",
        caught_by="tests/unit/test_pools_allocation.py::"
        "test_a_lost_answer_is_looked_for_and_never_asked_again_before_that_is_known",
    ),
    defect(
        "budget-of-what-runs-only", "cpc.pools.learning:_left", "else one.walltime", "else 0.0",
        promise="no pool uses more than its budget within any 24 hours",
        caught_by=_LIMITS + "test_whatever_may_be_there_counts_against_the_limits",
    ),
    defect(
        "asked-for-twice", "cpc.pools.survey:Survey._serve",
        "left -= self._count(self._coming, demand, left, found)", "self._count(self._coming, demand, left, found)",
        promise="what is on its way is counted",
        caught_by="tests/unit/test_pools_properties.py::test_a_second_look_asks_for_nothing_more",
    ),
    defect(
        "idle-for-ever", "cpc.pools.scale:_Stops._running", "if since + keep <= self._now:", "if since + 9 * keep <= self._now:",
        promise="an idle worker leaves",
        caught_by=_ANY,
    ),
    defect(
        "walltime-not-looked-at", "cpc.pools.fit:in_time", "exact.walltime <= left or exact.checkpoints", "True",
        promise="no allocation for a job that can neither finish in it nor keep a part",
        caught_by=(_SCALE + "test_a_running_one_counts_only_for_what_it_can_finish_or_keep", _ANY),
    ),
    defect(
        "useless-worker-keeps-the-room", "cpc.pools.scale:_Stops._running", "keep = min(keep, MAKE_ROOM)", "pass",
        promise="an idle worker makes room for what waits in vain",
        caught_by=_SCALE + "test_an_idle_worker_makes_room_for_what_waits_in_vain",
    ),
    defect(
        "all-nodes-left-out", "cpc.pools.nodes:excluded", "bad[:most]", "bad",
        promise="never are all nodes left out",
        caught_by=_LIMITS + "test_never_are_all_nodes_left_out",
    ),
    defect(
        "forgets-when-to-look-again", "cpc.pools.scale:_Stops._pending", "self.times.append(unneeded)", "pass",
        promise="nothing changes with time alone before it says so",
        caught_by=(
            "tests/unit/test_pools_properties.py::test_nothing_changes_with_time_alone_before_it_says_so",
            _SCALE + "test_what_nothing_waits_for_is_cancelled_after_a_while",
        ),
    ),
    defect(
        "late-ones-hold-up-everything", "cpc.pools.survey:Survey._seat_allocation",
        "self._late[one.pool] if late else self._coming", "self._coming",
        promise="for what is late another pool is asked",
        caught_by=_SCALE + "test_for_what_is_late_another_pool_is_asked_and_the_place_in_the_queue_is_kept",
    ),
    defect(
        "look-is-taken-for-a-worker", "cpc.pools.survey:Survey._seat_allocation", "one.probe is not None or not", "not",
        promise="no job waits for an allocation that only looks",
        caught_by=_PROBE + "test_a_job_that_waits_is_not_counted_on_it",
        quick=True,
    ),
    defect(
        "look-outlives-who-asked", "cpc.pools.scale:_Stops._probe", "if unneeded <= self._now:",
        "if unneeded + 1e6 <= self._now:",
        promise="a look that nobody waits for ends",
        caught_by=_PROBE + "test_what_nobody_waits_for_is_cancelled_and_leaves_nothing",
    ),
    defect(
        "look-of-a-full-pool", "cpc.pools.room:Room.full", "if room < 1 and", "if room < -9 and",
        promise="a look counts against the limits of its pool",
        caught_by=_PROBE + "test_a_full_pool_is_not_looked_at_and_a_paused_one_is",
    ),
    defect(
        "look-blames-the-node", "cpc.server.pools.happening:Happening._judge", "if facts.probe is not None or", "if",
        promise="no node is left out because a look failed there",
        caught_by=_PROBE + "test_a_node_that_cannot_tell_is_understood_by_how_it_ended",
    ),
    defect(
        "look-enrols-workers", "cpc.server.bundles:Bundles._count", "if allocation.facts.probe is not None:", "if False:",
        promise="the credential of a look enrols nobody",
        caught_by=_PROBE + "test_a_node_tells_what_it_finds_once_and_can_do_nothing_else",
    ),
    defect(
        "look-of-part-of-a-node", "cpc.server.pools.probing:Probing.start.unit", "else row.facts.node_cores", "else 0",
        promise="a look counts with the whole node that its queue gives",
        caught_by="tests/unit/test_pools_whole.py::test_a_look_counts_with_the_whole_node_that_its_queue_gives",
    ),
    defect(
        "look-takes-the-others-file", "cpc.server.pools.probing:Probing._remove_mark", "self._book.live.values()",
        "self._book.of_pool(row.pool)",
        promise="a look leaves others what they wait for",
        caught_by=_PROBE + "test_looks_at_the_same_place_do_not_take_each_other_s_file_away",
    ),
    defect(
        "look-told-twice", "cpc.server.pools.probing:Probing.report.unit", "if asked.checks or not", "if not",
        promise="a look is told once",
        caught_by=_PROBE + "test_a_node_tells_what_it_finds_once_and_can_do_nothing_else",
    ),
    defect(
        "stuck-ones-just-wait", "cpc.server.pools.hand:Hand._one", "Waits(one.reason, one.stuck)", "Waits(one.reason)",
        promise="what waits for what does not come by itself is told from what waits for its turn",
        caught_by="tests/unit/test_pools_waiting.py::test_what_waits_for_what_does_not_come_is_told_from_it",
    ),
    # --- a part first ---
    defect(
        "all-at-once-though-nobody-knows", "cpc.pools.ramp:applies", "if room.pool.direct or", "if True or",
        promise="while nobody knows how long jobs take, a quick pool is asked for a part",
        caught_by=_RAMP + "test_a_part_is_asked_for_first",
        quick=True,
    ),
    defect(
        "a-part-for-ever", "cpc.pools.ramp:applies", " or _proven(demand) >= LONG", "",
        promise="what has run for some minutes without an end is long, and the rest is asked for",
        caught_by=(
            _RAMP + "test_it_grows_as_they_run_and_the_rest_is_asked_for_when_they_have_run_for_some_minutes",
            _SIMULATION + "test_long_jobs_wait_a_few_minutes_for_it_to_be_known_that_they_are",
        ),
    ),
    defect(
        "a-part-of-what-is-known", "cpc.pools.ramp:applies", "demand.seconds or ", "",
        promise="when the first has ended it is known how long they take",
        caught_by=_RAMP + "test_when_the_first_has_ended_it_is_known",
    ),
    defect(
        "direct-ones-in-parts", "cpc.pools.ramp:applies", "room.pool.direct or ", "",
        promise="a pool with one job for each allocation is asked for all of them",
        caught_by=_RAMP + "test_direct_pools_are_asked_for_all_of_it",
    ),
    defect(
        "long-waits-in-parts", "cpc.pools.ramp:applies", "learning.usual_wait(room.learned) < SOON", "True",
        promise="a pool with a long queue is asked for everything at once",
        caught_by=_RAMP + "test_a_pool_that_does_not_start_soon_is_asked_for_all_of_it",
    ),
    defect(
        "held-back-ones-passed-on", "cpc.pools.survey:Survey._serve", "left - found.held -", "left -",
        promise="what waits for it to be known how long it takes is asked of no other pool",
        caught_by=_RAMP + "test_another_pool_is_asked_only_for_what_this_one_may_not_take",
    ),
    defect(
        "first-end-speaks-for-all", "cpc.pools.facts:Demand.takes", "max(self.seconds, self.half // LOOK * LOOK)", "self.seconds",
        promise="jobs that go on are long, though one failed at once",
        caught_by=_RAMP + "test_jobs_that_go_on_though_the_first_to_end_were_brief_are_long",
    ),
    defect(
        "restart-forgets-since-when-jobs-run", "cpc.server.queue:Queue._running", "started=attempt.started", "started=1 << 62",
        promise="a server that was restarted knows for how long jobs have run",
        caught_by=_RAMP + "test_a_server_that_was_restarted_goes_on_with_what_runs",
    ),
    defect(
        "rounds-begin-with-a-part", "cpc.server.pools.demand:demand", "before=queue.pace.of_alike(project, number) or 0.0",
        "before=0.0",
        promise="of jobs whose like were long all is asked for at once",
        caught_by=_RAMP + "test_the_next_round_of_long_jobs_is_asked_for_at_once",
    ),
    # --- the server's side: what is asked, and found again ---
    defect(
        "allocation-forgotten-at-restart", "cpc.server.pools.keeper:Keeper._load",
        "self.happening.happen(tx, row.token, Event.SILENT)", "pass",
        promise="a server that is killed at any moment finds what it has asked for",
        caught_by=_KEPT + "test_a_server_that_is_killed_at_any_moment_finds_everything_again",
    ),
    defect(
        "strangers-left-running", "cpc.server.pools.hand:Hand._take", "if strangers and any(", "if not strangers and any(",
        promise="what nobody knows any more is cancelled",
        caught_by=_KEPT + "test_what_a_lost_life_has_asked_for_is_cancelled",
    ),
    defect(
        "second-of-a-token-left-running", "cpc.server.pools.hand:Hand._which", "if other is not chosen:", "if other is None:",
        promise="one token is one allocation",
        caught_by=_KEPT + "test_a_second_one_with_the_same_token_is_cancelled",
    ),
    defect(
        "credentials-outlive-the-allocation", "cpc.server.pools.happening:Happening._close",
        "self._bundles.close(tx, row.bundle)", "pass",
        promise="an allocation's credentials end with it",
        caught_by=_CREDENTIALS + "test_credentials_end_with_the_allocation",
    ),
    defect(
        "bundle-enrols-any-number", "cpc.server.bundles:Bundles._count", "row.used >= allocation.facts.nodes",
        "row.used + 1 < -allocation.facts.nodes",
        promise="a copied bundle enrols no more workers than the allocation has nodes and starts",
        caught_by=_CREDENTIALS + "test_a_bundle_enrols_no_more_workers_than_its_nodes_explain",
    ),
    defect(
        "lost-submission-is-a-refusal", "cpc.server.pools.requests:Requests._send",
        "silent = {token: (Event.SILENT,", "silent = {token: (Event.REFUSED,",
        promise="a submission whose answer was lost is settled by its token",
        caught_by=_KEPT + "test_a_lost_answer_is_settled_by_the_token",
    ),
    defect(
        "forgotten-there-means-gone", "cpc.server.pools.hand:Hand._one",
        "if row.token not in self._book.workers.values():", "if True:",
        promise="a worker that talks is better news than a batch system that has forgotten",
        caught_by=_KEPT + "test_a_batch_system_that_forgets_what_runs_is_not_believed_while_workers_speak",
    ),
    defect(
        "unusable-pool-is-no-more", "cpc.pools.scale:_Stops._rest", "one.pool in self._survey.held", "False",
        promise="what runs in a pool that cannot be used for a while is left alone",
        caught_by=_UNUSABLE + "test_what_runs_in_a_pool_whose_plugin_cannot_be_loaded_is_left_alone",
    ),
    defect(
        "given-jobs-are-forgotten", "cpc.server.pools.keeper:Keeper._decide", "self._given |= given", "pass",
        promise="a worker that was given a job is not taken for one that fits none",
        caught_by=_UNUSABLE + "test_a_worker_was_given_a_job_also_when_that_could_not_be_written_at_once",
    ),
    defect(
        "whole-nodes-count-in-part", "cpc.pools.allocation:Allocation.cores",
        "max(self.nodes * self.each.cores, self.whole)", "self.nodes * self.each.cores",
        promise="limits and budget are charged with whole nodes where they are given",
        caught_by="tests/unit/test_pools_whole.py::test_whole_nodes_count_with_all_of_their_cores",
    ),
    defect(
        "whole-nodes-asked-for-unseen", "cpc.server.pools.keeper:Keeper.decide", "hand is not None and hand.sized",
        "hand is not None",
        promise="a pool of whole nodes is not asked before it is known how large they are",
        caught_by="tests/unit/test_pools_whole.py::"
        "test_a_pool_of_whole_nodes_is_not_asked_before_it_is_known_how_large_they_are",
    ),
    defect(
        "one-bundle-for-a-series", "cpc.server.pools.script:_table", "_bundle(text)", "_bundle(bundles[0])",
        promise="each enrols with credentials of its own, also those asked for together",
        caught_by=(
            _SERIES + "test_what_is_alike_is_one_request_and_each_worker_enrols_as_its_own",
            "tests/unit/test_pool_script.py::"
            "test_one_of_a_series_takes_its_own_bundle_and_one_that_is_not_wanted_ends_at_once",
        ),
    ),
    defect(
        "series-cancelled-by-its-token", "cpc.server.pools.series:handle", "Handle(native, asked, index)",
        "Handle(native, asked, 0)",
        promise="cancelling one of a series cancels one",
        caught_by=_SERIES + "test_cancelling_one_of_a_series_cancels_one",
    ),
    defect(
        "limit-refuses-the-series", "cpc.server.pools.requests:Requests._send", "half = len(tokens) // 2", "half = 0",
        promise="where a batch system takes fewer for now, fewer are asked for",
        caught_by=_SERIES + "test_where_the_system_takes_fewer_than_that_for_now_fewer_are_asked_for",
    ),
    defect(
        "unwanted-ones-enrol", "cpc.server.pools.requests:Requests._asked", 'text.decode() if token in wanted else ""',
        "text.decode()",
        promise="what is not wanted any more when it is sent gets no credentials",
        caught_by=_SERIES + "test_what_is_not_wanted_any_more_by_the_time_a_series_is_sent_does_not_stay",
    ),
    defect(
        "forgotten-ones-still-enrol", "cpc.pools.allocation:_ROWS",
        "Event.OVERDUE: (_L, (Effect.CANCEL,)),\n        Event.FORGOTTEN: (_E, (Effect.CLOSE,)),\n    },\n    _L:",
        "Event.OVERDUE: (_L, (Effect.CANCEL,)),\n        Event.FORGOTTEN: (_E, ()),\n    },\n    _L:",
        promise="what is forgotten cannot come back",
        caught_by=_UNUSABLE
        + "test_a_pool_whose_plugin_is_gone_for_good_is_forgotten_and_what_may_still_run_is_told",
    ),
    defect(
        "forgotten-at-a-whim", "cpc.server.pools.removal:Removal.forget", "if live and not self._trouble(row):", "if False:",
        promise="what can be ended is not forgotten",
        caught_by=_UNUSABLE
        + "test_a_pool_whose_plugin_is_gone_for_good_is_forgotten_and_what_may_still_run_is_told",
    ),
    defect(
        "forgotten-ones-come-back", "cpc.server.pools.happening:Happening.happen", "row.pool not in self.book.pools", "False",
        promise="what a forgotten pool is still told brings nothing back",
        caught_by=_UNUSABLE + "test_what_a_forgotten_pool_is_still_told_brings_nothing_back",
    ),
    defect(
        "failing-plugin-asked-at-once", "cpc.server.pools.hand:Hand._work", "self.trouble = failed(self.scheduler, error)",
        "pass",
        promise="a plugin that fails in a way of its own is left alone for a while, and told",
        caught_by=_KEPT + "test_a_plugin_that_always_fails_is_not_asked_without_end",
    ),
    defect(
        "failing-plugin-has-sent-nothing", "cpc.server.pools.requests:Requests._send",
        "(Event.SILENT, {\"words\": words})", "(Event.REFUSED, {\"words\": words})",
        promise="what a plugin that fails may have sent is looked for, not sent again",
        caught_by=_KEPT + "test_a_plugin_that_fails_in_a_way_of_its_own_is_not_asked_for_the_same_again",
    ),
    defect(
        "missed-since-it-was-written", "cpc.server.pools.hand:Hand._look", "self._lost.get(row.token, now)",
        "row.facts.asked_at",
        promise="what was sent late has its time to become visible",
        caught_by=_KEPT + "test_what_was_sent_late_has_its_time_to_become_visible",
    ),
    defect(
        "leaves-out-what-it-cannot", "cpc.server.pools.requests:Requests._asked", "if excludes else ()", "if True else ()",
        promise="a batch system that can leave no node out is asked all the same",
        caught_by="tests/unit/test_pools_nodes.py::"
        "test_a_batch_system_that_can_leave_no_node_out_is_asked_all_the_same",
    ),
    defect(
        "left-out-in-words-only", "cpc.server.pools.happening:Happening._judge", " or not self.hands.excludes(facts.pool)", "",
        promise="no node is said to be left out where none can be",
        caught_by="tests/unit/test_pools_nodes.py::test_no_node_is_said_to_be_left_out_where_none_can_be",
    ),
    defect(
        "sent-again-for-want-of-a-row", "cpc.server.pools.requests:Requests.send", "if base in self._untold:", "if False:",
        promise="what was sent is not sent again because its answer was not written",
        caught_by=_SERIES + "test_what_was_sent_is_not_sent_again_because_the_answer_could_not_be_written",
    ),
    defect(
        "lost-though-it-speaks", "cpc.server.pools.hand:Hand._found", " - set(self._book.workers.values())", "",
        promise="what has a worker that talks is not given up because its request got lost",
        caught_by=_KEPT + "test_one_whose_worker_speaks_is_not_given_up_because_its_request_got_lost",
    ),
    defect(
        "part-of-its-nodes-is-all", "cpc.server.pools.hand:Hand._given", "if every and cores", "if cores",
        promise="what is left of an allocation that ends says nothing of whole nodes",
        caught_by="tests/unit/test_pools_whole.py::"
        "test_what_is_left_of_an_ending_one_is_not_taken_for_all_of_its_nodes",
    ),
    defect(
        "given-is-what-was-asked-for", "cpc.server.pools.hand:Hand._one", "self._given(tx, row.token, one)\n            case",
        "pass\n            case",
        promise="limits and budget are charged with what the batch system gives by itself",
        caught_by="tests/unit/test_pools_whole.py::test_whole_cores_count_where_less_was_asked_for",
    ),
    defect(
        "workers-on-all-nodes-killed-at-once", "cpc.server.pools.script:wanted",
        '(scheduler.end_every_node() if every else "") or', "",
        promise="workers on several nodes hand back when their allocation ends",
        caught_by="tests/unit/test_pool_script.py::test_workers_on_several_nodes_are_told_by_the_batch_systems_own_words",
    ),
    # --- one job for each allocation ---
    defect(
        "large-one-has-a-small-job", "cpc.queue.match:_Order.again", "asked_for is not None and", "False and",
        promise="a direct allocation has a job of the size that it was asked for",
        caught_by=_DIRECT + "test_in_whatever_order_workers_come_there_is_one_allocation_for_each_job",
        quick=True,
    ),
    defect(
        "who-it-is-for-is-not-said", "cpc.server.pools.happening:Happening.worker_joined", "if facts.asked_for is not None:",
        "if False:",
        promise="a worker that joins is known by what its allocation was asked for",
        caught_by=_DIRECT + "test_in_whatever_order_workers_come_there_is_one_allocation_for_each_job",
    ),
    defect(
        "shares-before-size", "cpc.queue.match:_Order.again", "other, standing", "standing, other",
        promise="no allocation for a large job is wasted on a small one of another project",
        caught_by=_DIRECT
        + "test_the_size_asked_for_comes_before_the_shares_of_projects_which_decide_among_jobs_of_it",
    ),
    defect(
        "asked-for-who-was-there-first", "cpc.pools.survey:Survey.__init__", "held[one.project], one.standing,",
        "held[one.project],", promise="the next allocation is asked for whose turn it is",
        caught_by=_DIRECT + "test_where_a_pool_gives_few_allocations_projects_have_them_in_turn",
    ),
    defect(
        "several-jobs-for-one-allocation", "cpc.queue.match:fill", "limit = 1", "pass",
        promise="a worker for one job is given one",
        caught_by=_DIRECT + "test_it_takes_one_job_and_never_another",
    ),
    defect(
        "another-job-after-the-first", "cpc.queue.index:Index._take", "if session.asked_for is not None:", "if False:",
        promise="a worker for one job is given no other after that",
        caught_by=_DIRECT + "test_a_worker_that_has_had_its_job_is_given_no_other_when_that_is_cancelled",
    ),
    defect(
        "small-one-counted-on-a-large-one", "cpc.pools.survey:Survey._in_turn", "if not seat.kept and", "if",
        promise="no small job is counted on what was asked for a large one that waits",
        caught_by=_DIRECT + "test_no_small_job_is_counted_on_what_was_asked_for_a_large_one_that_waits",
    ),
)  # fmt: skip
