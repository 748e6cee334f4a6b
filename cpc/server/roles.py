"""What each role may do: one table, enforced by the gate and printed in the manual.

python -m cpc.server.roles > docs/reference/roles.md
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cpc.core.errors import BadInput, Denied, NotFound, NotLoggedIn
from cpc.server.principal import Principal


class Who(enum.Enum):
    """The least that somebody must be. The last three are roles in the project that the act touches."""

    ANYONE = "anyone"
    USER = "any user"
    SUPER = "super user"
    VIEWER = "viewer of the project"
    MEMBER = "member of the project"
    OWNER = "owner of the project"


class Role(enum.StrEnum):
    """What a user is in a project; each may do what the ones before it may."""

    VIEWER = "viewer"
    MEMBER = "member"
    OWNER = "owner"

    @classmethod
    def read(cls, text: str) -> Role:
        """The role with this name, or BadInput."""
        try:
            return cls(text)
        except ValueError:
            raise BadInput(f"{text[:40]!r} is not a role", "roles are viewer, member and owner") from None


class Act(enum.StrEnum):
    """Everything that can be asked of the server."""

    SERVER_INFO = "server.info"
    SERVER_STATUS = "server.status"
    SERVER_RELOAD = "server.reload"
    SERVER_STOP = "server.stop"
    LOGIN = "login"
    LOGOUT = "logout"
    WHOAMI = "whoami"
    USER_LIST = "user.list"
    USER_ADD = "user.add"
    USER_DELETE = "user.delete"
    USER_CHANGE = "user.change"
    PASSWORD_CHANGE = "password.change"
    TOKEN_LIST = "token.list"
    TOKEN_MAKE = "token.make"
    TOKEN_DELETE = "token.delete"
    PROJECT_LIST = "project.list"
    PROJECT_CREATE = "project.create"
    PROJECT_SHOW = "project.show"
    PROJECT_CHANGE = "project.change"
    PROJECT_DELETE = "project.delete"
    MEMBER_GRANT = "member.grant"
    MEMBER_REVOKE = "member.revoke"
    JOB_LIST_ALL = "job.list-all"
    JOB_LIST = "job.list"
    JOB_SHOW = "job.show"
    JOB_OUTPUT = "job.output"
    JOB_SUBMIT = "job.submit"
    JOB_CANCEL = "job.cancel"
    JOB_RETRY = "job.retry"
    JOB_FAIL_ATTEMPT = "job.fail-attempt"
    JOB_PRIORITISE = "job.prioritise"
    JOB_FORGET = "job.forget"
    NETWORK_EDIT = "network.edit"
    MODULE_LIST = "module.list"
    MODULE_INSTALL = "module.install"
    FILE_READ = "file.read"
    FILE_UPLOAD = "file.upload"
    WORKER_LIST = "worker.list"
    WORKER_DRAIN = "worker.drain"
    WORKER_RESUME = "worker.resume"
    HEARTBEAT_LIST = "heartbeat.list"
    POOL_LIST = "pool.list"
    POOL_ADD = "pool.add"
    POOL_SET = "pool.set"
    POOL_REMOVE = "pool.remove"
    POOL_PAUSE = "pool.pause"
    POOL_DOCTOR = "pool.doctor"
    POOL_PROBE = "pool.probe"
    ALLOCATION_CANCEL = "allocation.cancel"
    NODE_LIST = "node.list"
    NODE_DRAIN = "node.drain"
    NODE_RESUME = "node.resume"
    BUNDLE_LIST = "bundle.list"
    BUNDLE_MAKE_OWN = "bundle.make-own"
    BUNDLE_MAKE = "bundle.make"
    BUNDLE_REVOKE_OWN = "bundle.revoke-own"
    BUNDLE_REVOKE = "bundle.revoke"
    CUSTODY_LIST = "custody.list"
    CUSTODY_DROP = "custody.drop"
    EVENT_LIST = "event.list"
    PEER_LIST = "peer.list"
    PEER_REQUEST = "peer.request"
    PEER_ASK = "peer.ask"
    PEER_TRUST = "peer.trust"
    PEER_DROP = "peer.drop"
    PEER_REVOKE = "peer.revoke"
    PEER_CHANGE = "peer.change"
    AUDIT = "audit"
    SETTING_LIST = "setting.list"
    SETTING_SET = "setting.set"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may do an act; whether it changes anything (a token with scope "read" may not)."""

    who: Who
    changes: bool
    text: str

    @property
    def audited(self) -> bool:
        """Privileged acts leave a line in the audit."""
        return self.changes and self.who in (Who.SUPER, Who.OWNER)


def _see(who: Who, text: str) -> Rule:
    return Rule(who, False, text)


def _do(who: Who, text: str) -> Rule:
    return Rule(who, True, text)


RULES: dict[Act, Rule] = {
    Act.SERVER_INFO: _see(Who.ANYONE, "see the server's name, version and fingerprint"),
    Act.LOGIN: _see(Who.ANYONE, "log in with a password"),
    Act.PEER_REQUEST: _see(Who.ANYONE, "as another server, ask to be trusted, and take that back; people decide"),
    Act.LOGOUT: _see(Who.USER, "end the session that asks"),
    Act.WHOAMI: _see(Who.USER, "see who is logged in"),
    Act.SERVER_STATUS: _see(Who.USER, "see the server's status"),
    Act.USER_LIST: _see(Who.USER, "list the users"),
    Act.PASSWORD_CHANGE: _do(Who.USER, "change one's own password, knowing the old one"),
    Act.TOKEN_LIST: _see(Who.USER, "list one's own tokens"),
    Act.TOKEN_MAKE: _do(Who.USER, "make a token for oneself"),
    Act.TOKEN_DELETE: _do(Who.USER, "delete one of one's own tokens"),
    Act.PROJECT_LIST: _see(Who.USER, "list the projects one has a role in"),
    Act.PROJECT_CREATE: _do(Who.USER, "create a project and become its owner"),
    Act.JOB_LIST_ALL: _see(Who.USER, "list the jobs of all projects one has a role in"),
    Act.WORKER_LIST: _see(Who.USER, "see the workers"),
    Act.HEARTBEAT_LIST: _see(Who.USER, "see the heartbeats of the jobs of one's projects"),
    Act.POOL_LIST: _see(Who.USER, "see the pools, why they are asked for what they are, and their allocations"),
    Act.NODE_LIST: _see(Who.USER, "see the nodes of batch systems"),
    Act.BUNDLE_LIST: _see(Who.USER, "list one's own client bundles"),
    Act.BUNDLE_MAKE_OWN: _do(Who.USER, "make a client bundle for oneself"),
    Act.BUNDLE_REVOKE_OWN: _do(Who.USER, "revoke one's own client bundle"),
    Act.MODULE_LIST: _see(Who.USER, "list the modules that the server has"),
    Act.EVENT_LIST: _see(Who.USER, "watch the events of one's projects, and those of workers and the server"),
    Act.PEER_LIST: _see(Who.USER, "see the servers that are known, and those that can be reached through them"),
    Act.PROJECT_SHOW: _see(Who.VIEWER, "see the project, its members and its use"),
    Act.JOB_LIST: _see(Who.VIEWER, "list the project's jobs"),
    Act.JOB_SHOW: _see(Who.VIEWER, "see a job, why it waits, and wait for it"),
    Act.JOB_OUTPUT: _see(Who.VIEWER, "read a job's logs and outputs"),
    Act.FILE_READ: _see(Who.VIEWER, "read the project's files"),
    Act.FILE_UPLOAD: _do(Who.MEMBER, "upload files"),
    Act.NETWORK_EDIT: _do(Who.MEMBER, "change the project's network"),
    Act.JOB_SUBMIT: _do(Who.MEMBER, "submit jobs"),
    Act.JOB_CANCEL: _do(Who.MEMBER, "cancel jobs"),
    Act.JOB_RETRY: _do(Who.MEMBER, "give failed and cancelled jobs a fresh start"),
    Act.JOB_FAIL_ATTEMPT: _do(Who.MEMBER, "declare a running attempt lost"),
    Act.JOB_PRIORITISE: _do(Who.MEMBER, "change a job's priority"),
    Act.JOB_FORGET: _do(Who.MEMBER, "forget finished jobs and their files"),
    Act.PROJECT_DELETE: _do(Who.OWNER, "delete the project, its jobs and its files"),
    Act.MEMBER_GRANT: _do(Who.OWNER, "give somebody a role in the project"),
    Act.MEMBER_REVOKE: _do(Who.OWNER, "take away somebody's role in the project"),
    Act.USER_ADD: _do(Who.SUPER, "add a user"),
    Act.USER_DELETE: _do(Who.SUPER, "delete a user (never the last super user)"),
    Act.USER_CHANGE: _do(Who.SUPER, "promote, demote, disable and enable a user, set a new password"),
    Act.PROJECT_CHANGE: _do(Who.SUPER, "change a project's quota and its share of the workers"),
    Act.WORKER_DRAIN: _do(Who.SUPER, "drain a worker"),
    Act.WORKER_RESUME: _do(Who.SUPER, "let a drained worker work again"),
    Act.POOL_ADD: _do(Who.SUPER, "add a pool"),
    Act.POOL_SET: _do(Who.SUPER, "change a pool"),
    Act.POOL_REMOVE: _do(Who.SUPER, "remove a pool"),
    Act.POOL_PAUSE: _do(Who.SUPER, "have a pool asked for nothing more, and again"),
    Act.POOL_DOCTOR: _see(Who.SUPER, "have a pool's batch system examined"),
    Act.POOL_PROBE: _do(Who.SUPER, "look at a pool from one of its nodes"),
    Act.ALLOCATION_CANCEL: _do(Who.SUPER, "cancel an allocation"),
    Act.NODE_DRAIN: _do(Who.SUPER, "drain a node of a batch system, with the workers on it"),
    Act.NODE_RESUME: _do(Who.SUPER, "let a drained node be used again"),
    Act.BUNDLE_MAKE: _do(Who.SUPER, "make a worker bundle, or a client bundle for anybody"),
    Act.BUNDLE_REVOKE: _do(Who.SUPER, "revoke any bundle"),
    Act.CUSTODY_LIST: _see(Who.SUPER, "see the results of other servers' jobs that are in custody"),
    Act.CUSTODY_DROP: _do(Who.SUPER, "give up a result that is in custody"),
    Act.MODULE_INSTALL: _do(Who.SUPER, "upload definitions that name code to be run at the server"),
    Act.PEER_ASK: _do(Who.SUPER, "ask another server to be connected"),
    Act.PEER_TRUST: _do(Who.SUPER, "trust another server"),
    Act.PEER_DROP: _do(Who.SUPER, "refuse another server's request, or take back one's own"),
    Act.PEER_REVOKE: _do(Who.SUPER, "end the trust in another server"),
    Act.PEER_CHANGE: _do(Who.SUPER, "change in which order servers are asked, and what is lent and accepted"),
    Act.AUDIT: _see(Who.SUPER, "read the audit"),
    Act.SETTING_LIST: _see(Who.SUPER, "see the settings"),
    Act.SETTING_SET: _do(Who.SUPER, "change a setting"),
    Act.SERVER_RELOAD: _do(Who.SUPER, "make the server read its certificates and settings again"),
    Act.SERVER_STOP: _do(Who.SUPER, "stop the server"),
}

_IN_PROJECT = {Who.VIEWER: 0, Who.MEMBER: 1, Who.OWNER: 2}
_RANK = {Role.VIEWER: 0, Role.MEMBER: 1, Role.OWNER: 2}


def in_project(act: Act) -> bool:
    """Whether the act needs a role in a project."""
    return RULES[act].who in _IN_PROJECT


def allowed(act: Act, who: Principal, role: Role | None = None, project: int = 0, what: str = "") -> bool:
    """Returns if `who`, with this role in the project with this id, may do `act`; else raises.

    True: only because they are a super user, who may do anything in any project. `what` names the thing asked for:
    it is reported as not found to those who have no role in its project. NotLoggedIn, Denied or NotFound.
    """
    rule = RULES[act]
    if rule.who is Who.ANYONE:
        return False
    if not who.user and not who.super_user:
        raise NotLoggedIn("you are not logged in", "log in with `cpcc login USER`")
    by_super = _in_project(rule, who, role, project, what) if in_project(act) else _server_wide(rule, who)
    if rule.changes and who.scope == "read":
        raise Denied(f"this token may only read; it may not {rule.text}", "use another token, or log in")
    return by_super


def _in_project(rule: Rule, who: Principal, role: Role | None, project: int, what: str) -> bool:
    if (role is None and not who.super_user) or (who.project and who.project != project):
        raise NotFound(
            f"there is no {what or 'such project'}, or none that you may see", "`cpcc projects` lists your projects"
        )
    if role is not None and _RANK[role] >= _IN_PROJECT[rule.who]:
        return False
    if who.super_user:
        return True
    needed = next(name for name, rank in _RANK.items() if rank == _IN_PROJECT[rule.who])
    raise Denied(
        f"you are a {role} of this project; to {rule.text} one must be its {needed}",
        f"ask an owner of the project: cpcc grant-access {who.name} {needed}",
    )


def _server_wide(rule: Rule, who: Principal) -> bool:
    if who.project and (rule.changes or rule.who is Who.SUPER):
        raise Denied(f"this token is good for one project only; it may not {rule.text}", "log in instead")
    if rule.who is Who.SUPER and not who.super_user:
        raise Denied(f"only a super user may {rule.text}", "ask an administrator of this server")
    return rule.who is Who.SUPER


def markdown() -> str:
    """The table as a page of the manual."""
    lines = [
        "# Who may do what",
        "",
        "Printed from `cpc/server/roles.py`, which is also what the server enforces. An owner of a project may do all that a",
        "member may, a member all that a viewer may. A super user may do everything, in every project; what they change in a",
        "project they have no such role in is written to the audit, as is everything marked *audited*.",
        "",
        "A token with scope `read` may do nothing marked *changes*; one with scope `project:NAME` may act in that project,",
        "see what any user may see, and nothing else.",
    ]  # fmt: skip
    for who in Who:
        lines += ["", f"## {who.value[0].upper()}{who.value[1:]}", "", "| act | may | |", "|---|---|---|"]
        for act, rule in RULES.items():
            if rule.who is who:
                mark = "audited" if rule.audited else "changes" if rule.changes else ""
                lines.append(f"| `{act}` | {rule.text} | {mark} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
