"""The original's output object: what module code hands back from a run."""

from __future__ import annotations

from cpc.controller.original.command import Command
from cpc.controller.original.values import Value
from cpc.core.errors import BadInput


class FunctionOutput:
    """Outputs, instances, connections and commands that one run asks for."""

    def __init__(self) -> None:
        self.outputs: list[tuple[str, Value]] = []
        self.subnetOutputs: list[tuple[str, Value]] = []
        self.instances: list[tuple[str, str]] = []
        self.connections: list[tuple[str, str]] = []
        self.values: list[tuple[str, Value]] = []
        self.commands: list[Command] = []
        self.cancel = False
        self.error = ""
        self.warning = ""

    def setOut(self, item: str, value: Value) -> None:
        """Set an output, to a Value."""
        self.outputs.append((item, _value(item, value)))

    def setSubOut(self, item: str, value: Value) -> None:
        """Set a subnet-output, to a Value."""
        self.subnetOutputs.append((item, _value(item, value)))

    def addInstance(self, instanceName: str, functionName: str) -> None:
        """A new instance in the own network, of a function of the own module or of `module::name`."""
        self.instances.append((instanceName, functionName))

    def addConnection(self, srcStr: str | None, dstStr: str, value: Value | None = None) -> None:
        """Connect two items of the own network, or, with no source, set one to a Value."""
        if srcStr is not None:
            self.connections.append((srcStr, dstStr))
        elif value is not None:
            self.values.append((dstStr, _value(dstStr, value)))
        else:
            raise BadInput(f"{dstStr} is connected to nothing", "give a source, or a value")

    def addCommand(self, command: Command) -> None:
        """Queue a command; the function runs again when it has ended."""
        self.commands.append(command)

    def cancelPrevCommands(self) -> None:
        """Cancel the commands that this instance has queued before, also those that run."""
        self.cancel = True

    def setError(self, text: object) -> None:
        """Stop the instance with this error."""
        self.error = str(text) or "the function reports an error without a word"

    def setWarning(self, text: object) -> None:
        """Show this warning at the instance."""
        self.warning = str(text)

    def hasOutputs(self) -> bool:
        """Whether an output was set."""
        return bool(self.outputs)

    def hasSubnetOutputs(self) -> bool:
        """Whether a subnet-output was set."""
        return bool(self.subnetOutputs)


def _value(item: str, value: object) -> Value:
    if not isinstance(value, Value):
        raise BadInput(f"{item}: a {type(value).__name__} is no Value", "use FloatValue, FileValue and the like")
    return value
