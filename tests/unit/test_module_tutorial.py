"""The page about modules: its modules are written as printed, and its tests are run.

What needs a server is run with all other pages (`tests/acceptance/test_documentation.py`).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers.manual import commands

PAGE = Path(__file__).parents[2] / "docs" / "user" / "modules.md"

DOUBLE = """
import os, sys
sys.path.insert(0, os.getcwd())
from pathlib import Path
from cpc.api.testing import Project
from cpc.controller.run import run
from cpc.dataflow import xml

def double(job):
    assert job.args == ("-c", "print(2*21)")
    job.write("stdout", "42")

project = Project(Path("double"), xml.read(Path("double.xml").read_text(), "double"), programs={"python": double}, runs=run)
project.add("db", "double::double")
project.set("db:in.integer_inputs[+]", 21)
project.run()
assert project.get("db:out.integer_outputs") == [42]
"""


def test_the_modules_of_the_page_pass_the_tests_of_the_page(tmp_path: Path) -> None:
    ran = 0
    for one in commands(PAGE.read_text(), "user/modules.md"):
        if "cpcc" in one.text or ".copernicus" in one.text:
            continue
        text = one.text.replace("python3 ", f"{sys.executable} ")
        done = subprocess.run(["bash", "-e", "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{one.place}\n{one.text}\n{done.stdout}{done.stderr}"
        ran += "pytest" in one.text and not one.text.startswith("cat")
    assert ran == 3
    subprocess.run([sys.executable, "-c", DOUBLE], cwd=tmp_path, check=True)
