"""`cpc-worker --show`: what this worker would announce, and what it did not find and why."""

from __future__ import annotations

from collections.abc import Sequence

from cpc.api import Found, Node, Platform
from cpc.core.resources import show_size
from cpc.worker.limits import Limits


def show(platform: Platform, found: Sequence[Found], node: Node, limits: Limits | None = None) -> str:
    """The whole text, without a newline at its end."""
    total = platform.total()
    lines = [f"Platform {platform.name}: {platform.summary}".rstrip(": "), f"  host    {node.host}"]
    jobs = f", {platform.cores_per_job} for each job" if platform.cores_per_job else ""
    lines.append(f"  cores   {total.cores}{jobs}")
    lines.append(f"  memory  {show_size(total.memory)}, {show_size(node.available)} available now")
    kinds = ", ".join(f"{gpu.id} {gpu.name or gpu.kind}" for gpu in node.gpus)
    lines.append(f"  gpus    {total.gpus}" + (f" ({kinds})" if kinds and total.gpus else ""))
    lines += [f"  {name}  {amount}" for name, amount in sorted(total.other.items())]
    lines.append(f"  memory limits of jobs: {(limits or Limits()).describe()}")
    lines += [f"  {line}" for line in platform.describe()]
    lines += [f"  note: {note}" for note in node.notes]
    there = sorted((one for one in found if not one.why_not), key=lambda one: (one.name, one.version))
    lines += ["", f"Executables announced: {len(there) or 'none'}"]
    width = max((len(one.name) for one in there), default=0)
    versions = max((len(one.version) for one in there), default=0)
    lines += [f"  {one.name:{width}}  {one.version:{versions}}  {one.source}".rstrip() for one in there]
    missing = [one for one in found if one.why_not]
    if missing:
        lines += ["", "Not found:"]
        lines += [f"  {one.name}: {one.why_not}" for one in missing]
    return "\n".join(lines)
