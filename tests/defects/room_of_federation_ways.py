"""Defects of what goes between servers: what is believed though it is old, what is read, and how much is on its way at once."""

from tests.defects.defect import defect

_REPLAYS = "tests/unit/test_peer_replays.py::"
_FILES = "tests/unit/test_far_files.py::"
_RIGHTS = "tests/unit/test_far_rights.py::"
_CLAIMS = "tests/unit/test_lending_claims.py::"
_OWN = "tests/unit/test_lending_own_hostile.py::"
_BULK = "tests/unit/test_wire_bulk.py::"
_LINKS = "tests/unit/test_links.py::"
_INTAKE = "tests/unit/test_wire_intake.py::"
_OFF = "tests/unit/test_lending_off.py::"
_NETWORKS = "tests/unit/test_lending_networks.py::"
_LIMITS = "tests/unit/test_lending_limits.py::"

FEDERATION_WAYS = (
    # --- what is old ---
    defect(
        "request-good-for-ever", "cpc.server.federation.requests:Requests._check", "self._fresh.use(request.word)", "pass",
        promise="who has kept a request cannot send it again",
        caught_by=_REPLAYS + "test_who_took_a_request_back_once_can_ask_again", quick=True,
    ),
    defect(
        "request-good-twice", "cpc.server.federation.fresh:Fresh.use", "or word in self._used", "",
        promise="a request is good once",
        caught_by=_REPLAYS + "test_a_request_that_was_kept_is_good_for_nothing_whatever_has_become_of_the_two",
    ),
    defect(
        "word-of-anybody", "cpc.server.federation.fresh:Fresh._until", "if not hmac.compare_digest(proof, self._proof(said)):",
        "if not proof:", promise="a request has a word in it that this server has given in this life",
        caught_by=_REPLAYS + "test_a_request_without_a_word_of_this_life_is_refused_and_asking_again_helps",
    ),
    defect(
        "word-in-other-letters", "cpc.server.federation.fresh:Fresh._until", "or data.hex() != word", "",
        promise="a word written in another way is no other word",
        caught_by=_REPLAYS + "test_a_request_without_a_word_of_this_life_is_refused_and_asking_again_helps",
    ),
    defect(
        "end-held-back-ends-a-later-trust", "cpc.server.federation.links:Links._has_ended", "if self._met[server] == met:",
        "if self._met[server] >= met:", promise="words of an end that were held back end no later trust",
        caught_by=_REPLAYS + "test_an_end_that_was_held_back_at_the_door_ends_no_later_trust",
    ),
    defect(
        "refusal-held-back-ends-a-later-trust", "cpc.server.federation.links:Links._open_one",
        "await self._has_ended(server, met, ", "await self.ended(server, ",
        promise="a refusal that was held back ends no later trust",
        caught_by=_REPLAYS + "test_a_refusal_that_was_held_back_ends_no_later_trust",
    ),
    # --- what is read ---
    defect(
        "lost-life-reads", "cpc.server.bulk:Place.check_read", "if self.quarantine:", "if self.quarantine and not lease.job:",
        promise="nothing is read in the name of a life that is lost",
        caught_by=(
            _FILES + "test_nothing_is_read_in_the_name_of_a_life_that_is_lost",
            "tests/unit/test_machines_hostile.py::test_nothing_is_read_in_the_name_of_a_life_that_is_lost",
        ),
        quick=True,
    ),
    # --- what was switched off ---
    defect(
        "off-for-what-comes-only", "cpc.server.federation.lending:Lending._switched_off",
        "give_up(self._queue, tx, lent, words)", "pass",
        promise="when both directions are off, what runs for the peer ends at once",
        caught_by=_OFF + "test_what_runs_ends_at_once_on_both_sides_whoever_switches_it_off", quick=True,
    ),
    defect(
        "off-with-everybody", "cpc.server.federation.lending:Lending._switched_off", "if lease.route[0] == peer", "",
        promise="both directions off with a peer touch nothing that goes on with others",
        caught_by=_OFF + "test_what_comes_by_a_server_between_is_that_servers_affair",
    ),
    # --- what is limited ---
    defect(
        "relay-says-nothing", "cpc.server.federation.relaying:Relaying._pass_on", "bounds=(*envelope.bounds, *own)", "",
        promise="each server that a report passes says what it lets those behind it have",
        caught_by=_LINKS + "test_each_server_says_on_a_report_that_passes_it_what_it_lets_those_behind_it_have", quick=True,
    ),
    defect(
        "home-says-nothing", "cpc.server.federation.links:Links.ask_far", "self.relaying.bound(method, route, 0)", "()",
        promise="the home says on its reports what it lets the owner have",
        caught_by=_LINKS + "test_each_server_says_on_a_report_that_passes_it_what_it_lets_those_behind_it_have",
    ),
    defect(
        "limits-as-the-loan-began", "cpc.server.federation.owner:Owner._let", "self._agreements.follow(session, agreed)", "pass",
        promise="limits hold for workers that are on loan already",
        caught_by=(
            _LIMITS + "test_what_an_owner_accepts_no_more_is_given_to_no_worker_that_is_on_loan",
            _LIMITS + "test_what_a_server_between_lends_no_more_is_given_to_no_worker_that_is_on_loan",
        ),
        quick=True,
    ),
    defect(
        "limits-for-good", "cpc.server.federation.owner:Owner._lure", "self._agreements.follow(session, agreed, offer)", "pass",
        promise="what is lent again is used again at workers that are on loan",
        caught_by=_LIMITS + "test_a_loan_that_began_with_little_is_used_for_more_when_more_is_lent",
    ),
    defect(
        "one-servers-limits", "cpc.queue.terms:within", "if names is None or name in names", "",
        promise="what several servers on a way lend is what all of them do",
        caught_by=_LIMITS + "test_what_several_servers_lend_is_what_all_of_them_do", quick=True,
    ),
    defect(
        "cores-of-each-worker", "cpc.server.federation.agreed:Agreed.take", "self.left -= found.cores", "pass",
        promise="limits of cores hold for all workers of a report together",
        caught_by=_LIMITS + "test_no_more_cores_than_are_accepted_are_used_when_many_jobs_end_at_once", quick=True,
    ),
    defect(
        "cores-of-each-home", "cpc.server.federation.agreed:Agreements.now", "self._used(back[before - 1], back[before])", "0",
        promise="a limit of cores at a server between holds for all homes before it",
        caught_by=_LIMITS + "test_no_more_cores_than_a_server_between_lends_are_used_by_way_of_it",
    ),
    defect(
        "cores-on-record-only", "cpc.server.federation.agreed:Agreements._way_to",
        "session.back if session is not None else self._register.way_to(worker)", "self._register.way_to(worker)",
        promise="a limit of cores holds for what is given in one commit, too",
        caught_by=_LIMITS + "test_no_more_cores_are_used_than_a_limit_lets_when_two_questions_are_answered_in_one_commit",
    ),
    defect(
        "homes-questions-without-limit", "cpc.server.federation.asking:Asking._question",
        "terms.bound((self._ways.here, peer), 0, self._ways.agreement(peer))", "()",
        promise="a limit of cores holds for own workers and for those that are passed on together",
        caught_by=_LIMITS + "test_own_workers_of_a_server_between_count_together_with_those_that_it_passes_on",
    ),
    defect(
        "room-of-a-limited-owner", "cpc.server.federation.asking:Asking._pump", "not self._prefers(spare)",
        "not self._home.reports(spare.worker, spare.prefer)",
        promise="room that an owner may not have is somebody else's",
        caught_by=_LIMITS + "test_room_that_an_owner_gets_no_more_of_is_somebody_elses", quick=True,
    ),
    defect(
        "found-by-the-former-profile", "cpc.queue.index:Index._set", "self._list(session, False)", "pass",
        promise="a worker is found by what it may be used for now",
        caught_by="tests/unit/test_queue_index.py::test_a_worker_is_found_by_what_it_may_be_used_for_now",
    ),
    # --- how jobs of others are called ---
    defect(
        "first-of-an-array-is-a-job", "cpc.server.federation.placing:place", "first=task.is_first", "first=False",
        promise="a home shows the first job of another's array as one of that",
        caught_by="tests/unit/test_lending.py::test_both_sides_show_who_works_for_whom_and_why_a_job_waits",
    ),
    defect(
        "first-of-an-array-is-a-job-in-custody", "cpc.server.federation.held:_item", "kept.result.first", "False",
        promise="custody shows the first job of an array as one of that",
        caught_by="tests/unit/test_custody_lending.py::"
        "test_the_first_job_of_an_array_is_shown_as_that_also_after_a_restart",
    ),
    # --- who stood still ---
    defect(
        "missing-for-having-stood-still", "cpc.core.alarm:Alarm._ring", "if abs(late) > STOOD:", "if late < -STOOD:",
        promise="what came while a process stood still is read before it is missed",
        caught_by="tests/unit/test_standstill.py", quick=True,
    ),
    defect(
        "answers-late-for-having-stood-still", "cpc.wire.calls:Calls.ask",
        "Alarm(self._reactor, self._clock, timeout, lambda: self._late(call, timeout))",
        "self._reactor.callLater(timeout, self._late, call, timeout)",
        promise="no answer is late because whoever has asked stood still",
        caught_by="tests/unit/test_standstill.py::test_an_answer_is_not_late_because_whoever_has_asked_stood_still",
    ),
    # --- how much at once ---
    defect(
        "reads-kept-by-their-errors", "cpc.wire.secure:_records", "end.with_traceback(None)", "end",
        promise="bytes that have come are gone from memory when they were read",
        caught_by="tests/unit/test_wire_bounds.py::test_what_has_come_is_gone_when_it_was_read_without_any_search_for_garbage",
        quick=True,
    ),
    defect(
        "passed-on-and-held", "cpc.wire.calls:Calls._go", "call.data = _GONE", "pass",
        promise="a relay holds nothing that has left",
        caught_by=_LINKS + "test_of_what_was_passed_on_nothing_is_held_while_its_answer_is_waited_for", quick=True,
    ),
    defect(
        "passed-on-and-held-by-its-handler", "cpc.wire.questions:Questions._handle",
        "del asked  # as it came, it is held by nobody any more while its answer is waited for", "pass",
        promise="whoever waits for an answer does not hold the question",
        caught_by=_LINKS + "test_of_what_was_passed_on_nothing_is_held_while_its_answer_is_waited_for", quick=True,
    ),
    defect(
        "home-holds-what-it-passes-on", "cpc.server.federation.files:HomeFiles.put", "kept = None\n", "pass\n",
        promise="a gateway holds no chunk that has left",
        caught_by="tests/unit/test_far_files.py::test_a_home_holds_nothing_that_has_left_unless_the_way_is_in_doubt", quick=True,
    ),
    defect(
        "home-never-in-doubt", "cpc.server.federation.files:HomeFiles.put", "self._doubted.add(lease.path)", "pass",
        promise="a chunk that does not get to its owner is kept when it comes again",
        caught_by="tests/unit/test_far_files.py::test_a_home_holds_nothing_that_has_left_unless_the_way_is_in_doubt", quick=True,
    ),
    defect(
        "frame-with-something-behind-it", "cpc.wire.frames:_cuts", "== size - start", "<= size - start",
        promise="a frame in pieces is read with the care of a whole one",
        caught_by="tests/unit/test_wire_frames.py::test_a_frame_with_something_behind_it_is_none_in_pieces_either", quick=True,
    ),
    defect(
        "one-owners-tickets-for-all", "cpc.server.bulk:_owner", 'question.lease.path if question is not None else ""', '""',
        promise="files for an owner that takes nothing keep others' not waiting",
        caught_by=_INTAKE + "test_files_for_an_owner_that_takes_nothing_keep_those_of_others_not_waiting", quick=True,
    ),
    defect(
        "tickets-for-ever", "cpc.wire.intake:Intake._next", "self._reactor.callLater(PATIENCE, self._late, owner, ticket)",
        "self._reactor.callLater(1e9, ticket.over)", promise="who sends slowly keeps nobody else waiting",
        caught_by=_INTAKE + "test_for_one_that_is_slow_there_are_more_and_one_that_stands_still_goes_on_without",
        quick=True,
    ),
    defect(
        "slow-workers-one-by-one", "cpc.wire.intake:Intake._late", "owner.most + 2", "owner.most",
        promise="where many workers are slow, many have their turn at once",
        caught_by=_INTAKE + "test_where_all_are_slow_many_have_their_turn_and_where_none_is_a_few", quick=True,
    ),
    defect(
        "tickets-go-with-their-workers", "cpc.wire.questions:Questions.end", "ticket.over()", "pass",
        promise="a worker that is gone leaves its tickets to the others",
        caught_by=_INTAKE + "test_a_worker_that_is_gone_leaves_its_tickets_to_the_others", quick=True,
    ),
    defect(
        "all-chunks-of-all-workers", "cpc.wire.connection:Connection.need_tickets", "if self._intake is not None:", "if False:",
        promise="of what workers send at once a few chunks are in memory",
        caught_by=_INTAKE + "test_of_many_workers_that_send_at_once_a_few_chunks_are_here_and_in_the_end_all_were_taken",
        quick=True,
    ),
    defect(
        "an-input-for-all-at-once", "cpc.wire.questions:Questions._may_start", "and self.intake is not None", "and False",
        promise="of what many workers ask for at once a few chunks are in memory",
        caught_by=_INTAKE
        + "test_to_many_workers_that_ask_at_once_a_few_chunks_are_given_at_a_time_and_in_the_end_all_have_theirs",
        quick=True,
    ),
    defect(
        "sent-is-not-left", "cpc.wire.questions:Questions._handle", "self._channel.when_left(partial(self._over, out))",
        "self._over(out)", promise="the next chunk is looked up when one has left, not when it is queued",
        caught_by=_INTAKE
        + "test_to_many_workers_that_ask_at_once_a_few_chunks_are_given_at_a_time_and_in_the_end_all_have_theirs",
        quick=True,
    ),
    defect(
        "left-and-nobody-told", "cpc.wire.channel:Channel._give", "self._tell_left(self._given)", "pass",
        promise="the next chunk is looked up as soon as one has left",
        caught_by=_INTAKE
        + "test_to_many_workers_that_ask_at_once_a_few_chunks_are_given_at_a_time_and_in_the_end_all_have_theirs",
        quick=True,
    ),
    defect(
        "small-chunks-one-by-one", "cpc.wire.calls:bulk_weight", "most or WHOLE", "WHOLE",
        promise="small chunks do not wait for each other",
        caught_by=_BULK + "test_so_many_chunks_are_on_their_way_as_their_bytes_allow",
    ),
    defect(
        "larger-answer-taken", "cpc.wire.calls:Calls.answered", "elif call.most and len(envelope.body) > call.most:",
        "elif call.most < 0:", promise="no answer is larger than was said",
        caught_by=_BULK + "test_a_relay_takes_no_more_than_was_said_whatever_the_owner_sends",
    ),
    defect(
        "whoever-asks-says-how-much", "cpc.wire.questions:Questions._may_start", "self._bulk_bytes + asked.weight > BULK_BYTES",
        "False", promise="what is answered at once is bounded by its bytes",
        caught_by=_BULK + "test_where_nothing_is_said_of_the_size_a_whole_chunk_is_counted_on_both_sides",
    ),
    defect(
        "whole-chunk-read-for-a-small-one", "cpc.server.files:Files.chunk", "if most and size > most:", "if most < 0:",
        promise="nothing larger than was asked for is read",
        caught_by=_FILES + "test_nothing_larger_than_was_asked_for_is_read_at_the_owner_or_in_a_cache",
    ),
    defect(
        "whole-chunk-read-from-a-cache", "cpc.server.federation.cache:RelayCache._read", "if most and size > most:",
        "if most < 0:", promise="no relay reads more than was asked for",
        caught_by=_FILES + "test_nothing_larger_than_was_asked_for_is_read_at_the_owner_or_in_a_cache",
    ),
    # --- whose files they are ---
    defect(
        "whole-project-read-by-peers", "cpc.server.federation.files:OwnerFiles._place", "Place(place.project, lease.job)",
        "Place(place.project)", promise="a peer reads the files of the jobs that its workers run, and nothing else",
        caught_by=_RIGHTS + "test_an_attempt_reads_what_its_job_was_given_and_nothing_else_of_the_project",
    ),
    defect(
        "what-is-missing-tells-what-is-there", "cpc.server.bulk:JobFiles.missing", "place.of", "min(place.of, 0)",
        promise="to a peer what is not of its job is as if it were not there",
        caught_by=_RIGHTS + "test_to_a_peer_what_is_not_of_its_job_is_missing",
    ),
    defect(
        "result-brings-what-was-never-sent", "cpc.server.settling:_refer", "result.lease.job if peer else 0", "0",
        promise="no peer's result brings a chunk by its name", caught_by=_RIGHTS + "test_nobody_brings_a_chunk_by_its_name",
    ),
    defect(
        "checkpoint-brings-what-was-never-sent", "cpc.server.settling:take_checkpoints", "lease.job if peer else 0", "0",
        promise="no peer's checkpoint brings a chunk by its name", caught_by=_RIGHTS + "test_nobody_brings_a_chunk_by_its_name",
    ),
    defect(
        "lost-lives-learn-what-a-project-has", "cpc.server.bulk:JobFiles.missing", "place.of", "max(place.of, 0)",
        promise="an attempt that nobody knows learns nothing of the project that it names",
        caught_by=(
            _RIGHTS + "test_an_attempt_that_nobody_knows_learns_nothing_of_the_project",
            "tests/unit/test_machines_hostile.py::"
            "test_an_attempt_of_a_life_that_is_lost_tells_nothing_of_what_a_project_has",
        ),
    ),
    defect(
        "lost-lives-bring-what-was-never-sent", "cpc.server.settling:_refer", "references.LOST if number < 0", "0 if number < 0",
        promise="an attempt that nobody knows brings no chunk by its name",
        caught_by=_RIGHTS + "test_an_attempt_that_nobody_knows_learns_nothing_of_the_project",
    ),
    defect(
        "attempts-that-are-over-read", "cpc.server.federation.files:OwnerFiles._get", "self._files.running(lease) is None",
        "not lease.attempt", promise="a peer reads nothing for an attempt that is over",
        caught_by=_RIGHTS + "test_an_attempt_that_is_over_writes_and_reads_no_more",
    ),
    defect(
        "every-worker-of-a-home-reads", "cpc.server.federation.files:OwnerFiles._place", "number is None or", "True or",
        promise="the worker that runs an attempt reads its files, and no other of the same home",
        caught_by=_RIGHTS + "test_another_worker_of_the_same_home_reads_nothing_of_a_job",
    ),
    defect(
        "every-worker-of-a-home-ends-jobs", "cpc.server.machines:_Worker._divide",
        "if abroad is None or not abroad.results:", "if True:",
        promise="a worker hands in nothing of what another one was lent for",
        caught_by=_OWN + "test_a_worker_does_not_end_what_another_one_was_lent_for",
    ),
    defect(
        "who-says-so-has-it", "cpc.server.joining:_goes_on", " and not settling.of_another(queue, tx, worker, lease)", "",
        promise="no worker gets another one's lease by its word",
        caught_by=_OWN + "test_nor_by_saying_at_its_hello_that_it_has_it",
    ),
    defect(
        "heirs-are-strangers", "cpc.server.settling:of_another",
        " and not any(same_bundle(tx, other, worker) for other in others)", "",
        promise="a worker of the same bundle hands in what a dead one has left",
        caught_by=_OWN + "test_another_one_of_the_same_bundle_hands_in_what_it_has_found",
    ),
    defect(
        "custody-for-whoever-names-it", "cpc.server.federation.held:Held._has",
        "piece[2] in self._sizes and (piece in self._early or piece in self._named)", "piece[2] in self._sizes",
        promise="what lies in custody is handed in for the job that it was sent for only",
        caught_by=_RIGHTS + "test_no_worker_of_a_home_brings_what_lies_in_custody_by_its_name",
    ),
    defect(
        "chunks-wait-without-number", "cpc.server.federation.held:Held._make_room",
        "if len(self._early) + chunks > MOST_EARLY:", "if len(self._early) < 0:",
        promise="what waits for its result in custody is bounded, however small it is",
        caught_by="tests/unit/test_custody.py::test_so_many_chunks_wait_for_their_results_and_no_more",
    ),
    # --- numbers that nothing has ---
    defect(
        "anybody-writes-anybodys-output", "cpc.server.machines:_Worker._answer", "and run.worker == seat.worker", "",
        promise="a worker writes into nobody else's live output",
        caught_by=_CLAIMS + "test_a_worker_writes_into_nobody_elses_output",
    ),
    defect(
        "survey-for-ever", "cpc.server.federation.survey:Surveying._ask_on", "min(survey.seconds, TIME)", "survey.seconds",
        promise="a peer's survey takes no longer than one of our own",
        caught_by="tests/unit/test_peer_survey.py::"
        "test_a_peer_that_gives_much_time_and_one_that_takes_it_keep_no_question_here",
    ),
    defect(
        "amounts-without-number", "cpc.core.resources:Amounts.possible", "len(self.other) <= MOST_OTHERS", "self.other",
        promise="what a peer says its worker has takes little memory",
        caught_by=_CLAIMS + "test_a_worker_that_cannot_be_is_given_nothing_and_kept_nowhere",
    ),
    defect(
        "room-that-cannot-be", "cpc.server.federation.owner:Owner._set_room", "if one.free.possible", "if one",
        promise="room that cannot be is none", caught_by=_CLAIMS + "test_room_that_cannot_be_is_none",
    ),
    defect(
        "leases-named-without-number", "cpc.server.federation.portions:check_size", "> MOST_HELD", "< 0",
        promise="no report keeps its owner busy for seconds",
        caught_by=_CLAIMS + "test_a_report_that_names_more_than_there_can_be_is_refused",
    ),
    defect(
        "answers-many-times-as-large", "cpc.server.federation.owner:Owner._report", "[:left])", ")",
        promise="no answer to a report is many times as large as it",
        caught_by=_CLAIMS + "test_an_answer_says_so_much_and_the_rest_with_the_next",
    ),
    defect(
        "leases-weigh-nothing", "cpc.server.federation.portions:Said.weight", " + len(self.report.holds) // HELD", "",
        promise="own workers have their turns while a long report is looked at",
        caught_by=_CLAIMS + "test_what_is_named_is_looked_at_in_portions",
    ),
    defect(
        "named-in-one-report", "cpc.server.federation.loans:compose", "NAMED * len(loan.holds) if named else 0", "0",
        promise="no home names more in a report than an owner takes",
        caught_by="tests/unit/test_reports_composed.py::test_what_many_workers_have_is_named_in_reports_that_an_owner_takes",
    ),
    # --- what is given ahead ---
    defect(
        "way-not-counted", "cpc.queue.match:reach", "WAYS * session.way + MARGIN", "0.0",
        promise="a worker that is far away has brief jobs ahead until more can come",
        caught_by="tests/unit/test_queue_ahead.py::test_who_is_far_away_is_given_what_it_does_until_more_can_come", quick=True,
    ),
    defect(
        "way-believed-without-end", "cpc.queue.match:reach", "min(FARTHEST, ", "max(0.0, ",
        promise="no home makes an owner give it more ahead than its worker waits for",
        caught_by="tests/unit/test_queue_ahead.py::test_who_is_far_away_is_given_what_it_does_until_more_can_come",
    ),
    defect(
        "way-not-measured", "cpc.server.federation.home:Home._report", "owner.took(self._monotonic() - since)",
        "pass",
        promise="what is given ahead follows the way as it is",
        caught_by=_NETWORKS + "test_what_is_given_ahead_covers_the_way_to_the_owner_as_far_as_a_worker_waits",
    ),
    defect(
        "others-ahead-of-own-work-for-good", "cpc.server.queue:Queue.own_waits",
        "return any(True for _ in self.index.candidates(session))",
        "return bool(session.home) and any(True for _ in self.index.candidates(session))",
        promise="what others have ahead keeps own work from no worker",
        caught_by=_NETWORKS + "test_own_work_does_not_wait_for_what_others_have_ahead_of_it_to_end_for_good",
    ),
    # --- what is kept for others ---
    defect(
        "others-fill-what-is-kept-aside", "cpc.worker.aside:Aside.put", "self.tidy()",
        "self._is_lent = lambda place: False; self.tidy()",
        promise="what jobs of other servers leave takes no room that our own need",
        caught_by="tests/unit/test_agent_aside.py::"
        "test_what_jobs_of_other_servers_leave_takes_half_and_none_of_what_our_own_need",
    ),
)  # fmt: skip
