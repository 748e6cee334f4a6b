"""Logins, users and tokens."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from cpc.core.views import Page, Session, TokenView, UserView, View
from cpc.server.http.ask import Ask
from cpc.server.http.paging import Paging
from cpc.server.http.route import Nothing, Question, route
from cpc.server.roles import Act

Password = Annotated[str, Meta(max_length=1024)]


class Login(Question, frozen=True):
    user: str
    password: Password


class NewUser(Question, frozen=True):
    name: str
    password: Password
    super_user: bool = False


class UserChange(Question, frozen=True):
    """What is left out stays as it is. Changing one's own password needs the old one."""

    super_user: bool | None = None
    disabled: bool | None = None
    password: Password | None = None
    old_password: Password | None = None


class NewToken(Question, frozen=True):
    """`scope` is "all", "read" or "project:NAME"; `expires_in` in seconds."""

    name: str
    scope: str = "all"
    expires_in: Annotated[float, Meta(gt=0, le=10 * 366 * 86400.0)] = 90 * 86400.0


class MadeToken(View, frozen=True):
    """The token is shown this once."""

    token: str
    view: TokenView


@route("POST", "/login", act=Act.LOGIN, limit=8 << 10)
async def login(ask: Ask, body: Login) -> Session:
    """Exchange a name and a password for a token. Too many tries are answered with 429."""
    return await ask.services.accounts.login(body.user, body.password, ask.request.peer)


@route("POST", "/logout", act=Act.LOGOUT)
async def logout(ask: Ask) -> Nothing:
    """End the session that the token belongs to."""
    await ask.services.accounts.logout(ask.who)
    return Nothing()


@route("GET", "/whoami", act=Act.WHOAMI)
async def whoami(ask: Ask) -> UserView:
    """Who the token belongs to."""
    return await ask.services.accounts.whoami(ask.who)


@route("GET", "/users", act=Act.USER_LIST)
async def users(ask: Ask, query: Paging) -> Annotated[Page, UserView]:
    """All users."""
    return await ask.services.accounts.users(ask.who, query.after, query.limit)


@route("POST", "/users", act=Act.USER_ADD)
async def add_user(ask: Ask, body: NewUser) -> UserView:
    """Make a user."""
    return await ask.services.accounts.add_user(ask.call, body.name, body.password, body.super_user)


@route("DELETE", "/users/{name}", act=Act.USER_DELETE)
async def delete_user(ask: Ask, name: str) -> Nothing:
    """Delete a user. The last super user stays."""
    await ask.services.accounts.delete_user(ask.call, name)
    return Nothing()


@route("PATCH", "/users/{name}", act=Act.USER_CHANGE)
async def change_user(ask: Ask, name: str, body: UserChange) -> UserView:
    """Change a user; users may change their own password."""
    return await ask.services.accounts.change_user(
        ask.call, name, super_user=body.super_user, disabled=body.disabled,
        password=body.password, old_password=body.old_password,
    )  # fmt: skip


@route("GET", "/tokens", act=Act.TOKEN_LIST)
async def tokens(ask: Ask) -> Annotated[Page, TokenView]:
    """One's own tokens, without their secrets."""
    return await ask.services.accounts.tokens(ask.who)


@route("POST", "/tokens", act=Act.TOKEN_MAKE)
async def make_token(ask: Ask, body: NewToken) -> MadeToken:
    """Make a token for a script or a tool."""
    token, view = await ask.services.accounts.make_token(ask.call, body.name, body.scope, body.expires_in)
    return MadeToken(token=token, view=view)


@route("DELETE", "/tokens/{name}", act=Act.TOKEN_DELETE)
async def delete_token(ask: Ask, name: str) -> Nothing:
    """Revoke one of one's own tokens."""
    await ask.services.accounts.delete_token(ask.call, name)
    return Nothing()
