"""How two servers come to trust each other, and cease to: the states of one server as another one keeps it.

What this server's operator does (ask, trust, drop, revoke), what the other one is heard to do (requested, withdrew), and
that both have met under mutual TLS (met): each side has pinned the other's authority, so both operators have agreed.

Who has ended a trust must agree to a new one, and so must the other side: after `approved` or `asked` each waits in `sent`
until they have met, and takes no word of an end meanwhile. So it does not matter which operator is the first.
"""

from __future__ import annotations

import enum

from cpc.core.peer import PeerState


class Event(enum.StrEnum):
    """What can happen."""

    ASKED = "asked"  # our operator has compared the fingerprint, and sends a request
    REQUESTED = "requested"  # the other server has sent one
    APPROVED = "approved"  # our operator trusts it
    MET = "met"  # a connection was made on which each has proved who it is
    DROPPED = "dropped"  # our operator takes a request back, refuses one, or forgets a server whose trust has ended
    REVOKED = "revoked"  # our operator ends the trust, or will not be asked again
    WITHDREW = "withdrew"  # the other side has ended it


class Effect(enum.StrEnum):
    """What follows beside the new state, after it is on disk."""

    DIAL = "dial"
    LINK = "link"
    CUT = "cut"
    TELL = "tell"
    FORGET = "forget"

    @property
    def words(self) -> str:
        """The same, for people."""
        return _WORDS[self]


_WORDS = {
    Effect.DIAL: "its authority is pinned: it is tried to reach it",
    Effect.LINK: "it is a peer: a link with it counts",
    Effect.CUT: "its connections are closed, what was lent either way ends",
    Effect.TELL: "it is told so, now, or as soon as either side reaches the other; nothing else is said to it",
    Effect.FORGET: "nothing is kept of it",
}


NONE = None
_S = PeerState

#: state × event → (state, effects). No state: nothing is known of the server. What is not listed is refused.
TABLE: dict[tuple[PeerState | None, Event], tuple[PeerState | None, tuple[Effect, ...]]] = {
    (NONE, Event.ASKED): (_S.SENT, (Effect.DIAL,)),
    (NONE, Event.REQUESTED): (_S.RECEIVED, ()),
    (_S.SENT, Event.ASKED): (_S.SENT, (Effect.DIAL,)),
    (_S.SENT, Event.REQUESTED): (_S.SENT, (Effect.DIAL,)),
    (_S.SENT, Event.MET): (_S.TRUSTED, (Effect.LINK,)),
    (_S.SENT, Event.DROPPED): (NONE, (Effect.FORGET,)),
    (_S.SENT, Event.REVOKED): (_S.REVOKED, (Effect.TELL,)),
    (_S.RECEIVED, Event.ASKED): (_S.TRUSTED, (Effect.DIAL,)),
    (_S.RECEIVED, Event.REQUESTED): (_S.RECEIVED, ()),
    (_S.RECEIVED, Event.APPROVED): (_S.TRUSTED, (Effect.DIAL,)),
    (_S.RECEIVED, Event.DROPPED): (NONE, (Effect.FORGET,)),
    (_S.RECEIVED, Event.REVOKED): (_S.REVOKED, (Effect.TELL,)),
    (_S.TRUSTED, Event.REQUESTED): (_S.TRUSTED, (Effect.DIAL,)),
    (_S.TRUSTED, Event.MET): (_S.TRUSTED, (Effect.LINK,)),
    (_S.TRUSTED, Event.REVOKED): (_S.REVOKED, (Effect.CUT, Effect.TELL)),
    (_S.TRUSTED, Event.WITHDREW): (_S.WITHDRAWN, (Effect.CUT,)),
    (_S.REVOKED, Event.ASKED): (_S.SENT, (Effect.DIAL,)),
    (_S.REVOKED, Event.APPROVED): (_S.SENT, (Effect.DIAL,)),
    (_S.REVOKED, Event.DROPPED): (NONE, (Effect.FORGET,)),
    (_S.WITHDRAWN, Event.ASKED): (_S.SENT, (Effect.DIAL,)),
    (_S.WITHDRAWN, Event.APPROVED): (_S.SENT, (Effect.DIAL,)),
    (_S.WITHDRAWN, Event.REQUESTED): (_S.RECEIVED, ()),
    (_S.WITHDRAWN, Event.REVOKED): (_S.REVOKED, ()),
    (_S.WITHDRAWN, Event.DROPPED): (NONE, (Effect.FORGET,)),
}


def can(state: PeerState | None, event: Event) -> bool:
    """Whether this may happen to a server in this state."""
    return (state, event) in TABLE


def after(state: PeerState | None, event: Event) -> tuple[PeerState | None, tuple[Effect, ...]]:
    """The state that follows, and what is to be done; a pair that is not in the table is a defect of the caller."""
    return TABLE[state, event]


def pinned(state: PeerState | None) -> bool:
    """Whether connections of this server are let in, and it is tried to reach it."""
    return state in (PeerState.SENT, PeerState.TRUSTED)


def ended(state: PeerState | None) -> bool:
    """Whether the trust has ended, whoever has ended it."""
    return state in (PeerState.REVOKED, PeerState.WITHDRAWN)
