"""People: logging in and out, users, and who may use a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cpc.client.commands import asking
from cpc.client.context import Context, pass_context
from cpc.client.output import harmless, indent
from cpc.core.errors import BadInput, Conflict, NotFound, NotLoggedIn

if TYPE_CHECKING:
    from cpc.core.views import UserView

ROLES = ("owner", "member", "viewer")


@click.command("login")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the password from stdin.")
@click.argument("user")
@pass_context
def login(context: Context, user: str, from_stdin: bool) -> None:
    """Log in to the default server."""
    server = context.server
    secret = asking.password(f"Password of {harmless(user)}", from_stdin)
    session = context.client().login(user, secret)
    # Another user's current project would be a surprise.
    project = server.project if server.user == session.user else ""
    context.config.update(server.name, token=session.token, user=session.user, project=project)
    shown = {"user": session.user, "super_user": session.super_user, "expires": session.expires}
    context.out.data("login", shown, lambda: f"Logged in as {harmless(session.user)}", lambda: [session.user])


@click.command("logout")
@pass_context
def logout(context: Context) -> None:
    """End the session; the token is worth nothing afterwards."""
    server = context.server
    try:
        context.client().logout()
    except NotLoggedIn:
        context.out.note("You were not logged in.")
    context.config.update(server.name, token="", user="", project="")
    context.out.say("Logged out.")


@click.command("whoami")
@pass_context
def whoami(context: Context) -> None:
    """Which user you are."""
    me = context.client().whoami()
    context.out.data("user", me, lambda: _line(me), lambda: [me.name])


@click.command("passwd")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the passwords from stdin, one a line: old, new.")
@click.argument("user", required=False)
@pass_context
def passwd(context: Context, user: str | None, from_stdin: bool) -> None:
    """Change your password; with USER, as an administrator, somebody else's (no old one is asked for)."""
    client = context.client()
    me = client.whoami()
    changes: dict[str, object] = {}
    if user is None or user == me.name:
        changes["old_password"] = asking.password("Old password", from_stdin)
    changes["password"] = asking.password("New password", from_stdin, repeat=True)
    changed = client.change_user(user or me.name, **changes)
    context.out.say(f"Changed the password of {changed.name}")


@click.command("users")
@pass_context
def users(context: Context) -> None:
    """List the users."""
    found = context.client().users()
    context.out.data(
        "users", found, lambda: "\n".join(["Users:", *(indent(_line(one)) for one in found)]),
        lambda: [one.name for one in found],
    )  # fmt: skip


def _line(user: UserView) -> str:
    kind = "Super user" if user.super_user else "Regular user"
    return f"{harmless(user.name)} ({kind}{', disabled' if user.disabled else ''})"


@click.command("add-user")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the password from stdin.")
@click.argument("user")
@pass_context
def add_user(context: Context, user: str, from_stdin: bool) -> None:
    """Make a user. Asks for the password twice."""
    client = context.client()
    secret = asking.password(f"Password for {harmless(user)}", from_stdin, repeat=True)
    made = client.add_user(user, secret)
    context.out.data("user", made, lambda: f"Created user {harmless(made.name)}", lambda: [made.name])


@click.command("delete-user")
@click.argument("user")
@pass_context
def delete_user(context: Context, user: str) -> None:
    """Delete a user. Their projects and jobs stay."""
    context.client().delete_user(user)
    context.out.say(f"Deleted user {user}")


@click.command("promote-user")
@click.argument("user")
@pass_context
def promote_user(context: Context, user: str) -> None:
    """Make a user a super user."""
    _set_level(context, user, True)


@click.command("demote-user")
@click.argument("user")
@pass_context
def demote_user(context: Context, user: str) -> None:
    """Make a super user a regular user."""
    _set_level(context, user, False)


def _set_level(context: Context, name: str, super_user: bool) -> None:
    client = context.client()
    level = "super user" if super_user else "regular user"
    known = next((one for one in client.users() if one.name == name), None)
    if known is None:
        raise NotFound(f"there is no user {name!r}", "see `cpcc users`")
    if known.super_user == super_user:
        raise Conflict(f"{name} is a {level} already")
    changed = client.change_user(name, super_user=super_user)
    context.out.data("user", changed, lambda: f"{harmless(name)} is now a {level}", lambda: [name])


@click.command("grant-access")
@click.argument("user")
@click.argument("role", required=False, type=click.Choice(ROLES))
@click.option("--role", "role_option", type=click.Choice(ROLES), help="What they may do; member if left out.")
@pass_context
def grant_access(context: Context, user: str, role: str | None, role_option: str | None) -> None:
    """Let a user work in the current project: as its member, viewer or owner."""
    if role and role_option and role != role_option:
        raise BadInput(f"both {role} and {role_option} were named", "name one role")
    client = context.client()
    made = client.grant(user, role or role_option or "member")
    text = f"Granted access to user {made.user} on project {client.project} as {made.role}"
    context.out.data("member", made, lambda: harmless(text), lambda: [made.user])


@click.command("revoke-access")
@click.argument("user")
@pass_context
def revoke_access(context: Context, user: str) -> None:
    """Take a user's access to the current project away."""
    client = context.client()
    client.revoke(user)
    context.out.say(f"Revoked access of user {user} on project {client.project}")
