"""Everything that can be refused, in words for the person who asked.

An error says what happened, to what, and what to do next. `code` is stable and part of the public API; `status` is the
HTTP status that carries it; cpcc ends with exit code 1 for all of them and 2 for a command line it cannot read.
"""

from __future__ import annotations

from typing import ClassVar


class CopernicusError(Exception):
    """A refusal with a stable code. `message` says what happened; `hint`, if any, what to do next."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class BadInput(CopernicusError):
    """A value of the wrong type, out of range, or not in the grammar."""

    code = "bad-input"
    status = 400


class NotLoggedIn(CopernicusError):
    """No token, or one that is unknown, expired or revoked."""

    code = "not-logged-in"
    status = 401


class Denied(CopernicusError):
    """Known who you are; your role does not allow this."""

    code = "denied"
    status = 403


class NotFound(CopernicusError):
    """No such thing, or none that you may see."""

    code = "not-found"
    status = 404


class Conflict(CopernicusError):
    """The thing exists already, or is in a state in which this cannot be done."""

    code = "conflict"
    status = 409


class Gone(CopernicusError):
    """It was here and has been removed: an expired key, events past their retention."""

    code = "gone"
    status = 410


class TooLarge(CopernicusError):
    """More bytes, entries or nesting than is taken."""

    code = "too-large"
    status = 413


class RateLimited(CopernicusError):
    """Too many tries; wait."""

    code = "rate-limited"
    status = 429


class Unavailable(CopernicusError):
    """The server cannot do this now: stopping, database away, disk full. Nothing was done; try again."""

    code = "unavailable"
    status = 503


class OverQuota(CopernicusError):
    """The project's disk quota, or the server's free-space stop, does not allow more."""

    code = "over-quota"
    status = 507


class Refused(CopernicusError):
    """The other side of a machine connection refused: protocol, identity, unknown method."""

    code = "refused"
    status = 403


class TurnedAway(Refused):
    """Refused for good: this identity is revoked, or its time is over. No later try with it is answered otherwise."""

    code = "turned-away"
    status = 403


class TrustEnded(TurnedAway):
    """One server to another: its administrator has revoked the one that comes. What runs for it may come to its end there."""

    code = "trust-ended"
    hand_back: ClassVar[bool] = False


class TrustEndedNow(TrustEnded):
    """The same, and what runs for it is to be handed back."""

    code = "trust-ended-hand-back"
    hand_back = True


class Damaged(CopernicusError):
    """A file or database that is not what it was when written. Says which, and how to go on."""

    code = "damaged"
    status = 500


BY_CODE: dict[str, type[CopernicusError]] = {
    kind.code: kind
    for kind in (
        BadInput, NotLoggedIn, Denied, NotFound, Conflict, Gone, TooLarge, RateLimited, Unavailable, OverQuota,
        Refused, TurnedAway, TrustEnded, TrustEndedNow, Damaged, CopernicusError,
    )
}  # fmt: skip


def from_code(code: str, message: str, hint: str = "") -> CopernicusError:
    """The error that was sent as (code, message, hint); an unknown code, from a newer peer, stays readable."""
    return BY_CODE.get(code, CopernicusError)(message, hint)
