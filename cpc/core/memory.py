"""How a long-lived process uses its memory: what one chunk of a file has freed serves the next; garbage is looked for seldom.

By default glibc gives freed blocks of this size back to the system and gets new ones, which the kernel fills with zeros page by
page: that cost the server as much as TLS did. And it keeps a heap for each thread, every one of which grows to the largest
chunks that its thread ever held; Python's threads hardly ever allocate at the same time, so one heap serves them all.
"""

from __future__ import annotations

import ctypes
import gc
import sys

KEPT = 64 << 20  # bytes that stay with the process when they are free

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # glibc's malloc.h
_LARGEST = 32 << 20  # the most that the second one takes


def keep_freed_memory() -> bool:
    """Call before there are threads. False where malloc is not glibc's: then nothing is changed."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    taken = 0
    for name, value in ((_TRIM_THRESHOLD, KEPT), (_MMAP_THRESHOLD, _LARGEST), (_ARENA_MAX, 1)):
        taken += mallopt(ctypes.c_int(name), ctypes.c_int(value))
    return taken == 3


#: New objects, beyond those that are gone again, before the youngest are searched for garbage; ten such searches before the
#: next older ones are; and so on.
YOUNG = (10_000, 10, 10)


def collect_seldom() -> None:
    """Call when everything that stays is there. Modules, tables and services are not searched for garbage again and again.

    Hardly anything here refers to itself, so that what is not needed is gone at once without any search; the searches were
    a tenth of what a job that is alone cost the server.
    """
    gc.collect(1)  # a search through everything would be a tenth of a second, before anybody is served
    gc.freeze()
    gc.set_threshold(*YOUNG)
