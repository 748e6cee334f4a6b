"""The 1-or-N rule, for every function that declares it: arrays with one element serve for all N of the others."""

from __future__ import annotations

from cpc.core.plain import Plain
from cpc.dataflow.instance import Instance, Tree


def unequal(instance: Instance) -> str:
    """Why the broadcast inputs do not go together now, in words; empty when they do.

    Elements that are connected and not set yet are counted: they are waited for.
    """
    sizes = {name: size for name in instance.function.broadcast if (size := _size(instance, name))}
    if len(set(sizes.values()) - {1}) <= 1:
        return ""
    said = " and ".join(f"{name} has {size}" for name, size in sizes.items())
    return f"{instance.path}: inconsistent number of items, {said}: 1 or the same number is needed"


def expand(inputs: dict[str, Plain], names: tuple[str, ...]) -> dict[str, Plain]:
    """The inputs with every named array as long as the longest: the single element of a shorter one again and again."""
    arrays = {name: array for name in names if isinstance(array := inputs.get(name), list)}
    size = max((len(array) for array in arrays.values()), default=0)
    wider: dict[str, Plain] = {name: array * size for name, array in arrays.items() if len(array) == 1}
    return inputs | wider


def _size(instance: Instance, name: str) -> int:
    node = instance.node(Tree.IN, (name,))
    size = len(node) if isinstance(node, list) else 0
    return size if instance.inbound is None else max(size, instance.inbound.extent((Tree.IN, name)))
