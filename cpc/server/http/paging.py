"""What every list can be asked for."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from cpc.server.http.route import Question

Limit = Annotated[int, Meta(ge=1, le=1000)]
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class Paging(Question, frozen=True):
    """`after` is the `next` of the page before."""

    limit: Limit = 100
    after: str = ""
