"""All deliberate defects, by name. They are written down in the files of the rooms that they are in."""

from __future__ import annotations

from tests.defects import patching
from tests.defects.defect import Defect
from tests.defects.room_of_client import CLIENT
from tests.defects.room_of_controllers import CONTROLLERS
from tests.defects.room_of_dataflow import DATAFLOW
from tests.defects.room_of_distance import DISTANCE
from tests.defects.room_of_federation import FEDERATION
from tests.defects.room_of_federation_order import FEDERATION_ORDER
from tests.defects.room_of_federation_ways import FEDERATION_WAYS
from tests.defects.room_of_pools import POOLS
from tests.defects.room_of_queue import QUEUE
from tests.defects.room_of_schedulers import SCHEDULERS
from tests.defects.room_of_store import STORE
from tests.defects.room_of_trust import TRUST
from tests.defects.room_of_worker import WORKER

ROOMS = (
    QUEUE, DATAFLOW, STORE, WORKER, TRUST, CLIENT, CONTROLLERS, POOLS, SCHEDULERS, FEDERATION, FEDERATION_ORDER, FEDERATION_WAYS,
    DISTANCE,
)  # fmt: skip
ALL: dict[str, Defect] = {each.name: each for room in ROOMS for each in room}


def install(name: str) -> None:
    """Have the defect of this name in this process."""
    patching.install(ALL[name])
