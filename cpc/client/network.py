"""A project's dataflow network for programs: look at it, change it, fetch from it, save and load it.

>>> network = Client.from_config().network("folding")
>>> network.edit(AddInstance("sum", "float::add"), SetValue("sum:in.a", 3.0), SetValue("sum:in.b", 4.0), Activate())
>>> network.wait_for("sum:out.c").value
7.0
"""

from __future__ import annotations

import time  # a program of a user is at the edge: it may look at the clock
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cpc.client.calls import Calls, part, understood
from cpc.core import network_views as views
from cpc.core import plain
from cpc.core.edits import Define, Edit, SetValue
from cpc.core.errors import CopernicusError, Unavailable
from cpc.core.plain import FileRef, Plain
from cpc.core.views import FileView, LogView

if TYPE_CHECKING:
    from cpc.client.client import Client

PAGE = 1000
PAUSE = 15.0  # seconds between two looks when nothing was heard


class Network(Calls):
    """The network of one project. It uses its client's connection, so it is for the same thread."""

    def __init__(self, client: Client, project: str) -> None:
        super().__init__(client.transport, project)
        self.client = client

    # --- changing ---

    def edit(self, *edits: Edit) -> views.Changed:
        """Carry out all of these or none. In an open transaction they are recorded instead: `level` is above 0 then."""
        return self._change(views.Changed, "POST", self._at("edits"), {"edits": edits})

    def set(self, item: str, value: Plain) -> views.Changed:
        """Give an item a value; an array becomes as long as the value."""
        return self.edit(SetValue(item, plain.wire(value)))

    def set_file(self, item: str, *files: Path | str) -> views.Changed:
        """Upload files, then give them to the item: one, or several for an item that ends in `[+]`, in one change."""
        return self.edit(*(SetValue(item, plain.wire(self.upload(file))) for file in files))

    def upload(self, file: Path | str) -> FileRef:
        """Have a file on the server; what comes back can be part of a value."""
        from cpc.client import transfer

        return FileRef(Path(file).name, transfer.upload(self.client, file, self.project))

    def define(self, text: str) -> views.Changed:
        """Types, functions and instances from the text of an XML file."""
        return self.edit(Define(text))

    # --- transactions ---

    def begin(self) -> views.TransactionView:
        """From now on edits of this login are recorded, until `commit` or `rollback`. Levels nest."""
        return self._change(views.TransactionView, "POST", self._at("transaction"), {})

    def transaction(self) -> views.TransactionView:
        """The open one, and what committing it would do; `level` 0: there is none."""
        return self._get(views.TransactionView, self._at("transaction"))

    def commit(self) -> views.Changed:
        """Carry out what the innermost level has recorded: all of it or nothing."""
        return self._change(views.Changed, "POST", self._at("transaction/commit"), {})

    def rollback(self) -> views.TransactionView:
        """Forget what the innermost level has recorded; the answer is that level."""
        return understood(self._call("DELETE", self._at("transaction")), views.TransactionView)

    # --- looking ---

    def item(self, path: str = "", *, after: str = "", limit: int = PAGE) -> views.ItemView:
        """The project, an instance or a value. At most `limit` of the instances within, those after the name `after`."""
        return self._get(views.ItemView, self._at("item"), path=path, after=after, limit=limit)

    def whole_item(self, path: str = "") -> views.ItemView:
        """The same with all instances that are directly within, however many."""
        found = self.item(path)
        instances, following = list(found.instances), found.next
        while following:
            more = self.item(path, after=following)
            instances += more.instances
            following = more.next
        return msgspec.structs.replace(found, instances=tuple(instances), next="")

    def value(self, path: str) -> views.ValueView:
        """An item's value in the wire form of `cpc.core.plain`; NotFound if there is no such item."""
        return self._get(views.ValueView, self._at("value"), path=path)

    def get(self, path: str) -> Plain:
        """An item's value; None when it is not set."""
        return plain.read(self.value(path).value)

    def wait_for(self, path: str, timeout: float | None = None) -> views.ValueView:
        """The item's value as soon as it has one. Unavailable after `timeout` seconds; its instance's error if it has one."""
        from cpc.client.watch import Changes

        end = None if timeout is None else time.perf_counter() + timeout
        with Changes(self.client, project=self.project) as changes:
            while not (found := self.value(path)).set:
                self._complain(path)
                left = PAUSE if end is None else end - time.perf_counter()
                if left <= 0:
                    raise Unavailable(f"{path} has no value after {timeout:g} s", "see `cpcc ls` and `cpcc status`")
                changes.wait(min(PAUSE, left))
        return found

    def _complain(self, path: str) -> None:
        """Raise the error of the instance that the item belongs to."""
        name = instance_of(path)
        found = self.item(name, limit=1)
        if found.own == "error":
            raise CopernicusError(
                f"{name} is in error, so {path} gets no value: {found.error}", "`cpcc clear-error` lets it try again"
            )

    def info(self, name: str) -> views.InfoView:
        """A module, function or type that the project has imported."""
        return self._get(views.InfoView, self._at("info"), name=name)

    def log(self, instance: str, offset: int = 0, limit: int = 1 << 20) -> LogView:
        """Part of an instance's log."""
        return self._get(LogView, self._at("instance-log"), path=instance, offset=offset, limit=limit)

    def drawing(self, path: str = "") -> views.NetworkView:
        """All instances directly within, and the connections among them."""
        found = self._get(views.NetworkView, self._at("network"), path=path, limit=PAGE)
        instances, links = list(found.instances), dict.fromkeys(found.links)
        while found.next:
            found = self._get(views.NetworkView, self._at("network"), path=path, after=found.next, limit=PAGE)
            instances += found.instances
            links |= dict.fromkeys(found.links)
        return msgspec.structs.replace(found, instances=tuple(instances), links=tuple(links), next="")

    def explain(self, path: str) -> views.ExplainView:
        """Where a value comes from."""
        return self._get(views.ExplainView, self._at("explain"), path=path)

    def record(self, after: int = 0, limit: int = PAGE) -> list[views.RecordView]:
        """What has changed the network, in order: those after the number `after`."""
        return self._some(views.RecordView, self._at("record"), limit, after=after)

    # --- files and archives ---

    def file(self, path: str, ref: FileRef) -> FileView:
        """What `transfer.download` needs to know of a file that is the value of an item."""
        content = ref.content
        address = f"/api/v1{self._at('file')}?path={part(path)}"
        return FileView(
            path=ref.name, kind="file", size=content.size, digest=content.digest.hex(), mode=0o644, target="", url=address
        )  # fmt: skip

    def save(self, target: Path | str, *, force: bool = False) -> int:
        """The whole project into one file; its size. Conflict when there is such a file, unless `force`."""
        from cpc.client import archive

        return archive.save(self.transport, self._at("archive"), Path(target), force)

    def load(self, file: Path | str) -> views.Changed:
        """What `save` has written, into this project, which must be empty."""
        ref = self.upload(file)
        return self._change(views.Changed, "POST", self._at("load"), {"file": plain.wire(ref)})

    def _at(self, what: str) -> str:
        return f"{self._in(None)}/{what}"


def instance_of(path: str) -> str:
    """The instance that an item belongs to: `a:b` of `a:b:out.x[3]`; the whole path when it has no value in it."""
    parts = path.replace(":", ".").split(".")
    for place, name in enumerate(parts):
        if name.replace("-", "_") in ("in", "out", "sub_in", "sub_out", "msg"):
            return ":".join(parts[:place])
    return path
