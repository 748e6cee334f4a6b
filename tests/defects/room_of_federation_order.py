"""Defects of whose work comes first in networks of servers, which seeds of servers that contend must notice."""

from tests.defects.defect import defect

_SEEDS = "tests/simulation/federation/test_universe.py::test_of_servers_that_contend_for_workers_each_has_its_turn"
_PRIORITIES = "tests/simulation/federation/test_priorities.py::"

FEDERATION_ORDER = (
    defect(
        "peers-in-reverse-order", "cpc.queue.sources:Sources.rank", "(each.priority, each.served, each.peer)",
        "(-each.priority, each.served, each.peer)", promise="peers are asked in the order of their priorities, by seed",
        caught_by=_SEEDS,
    ),
    defect(
        "own-work-after-others", "cpc.server.machines:_Worker._take", "queue.feed(session)\n        over =",
        "pass\n        over =", promise="room that a job of others leaves is for own work first, by seed", caught_by=_SEEDS,
    ),
    defect(
        "lower-priority-keeps-its-room", "cpc.queue.sources:Ranked.before", "return self.priority < other.priority",
        "return self.priority > other.priority", promise="room goes to who has a higher priority, by seed", caught_by=_SEEDS,
    ),
    defect(
        "shares-are-not-fair", "cpc.server.federation.asking:Asking.spent", "if core_seconds:", "if core_seconds < 0.0:",
        promise="what peers have used counts when one of them is next, by seed", caught_by=_SEEDS,
    ),
    defect(
        "idle-worker-not-offered-after-its-job", "cpc.queue.spare:TABLE", "(State.FULL, Event.ROOM): State.OPEN",
        "(State.FULL, Event.ROOM): State.FULL", promise="room that a job leaves is offered again, by seed", caught_by=_SEEDS,
    ),
    defect(
        "order-in-between-turned-round", "cpc.server.federation.asked:Asked._onward", "return since, self._ways.priority(",
        "return since, -self._ways.priority(",
        promise="a server in between asks its peers in its order, by seed", caught_by=_SEEDS,
    ),
    defect(
        "in-between-nobody-has-a-turn", "cpc.queue.sources:Sources._turns_to_another", "if path == peer:", "if path:",
        promise="who comes first at a server in between gets the next room",
        caught_by=_PRIORITIES + "test_the_order_of_a_server_in_between_holds_for_those_behind_it",
    ),
    defect(
        "in-between-the-same-is-first-for-ever", "cpc.server.federation.asked:Asked._ask_on", "if cores := _cores(given):",
        "if (cores := _cores(given)) < 0:", promise="those of one priority behind a server in between take turns",
        caught_by=_PRIORITIES + "test_those_of_the_same_priority_behind_a_server_in_between_share",
    ),
    defect(
        "shares-of-jobs-instead-of-time", "cpc.server.federation.loans:Loan.ended",
        "use.cores * result.wall_seconds - use.charged", "use.cores * 0.0",
        promise="peers share the time of cores, however long their jobs are",
        caught_by=_PRIORITIES + "test_peers_of_the_same_priority_share_time_and_not_numbers_of_jobs",
    ),
)  # fmt: skip
