"""Defects that many servers in between bring to light: questions that go far, and servers on the way that are late."""

from tests.defects.defect import defect

_FAR = "tests/unit/test_lending_far.py::"
_PRIORITIES = "tests/simulation/federation/test_priorities.py::"

_SOURCES = "tests/unit/test_lending_sources.py::"
_NEAREST = "tests/simulation/federation/test_nearest.py::"

DISTANCE = (
    defect(
        "far-before-near", "cpc.queue.sources:STEPS", "0, 2, 6, FAR", "FAR,",
        promise="a worker that comes finds what is near before what is far",
        caught_by=_SOURCES + "test_what_is_near_is_looked_at_first_and_nothing_is_left_out",
    ),
    defect(
        "longer-way-has-a-turn", "cpc.queue.sources:Sources._may_have_other_work", "work.owners != {owner}", "work.owners",
        promise="nobody is asked again and again for a longer way to the same owner",
        caught_by=_SOURCES + "test_a_longer_way_to_an_owner_is_none_while_there_is_a_shorter_one",
    ),
    defect(
        "owner-asked-by-its-other-ways-too", "cpc.server.federation.asking:Asking._asked_by_us", "[choice.without]", "[]",
        promise="who asks for other work does not ask the owner of its jobs once more",
        caught_by=_NEAREST + "test_an_owner_is_not_asked_by_a_longer_way_too_while_a_shorter_one_is_good",
    ),
    defect(
        "longer-way-first-by-its-share", "cpc.queue.sources:Sources._has_nearest_work", "return work is not None and any(",
        "return any([True]) or any(", promise="a longer way to the same work is not taken because it was taken less",
        caught_by=_SOURCES + "test_a_longer_way_to_an_owner_is_none_while_there_is_a_shorter_one",
    ),
    defect(
        "old-promise-is-relied-on", "cpc.queue.sources:Sources._may_have_other_work", "work is None or", "work is not None and",
        promise="a peer whose promise has run out is asked again, however busy the workers are",
        caught_by=_PRIORITIES + "test_a_peer_of_the_same_priority_that_promised_to_call_long_ago_is_not_forgotten",
    ),
    defect(
        "all-homes-are-called", "cpc.server.federation.asked:Asked._tell", "named = tuple(homes) if", "named = () if",
        promise="a call is for those homes whose workers can run what waits",
        caught_by=_NEAREST + "test_a_call_is_for_those_homes_whose_workers_can_run_what_waits",
    ),
    defect(
        "called-before-and-so-not-again", "cpc.server.federation.asked:Asked.demand", "for other in sorted(waiting,",
        "for other in sorted([each for each in waiting if self._callers.forget(each) is None],",
        promise="a call that is passed on takes nothing from what this server has promised",
        caught_by=_NEAREST + "test_an_owner_is_not_asked_by_a_longer_way_too_while_a_shorter_one_is_good",
    ),
    defect(
        "questions-of-one-push-out-others", "cpc.queue.asks:Asks.come", "if len(its) >= MOST:", "if len(its) > REMEMBERED:",
        promise="who asks without end pushes out nobody else's answers",
        caught_by="tests/unit/test_lending_parts.py::test_the_ledger_is_bounded",
    ),
    defect(
        "farther-question-is-a-repeat", "cpc.queue.asks:Asks.come", "if hops <= (before", "if before >= 0 or hops <= (before",
        promise="what lies beyond a server is asked when a question comes by a shorter way",
        caught_by=_FAR + "test_a_question_that_may_go_farther_when_it_comes_again_goes_on", quick=True,
    ),
    defect(
        "late-peer-has-all-the-time", "cpc.server.federation.asked:Asked._look", "min(left, TRIAL)", "left",
        promise="a peer that answers late keeps nobody after it from being asked",
        caught_by=_FAR + "test_a_peer_that_answers_late_does_not_keep_those_after_it_from_being_asked",
    ),
    defect(
        "late-peer-is-last-for-ever", "cpc.server.federation.asked:Asked._onward", "-inf if each[0] == tried else", "",
        promise="a peer that was late has its place in the order again soon",
        caught_by=_FAR + "test_a_peer_that_was_late_has_its_place_again_soon",
    ),
    defect(
        "unasked-peers-are-promised", "cpc.server.federation.asked:Asked._look", "min(promised, AGAIN)", "promised",
        promise="nobody is promised a call of a server that was not asked",
        caught_by=_FAR + "test_whoever_could_not_be_asked_in_time_is_asked_soon",
    ),
    defect(
        "unanswered-questions-are-promised", "cpc.server.federation.asked:Asked._ask_on", "min(calls, AGAIN)", "calls",
        promise="nobody is promised a call of a server that did not answer",
        caught_by=_FAR + "test_many_homes_that_ask_at_once_by_the_same_way_are_all_called",
    ),
    defect(
        "called-who-does-not-pass-it-on", "cpc.server.federation.asked:Asked._ask",
        "for offer in question.offers:", "for offer in ():",
        promise="nobody is called who passes no call on, but the one who does",
        caught_by=_FAR + "test_a_call_goes_by_the_way_of_the_last_question_and_not_by_one_of_before",
    ),
    defect(
        "cut-way-was-the-only-one", "cpc.server.federation.asked:Asked.down",
        "self._instead(peer, 1, \"\", homes, now)", "pass",
        promise="when a link is cut, homes that have another way are called by that",
        caught_by=_FAR + "test_when_the_way_of_a_question_is_cut_its_home_is_called_by_another_one",
    ),
    defect(
        "call-in-vain-was-the-only-one", "cpc.server.federation.asked:Asked._call",
        "if any(map(self._byways.has, homes)):", "if not homes:", promise="a call that brings no question goes by another way",
        caught_by=_FAR + "test_when_the_way_of_a_question_is_cut_its_home_is_called_by_another_one",
    ),
)  # fmt: skip
