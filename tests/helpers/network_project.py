"""A project of a test on a network of processes, and networks that tests have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.network_of_processes import Network

Make = Callable[..., Network]

#: One job for each run, an array that nothing computes with, and a number that the job gives back with its runs so far.
JOBS = """<?xml version="1.0"?>
<cpc version="1">
  <type id="numbers" base="array" member-type="int"/>
  <type id="files" base="array" member-type="file"/>
  <function id="double" type="command">
    <inputs><field id="x" type="int"/><field id="text" type="file" opt="true"/></inputs>
    <outputs><field id="y" type="int"/><field id="copy" type="file"/></outputs>
    <command>
      <arg value="/bin/sh"/><arg value="-c"/>
      <arg value="echo run >> {runs}; while [ -e {gate} ]; do sleep 0.05; done; echo $(({{x}} * 2)) | tee y > copy"/>
      <output id="y" path="y"/><output id="copy" path="copy"/>
    </command>
  </function>
  <function id="store" type="network">
    <inputs><field id="ys" type="numbers"/><field id="files" type="files" opt="true"/></inputs>
    <network/>
  </function>
  <network><instance id="d" function="double"/><instance id="store" function="store"/></network>
</cpc>
"""


@pytest.fixture(scope="module")
def lab(make_network: Make) -> Iterator[Network]:
    """A network of this module's own, because its server is killed; with a worker."""
    network = make_network()
    with network.working():
        yield network


class Project:
    """A project of a test, and cpcc that is about it."""

    def __init__(self, network: Network, name: str) -> None:
        self.network = network
        self.name = network.project(name)

    def cpcc(self, *words: str) -> str:
        """A command that must succeed; what it prints."""
        return self.network.cpcc(*words, "-p", self.name).done()

    def __call__(self, *words: str) -> str:
        return self.cpcc(*words)

    def refused(self, *words: str) -> str:
        """A command that must be refused in one line."""
        said = self.network.cpcc(*words, "-p", self.name)
        assert said.code == 1, said
        assert said.out == ""
        assert said.err.startswith("cpcc: ")
        assert said.err.count("\n") == 1, said.err
        return said.err

    def get(self, item: str) -> str:
        """What `get` prints behind the item's name."""
        return self.cpcc("get", item).removeprefix(f"{item}: ").rstrip("\n")

    def becomes(self, item: str, value: str) -> None:
        """Wait until an item has this value."""
        self.network.until(lambda: self.get(item) == value, f"{item} is {value}")

    def states(self) -> dict[str, str]:
        """The instances at the top."""
        found = json.loads(self.cpcc("ls", "--json"))["data"]["instances"]
        return {one["name"]: one["state"] for one in found}

    def upload(self, text: str, directory: Path) -> None:
        """Upload XML, and let all run."""
        file = directory / "upload.xml"
        file.write_text(text)
        self.cpcc("upload", str(file))
        self.cpcc("activate")


@pytest.fixture
def project(lab: Network, request: pytest.FixtureRequest) -> Project:
    """A project of the test's own."""
    if not lab.alive:
        lab.start()
    return Project(lab, "".join(letter if letter.isalnum() else "_" for letter in request.node.name)[:60])
