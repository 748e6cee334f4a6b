"""What `pip install PLUGIN` does for a plugin of one module: the module, and its entry points, into a directory.

python install_plugin.py PLUGIN DIRECTORY: without an index, a build backend or a change of the environment.
"""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path


def main(plugin: str, directory: str) -> None:
    """See above."""
    project = tomllib.loads((Path(plugin) / "pyproject.toml").read_text())["project"]
    target = Path(directory)
    about = target / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir(parents=True)
    for module in Path(plugin).glob("*.py"):
        shutil.copy(module, target)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *(f"{n} = {v}" for n, v in points.items()))]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
