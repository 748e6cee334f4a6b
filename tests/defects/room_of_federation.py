"""Defects of networks of servers: who is trusted and asked, whose work comes first, what is kept for whom."""

from tests.defects.defect import defect

_STORIES = "tests/simulation/federation/test_stories.py::"
_PARTING = "tests/simulation/federation/test_parting.py::"
_LINKS = "tests/unit/test_links.py::"
_PRIORITIES = "tests/simulation/federation/test_priorities.py::"
_SOURCES = "tests/unit/test_lending_sources.py::"
_PARTS = "tests/unit/test_lending_parts.py::"
_FILES = "tests/unit/test_far_files.py::"
_ENDS = "tests/unit/test_trust_ends.py::"

FEDERATION = (
    defect(
        "relay-believes-any-route", "cpc.server.federation.book:Book.check_route", "place == 0 or route[place - 1] != peer",
        "place == 0", promise="the server before this one on a route is the peer that brings the message",
        caught_by=_LINKS + "test_a_forged_route_gets_nowhere",
    ),
    defect(
        "revoked-peers-leases-stay", "cpc.server.federation.lending:Lending.revoked", "self.owner.withdraw(tx, peer, reason)",
        "pass", promise="who is revoked has no job of ours any more",
        caught_by=_STORIES + "test_trust_that_is_withdrawn_is_gone_within_a_heartbeat_on_both_sides", quick=True,
    ),
    defect(
        "revoked-while-away-never-told", "cpc.server.federation.book:Book.pinned",
        "peering.pinned(row.state) or row.state is PeerState.REVOKED", "peering.pinned(row.state)",
        promise="who was revoked while it was away is told when it comes",
        caught_by=_ENDS + "test_who_was_away_hears_of_the_end_when_the_two_meet_whoever_dials", quick=True,
    ),
    defect(
        "revoked-is-not-looked-for", "cpc.server.federation.parting:Parting.due", "server not in self._told", "False",
        promise="who revokes a server that it alone can reach tells it",
        caught_by=_ENDS + "test_who_was_away_hears_of_the_end_when_the_two_meet_whoever_dials",
    ),
    defect(
        "agreement-taken-back-by-old-words", "cpc.server.federation.peering:can", "return (state, event) in TABLE",
        "return (state, event) in TABLE or (state, event) == (PeerState.SENT, Event.WITHDREW)",
        promise="who agrees to a new trust first waits for the other one",
        caught_by=_ENDS + "test_who_has_agreed_anew_waits_and_is_told_nothing_again",
    ),
    defect(
        "anybody-ends-the-trust", "cpc.server.federation.links:Links._open_one", "except TrustEnded as error:",
        "except Refused as error:",
        also=(("cpc.server.federation.links:Links._open_one", "hand_back=error.hand_back", "hand_back=False"),),
        promise="only the server itself says that it trusts this one no more",
        caught_by=_ENDS + "test_who_answers_at_a_peers_address_ends_nothing_unless_it_is_the_peer",
    ),
    defect(
        "signs-of-life-are-a-flood", "cpc.server.federation.links:Links._admit", 'connection.serve("alive", Alive, None)',
        "pass", promise="a link that nobody uses stays, however many signs of life have come",
        caught_by=_LINKS + "test_a_link_that_nobody_uses_stays",
    ),
    defect(
        "request-of-tomorrow-refused", "cpc.server.http.peers:request", "signed_part(ask.body)", 'b""',
        promise="a server of a newer release may say more in its request than is known here",
        caught_by="tests/unit/test_peer_requests_of_tomorrow.py",
    ),
    defect(
        "peer-grace-ignored", "cpc.server.monitor:Monitor._suspended",
        "if borrowers is None or not borrowers.suspended(run.worker):",
        "if borrowers is None or borrowers.home_of(run.worker):",
        promise="a cut between servers runs nothing twice before peer_grace is over",
        caught_by=_STORIES + "test_a_partition_that_is_shorter_than_the_grace_costs_nothing",
    ),
    defect(
        "home-forgives-itself-nothing", "cpc.server.federation.home:Home._look_for_lost",
        "limit = self._queue.lease_clock.reading - self._queue.limits.heartbeat_time",
        "limit = self._queue.lease_clock.reading + self._queue.lease_clock.forgiven - self._queue.limits.heartbeat_time",
        promise="a home that stood still speaks of no worker as lost",
        caught_by=_STORIES + "test_a_home_that_stood_still_speaks_of_no_worker_as_lost",
    ),
    defect(
        "idle-worker-not-called", "cpc.server.federation.asked:Asked.left_over", "if self._callers and not self._soon:",
        "if self._soon:", promise="who has asked in vain is called when there is work",
        caught_by="tests/unit/test_lending.py::test_a_job_that_comes_later_calls_the_idle_worker",
    ),
    defect(
        "call-not-passed-on", "cpc.server.federation.asked:Asked.demand", "self._tell(other, demand.hops + 1,", "str(",
        promise="a call for workers travels back to their home, hop by hop",
        caught_by=_STORIES + "test_an_idle_worker_is_called_when_there_is_work_behind_its_neighbour",
    ),
    defect(
        "call-passed-on-to-everybody", "cpc.server.federation.asked:Asked.demand",
        "self._tried.called(peer, now, demand.homes, demand.instead)", "dict.fromkeys(self._callers.onward('', now), [])",
        promise="a call for workers is passed on to those only for whom it was promised",
        caught_by="tests/simulation/federation/test_crowds.py", seconds=300.0,
    ),
    defect(
        "asked-again-before-it-calls", "cpc.queue.tried:Tried.covers", "known is None or", "now > 0 or",
        promise="who has promised to call is not asked again, also not on behalf of others",
        caught_by="tests/simulation/federation/test_crowds.py", seconds=300.0,
    ),
    defect(
        "promise-longer-than-what-it-rests-on", "cpc.queue.tried:Try.seconds", "return self.until - now if", "return inf if",
        promise="nobody is promised to be called for longer than that rests on",
        caught_by=_PARTS + "test_a_peer_that_has_promised_to_call_is_not_asked_again_for_the_same",
    ),
    defect(
        "question-under-way-stays-counted", "cpc.server.federation.asked:Asked._ask", "del self._under_way[peer]", "pass",
        promise="of a question that is answered nothing but the answer is kept",
        caught_by="tests/simulation/federation/test_memory.py", seconds=120.0,
    ),
    defect(
        "call-while-asked-is-forgotten", "cpc.queue.sources:Sources.in_vain", "if choice.peer not in self._work:",
        "if choice.peer:", promise="a peer that calls while it is being asked is asked again",
        caught_by=_SOURCES + "test_a_peer_that_calls_while_our_own_workers_ask_it_is_asked_again",
    ),
    defect(
        "call-while-asked-for-others-is-forgotten", "cpc.queue.tried:Tried.answered", "began != self._calls.get(peer, 0)",
        "began > self._calls.get(peer, 0)", promise="a peer that calls while it is asked for others is asked again",
        caught_by=_PARTS + "test_a_peer_that_calls_while_it_is_asked_is_asked_again",
    ),
    defect(
        "peers-are-asked-by-others-too", "cpc.server.federation.asking:Asking._asked_by_us", "*self._ways.up(), ", "*(), ",
        promise="what is agreed with a peer holds by whatever way its jobs come",
        caught_by=_STORIES + "test_what_is_agreed_with_a_peer_holds_by_whatever_way_its_jobs_come",
    ),
    defect(
        "old-release-turned-away-in-silence", "cpc.server.federation.links:Links.turned_away",
        "isinstance(connection.end, NoCommonProtocol)", "False",
        promise="of two servers without a common protocol number both say who is to be upgraded",
        caught_by="tests/unit/test_peer_protocols.py",
    ),
    defect(
        "custody-does-not-come-first", "cpc.server.federation.first:CustodyFirst.up", "if self._waits(peer):", "if False:",
        promise="what is in custody is handed in before anybody could be given the same job again",
        caught_by=_PARTING + "test_what_is_in_custody_is_handed_in_before_an_idle_worker_could_run_it_again", quick=True,
    ),
    defect(
        "far-owner-left-too-soon", "cpc.queue.spare:Spare.refused", "if not self.fresh:", "if 1:",
        promise="who is far away is told what has ended, and asked again, before others are",
        caught_by="tests/unit/test_lending_parts.py::"
        "test_an_owner_that_has_nothing_hears_of_what_has_ended_since_before_others_are_asked", quick=True,
    ),
    defect(
        "room-kept-for-who-hears-nothing", "cpc.server.federation.home:Home.reports", "loan is not None and not loan.gone",
        "True", promise="no room is kept for an owner that hears of the worker no more",
        caught_by="tests/unit/test_lending.py::test_no_room_is_kept_for_an_owner_that_hears_of_the_worker_no_more",
    ),
    defect(
        "peers-forgotten-that-were-served", "cpc.queue.served:Served.expire", "< NOTHING", "< 1.0",
        promise="peers that are alike take turns, also with small jobs",
        caught_by="tests/unit/test_lending_networks.py::test_peers_that_have_asked_in_vain_are_called_in_turn",
    ),
    defect(
        "hop-budget-not-decreased", "cpc.queue.terms:beyond", "max(0, agreement.lend_on)", "MOST_SERVERS - 2",
        promise="work is asked for no farther than the home's operator has agreed",
        caught_by=_STORIES + "test_each_server_on_the_way_takes_one_from_how_far_work_may_be_asked_for",
    ),
    defect(
        "peers-in-any-order", "cpc.queue.sources:Sources.rank", "(each.priority, each.served, each.peer)", "each.peer",
        promise="peers are asked in the order that the operator has set",
        caught_by=_STORIES + "test_peers_are_asked_in_their_order",
    ),
    defect(
        "higher-priority-waits-for-the-last-job", "cpc.queue.sources:Ranked.before", "return self.priority < other.priority",
        "return has_work and self.priority < other.priority",
        promise="work of a peer with a higher priority gets the next room, whoever had it before",
        caught_by=_PRIORITIES + "test_work_of_a_higher_priority_that_comes_later_gets_the_next_room",
    ),
    defect(
        "peers-of-one-priority-do-not-share", "cpc.queue.sources:Ranked.before",
        "return has_work and self.served < other.served", "return False",
        promise="peers of the same priority take turns",
        caught_by=_PRIORITIES + "test_peers_of_the_same_priority_share_what_is_lent",
    ),
    defect(
        "own-work-does-not-come-first", "cpc.server.machines:_Worker._take",
        "queue.index.returned(session, [result.lease for result in abroad.results]):",
        "not queue.index.returned(session, [result.lease for result in abroad.results]):",
        promise="room that a job of others leaves is for own work first",
        caught_by=_STORIES + "test_own_work_comes_first",
    ),
    defect(
        "limit-of-cores-not-kept", "cpc.queue.terms:at_most", "min(free.cores, cores)", "free.cores",
        promise="no more cores are lent or accepted than was agreed",
        caught_by=_STORIES + "test_a_limit_of_cores_holds_on_either_side",
    ),
    defect(
        "custody-before-fsync", "cpc.server.federation.held:Held._write", "self._disk.sync(part)", "pass",
        promise="a home that says it keeps a result has it on disk",
        caught_by=_STORIES + "test_a_home_keeps_a_result_for_an_owner_that_is_away",
    ),
    defect(
        "handed-in-by-a-later-worker-is-lost", "cpc.server.federation.owner:Owner._take",
        "worker or self.register.in_place_of(tx, caller.back, one.results)", "worker",
        promise="what another worker of the same home hands in is accepted",
        caught_by="tests/unit/test_custody_lending.py::test_what_a_later_worker_has_handed_over_is_accepted",
    ),
    defect(
        "custody-ends-without-a-verdict", "cpc.server.federation.custody:Custody._hand_in", "if settled is None:",
        "if settled is None and item.size < 0:", promise="custody ends with the owner's verdict",
        caught_by="tests/unit/test_custody.py",
    ),
    defect(
        "cache-serves-without-the-owners-word", "cpc.server.federation.cache:RelayCache.fetch", "await ask(True)", "pass",
        promise="what is cached on the way is given only with the owner's word",
        caught_by=_FILES + "test_what_is_cached_is_given_only_with_the_owners_word",
    ),
    defect(
        "chunk-crosses-a-link-twice", "cpc.server.federation.cache:RelayCache.fetch",
        "if flight is None and (self._cache is None or name not in self._cache):", "if True:",
        promise="a chunk crosses each link once",
        caught_by=_FILES + "test_a_chunk_crosses_each_link_once_however_many_workers_need_it",
    ),
    defect(
        "path-not-in-the-name-of-a-run", "cpc.worker.placing:key_of", "if lease.path else key", "if lease.path < '' else key",
        promise="jobs of two servers with the same number are two jobs at a worker",
        caught_by=_STORIES + "test_a_worker_that_one_peer_does_not_fill_is_filled_by_the_next",
    ),
    defect(
        "peers-certificate-of-the-future-refused", "cpc.wire.identity:Authority.issue",
        "_BACKDATE_SERVER if name.role is Role.SERVER else _BACKDATE", "_BACKDATE",
        promise="clocks of servers may be hours apart", caught_by=_STORIES + "test_clocks_that_are_hours_apart_change_nothing",
    ),
    defect(
        "question-answered-twice", "cpc.queue.asks:Asks.come", "if known is not None:", "if known is not None and now < 0:",
        promise="a question for work is answered once, however often it comes",
        caught_by="tests/unit/test_lending_parts.py::test_a_question_has_one_answer_and_one_way",
    ),
    defect(
        "peer-has-the-whole-batch", "cpc.store.turns:Turns.take", "left -= max(1, weight)", "left -= 0",
        promise="a peer that reports without end holds up no own worker",
        caught_by="tests/unit/test_writer_turns.py::test_a_peer_that_reports_without_end_holds_up_no_own_worker",
    ),
    defect(
        "all-reports-of-a-peer-at-once", "cpc.server.federation.relaying:Relaying.routed",
        "envelope.method not in IN_TURN", "envelope.method != ''", promise="one report of a peer is unpacked at a time",
        caught_by=_LINKS + "test_of_a_peers_reports_one_is_looked_at_at_a_time_and_no_other_peer_waits_for_it",
    ),
    defect(
        "said-before-the-trust-ended", "cpc.server.federation.era:Era.check", "self.now != then", "self.now < then",
        promise="what waited while trust ended is judged by the trust of then",
        caught_by="tests/unit/test_lending_hostile.py::test_what_a_peer_says_is_overtaken_by_the_end_of_the_trust_in_it",
    ),
    defect(
        "quarantine-without-end", "cpc.server.federation.quarantine:Quarantine.refuse", "left[0] > 0 and size <= left[1]",
        "True", promise="a peer has so much room in quarantine and no more",
        caught_by="tests/unit/test_quarantine.py::"
        "test_what_a_peer_brings_into_quarantine_counts_against_it_and_not_against_the_project",
    ),
    defect(
        "quarantine-taken-from-the-project", "cpc.store.references:check_quota",
        "- _of_peers(tx, project)", "", promise="what peers bring into quarantine is no project's to pay for",
        caught_by="tests/unit/test_quarantine.py::"
        "test_what_a_peer_brings_into_quarantine_counts_against_it_and_not_against_the_project",
    ),
    defect(
        "report-by-a-way-that-has-ended", "cpc.server.federation.relaying:Relaying.routed",
        "self._book.check_route(route, peer)  # trust", "pass  # trust",
        promise="a report that waits is overtaken by the end of trust",
        caught_by=_LINKS
        + "test_a_report_that_waits_for_its_turn_is_overtaken_by_the_end_of_trust_in_a_server_on_its_way",
    ),
    defect(
        "files-of-less-than-nothing", "cpc.server.federation.quarantine:Quarantine.refuse",
        "settling.weight(settling.sane(result))", "settling.weight(result)",
        promise="no result makes room in quarantine for another",
        caught_by="tests/unit/test_quarantine.py::test_files_of_less_than_nothing_make_no_room",
    ),
    defect(
        "end-said-after-trust-anew", "cpc.server.federation.parting:Parting.tell",
        "if self._row(server) is not row:  # trusted", "if self._row(server) is row and not row:  # trusted",
        promise="an end of trust is not said after trust was given anew",
        caught_by="tests/unit/test_trust_ends.py::"
        "test_an_end_is_not_said_any_more_when_trust_was_given_anew_while_the_other_was_looked_for",
    ),
    defect(
        "cut-is-told", "cpc.server.machines:Machines.cut_names", "connection.peer is None or connection.closed",
        "connection.peer is None", promise="who was only cut off is not taken for told",
        caught_by="tests/unit/test_trust_ends.py::test_whose_connections_were_cut_is_not_taken_for_told",
    ),
    defect(
        "tasks-dropped-with-anothers-trust", "cpc.server.federation.home:Home.lend", "if placed is None:  # trust",
        "if placed is None and self._stopped:  # trust",
        promise="the end of trust in one server loses no task of another",
        caught_by="tests/unit/test_lending_hostile.py::"
        "test_tasks_of_one_server_are_placed_though_trust_in_another_has_ended_meanwhile",
    ),
    defect(
        "first-word-of-a-lost-attempt-wins", "cpc.server.settling:_quarantine", "and there[0] != result.files",
        "and there[0] is result.files", promise="a false result in quarantine costs the true one nothing",
        caught_by="tests/unit/test_settling.py::"
        "test_what_was_said_first_of_an_attempt_that_nobody_knows_costs_nobody_else_its_files",
    ),
    defect(
        "unknown-results-hold-up-lending", "cpc.server.federation.custody:Custody.waits", "if lease not in self._unknown",
        "if lease.path", promise="what its owner does not know holds up no lending",
        caught_by="tests/unit/test_custody.py::"
        "test_a_result_of_a_job_that_its_restored_server_does_not_know_stays_in_custody",
    ),
    defect(
        "what-was-not-taken-counts", "cpc.server.federation.quarantine:Quarantine.not_taken", "came - size", "came",
        promise="what quarantine could not take takes no room there",
        caught_by="tests/unit/test_far_files.py::"
        "test_chunks_of_a_life_that_is_lost_are_taken_up_to_the_limit_of_the_peer",
    ),
    defect(
        "unreadable-request-is-a-defect", "cpc.core.peer_views:signed_part",
        "except (msgspec.MsgspecError, RecursionError, ValueError):", "except RecursionError:",
        promise="no stranger's request costs a traceback",
        caught_by="tests/unit/test_peer_requests_of_tomorrow.py::"
        "test_what_no_server_would_say_beside_a_request_is_refused_in_words",
    ),
    defect(
        "checkpoints-weigh-nothing", "cpc.server.federation.loans:compose", "size += weight(checkpoint.files)", "size += 0",
        promise="no home reports more at a time than an owner takes",
        caught_by="tests/unit/test_reports_composed.py",
    ),
    defect(
        "files-for-a-life-before-the-first", "cpc.server.bulk:JobFiles.place", "not 0 < lease.incarnation <",
        "not 0 <= lease.incarnation <",
        promise="an attempt that was never given out gets at nothing",
        caught_by="tests/unit/test_far_files.py::test_an_attempt_that_was_never_given_out_gets_at_nothing",
    ),
    defect(
        "beats-only-in-silence", "cpc.server.federation.home:Home._report",
        "owner.number += 1", "owner.number, owner.named = owner.number + 1, self._monotonic()",
        promise="a long job lives beside a worker that reports to the same owner all the time",
        caught_by="tests/unit/test_lending_beats.py::"
        "test_a_long_job_lives_beside_a_worker_that_reports_all_the_time",
    ),
    defect(
        "brief-is-empty", "cpc.server.abroad:parted", "named=not turn.brief", "named=True",
        promise="a turn that does not name what the worker holds takes nothing back",
        caught_by="tests/unit/test_lending_beats.py::test_a_turn_that_names_nothing_takes_nothing_back",
    ),
)  # fmt: skip
