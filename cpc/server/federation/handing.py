"""Results that come out of custody, reported to their owner beside the reports of living workers."""

from __future__ import annotations

from cpc.core.lease import Lease
from cpc.server.federation.home import Home
from cpc.server.federation.ways import Ways
from cpc.wire.messages import Checkpoint, Result, Settled
from cpc.wire.peer_messages import MAX_REPORTED, Report, ReportAnswer, WorkerReport

TIMEOUT = 60.0


class Handing:
    """`custody.Reports`. What an owner says beside its word on the result is carried out by `home`."""

    def __init__(self, ways: Ways, home: Home) -> None:
        self._ways = ways
        self._home = home

    async def hand_in(
        self, route: tuple[str, ...], worker: int, result: Result, checkpoint: Checkpoint | None
    ) -> Settled | None:
        """The owner's word; None: not now."""
        checkpoints = (checkpoint,) if checkpoint is not None else ()
        said = WorkerReport(worker=worker, results=(result,), checkpoints=checkpoints, holds=(result.lease,))
        answer = await self._report(route, (said,))
        found = (each for one in answer.workers if one.worker == worker for each in one.orders.settled)
        return next((each for each in found if each.lease == result.lease), None)

    async def renew(self, route: tuple[str, ...], held: dict[int, tuple[Lease, ...]]) -> None:
        """We have these."""
        said = tuple(WorkerReport(worker=worker, holds=leases) for worker, leases in held.items())
        for start in range(0, len(said), MAX_REPORTED):
            await self._report(route, said[start : start + MAX_REPORTED])

    async def _report(self, route: tuple[str, ...], workers: tuple[WorkerReport, ...]) -> ReportAnswer:
        answer = await self._ways.ask_far(route, "report", Report(number=0, workers=workers), ReportAnswer, TIMEOUT)
        await self._home.said("/".join(route[1:]), answer)
        return answer
