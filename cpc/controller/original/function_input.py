"""The original's input object: what module code asks for its inputs, directories and finished command."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cpc.controller.original import values
from cpc.controller.original.command import Command
from cpc.controller.original.function_output import FunctionOutput
from cpc.controller.original.values import Files, Updates, Value
from cpc.dataflow import paths
from cpc.dataflow.answer import StepInput
from cpc.dataflow.code import Shape

_TREES = ("in", "out", "sub_in", "sub_out")


class FunctionInput:
    """The inputs of one run. Items are written as everywhere, without the instance: `conf[3].x`."""

    def __init__(
        self,
        step: StepInput | None = None,
        shapes: tuple[Shape, ...] = (),
        files: Files | None = None,
        cmd: Command | None = None,
    ) -> None:
        """Without a step: an empty input, for a self-check."""
        self._step = step or StepInput("", "", "", 0)
        self._testing = step is None
        files = files or Files({})
        updates = Updates(self._step.updated)
        told = (self._step.inputs, self._step.outputs, self._step.sub_inputs, self._step.sub_outputs)
        self._trees: dict[str, dict[str, Value]] = {}
        for index, (tree, raw) in enumerate(zip(_TREES, told, strict=True)):
            self._trees[tree] = _read(tree, raw or {}, shapes[index] if shapes else None, files, updates)
        self._updates = updates
        self._output = FunctionOutput()
        #: The finished command that has caused this run, or None.
        self.cmd = cmd

    def testing(self) -> bool:
        """Whether this is a self-check, without inputs."""
        return self._testing

    def getCmd(self) -> Command | None:
        """The finished command that has caused this run, or None."""
        return self.cmd

    def getFunctionOutput(self) -> FunctionOutput:
        """The output object."""
        return self._output

    def getBaseDir(self) -> str | None:
        """The project's directory."""
        return self._step.base_dir or None

    def getOutputDir(self) -> str | None:
        """The directory for files that this step makes; absolute."""
        return self._step.output_dir or None

    def getPersistentDir(self) -> str | None:
        """The directory that stays from run to run; absolute."""
        return self._step.persistent_dir or None

    def getParentPersistentDir(self) -> str | None:
        """The same of the instance whose network this one is in, where there is one to be seen."""
        own = self._step.persistent_dir
        guess = os.path.join(os.path.dirname(os.path.dirname(own)), os.path.basename(own)) if own else ""
        return guess if guess and os.path.isdir(guess) else None

    def hasInput(self, item: str) -> bool:
        """Whether the input is there and set."""
        return self.getInput(item) is not None

    def hasSubnetInput(self, item: str) -> bool:
        """Whether the subnet-input is there and set."""
        return self.getSubnetInput(item) is not None

    def hasOutput(self, item: str) -> bool:
        """Whether the output is there and set; for functions that see their outputs."""
        return self.getOutput(item) is not None

    def hasSubnetOutput(self, item: str) -> bool:
        """Whether the subnet-output is there and set; for functions that see their subnet-outputs."""
        return self.getSubnetOutput(item) is not None

    def getInput(self, item: str) -> Any:
        """The input's plain value, a file's absolute path, a list of Values; None when it is not set."""
        return _plain(self.getInputValue(item))

    def getSubnetInput(self, item: str) -> Any:
        """The subnet-input's plain value."""
        return _plain(self.getSubnetInputValue(item))

    def getOutput(self, item: str) -> Any:
        """The output's plain value as it is now."""
        return _plain(self.getOutputValue(item))

    def getSubnetOutput(self, item: str) -> Any:
        """The subnet-output's plain value as it is now."""
        return _plain(self.getSubnetOutputValue(item))

    def getInputValue(self, item: str) -> Value | None:
        """The input's Value; None when there is none."""
        return self._find("in", item)

    def getSubnetInputValue(self, item: str) -> Value | None:
        """The subnet-input's Value."""
        return self._find("sub_in", item)

    def getOutputValue(self, item: str) -> Value | None:
        """The output's Value."""
        return self._find("out", item)

    def getSubnetOutputValue(self, item: str) -> Value | None:
        """The subnet-output's Value."""
        return self._find("sub_out", item)

    def isInputUpdated(self, item: str) -> bool:
        """Whether the input changed since the instance's last step."""
        return self._updates.touch(("in", *paths.read(item)))

    def isSubnetInputUpdated(self, item: str) -> bool:
        """Whether the subnet-input changed since the instance's last step."""
        return self._updates.touch(("sub_in", *paths.read(item)))

    def isOutputUpdated(self, item: str) -> bool:
        """Whether the output changed since then: never, nobody else sets it."""
        return self._updates.touch(("out", *paths.read(item)))

    def isSubnetOutputUpdated(self, item: str) -> bool:
        """Whether the subnet-output changed since then: never, nobody else sets it."""
        return self._updates.touch(("sub_out", *paths.read(item)))

    def _find(self, tree: str, item: str) -> Value | None:
        name, *rest = paths.read(item)
        found = self._trees[tree].get(str(name))
        for part in rest:
            found = None if found is None else found.below(part)
        return found


def _read(tree: str, raw: Mapping[str, Any], shape: Shape | None, files: Files, updates: Updates) -> dict[str, Value]:
    return {
        name: values.read(one, None if shape is None else shape.below(name), files, updates, (tree, name))
        for name, one in raw.items()
        if one is not None
    }


def _plain(value: Value | None) -> Any:
    return None if value is None else value.get()
