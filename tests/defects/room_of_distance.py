"""Defects that many servers in between bring to light: questions that go far, and servers on the way that are late."""

from tests.defects.defect import defect

_FAR = "tests/unit/test_lending_far.py::"

DISTANCE = (
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
)  # fmt: skip
