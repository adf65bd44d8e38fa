"""Python's collector of cycles, kept from stopping the node.

By itself it looks through what is young when so many more objects have come than gone, again through what survives that,
and now and then through everything: 0.4 s for a million small hashes, in one piece. And where as many go as come, as of what was
chosen last and is kept for those who lack it, the young become many before it looks: 60 ms.

But a state has no cycles, and what serves clients leaves none behind, errors included (`ReplyError.as_reply`). So it looks ten
times a second at what came since, and whatever is left then is frozen, which takes no time: each object is looked at once,
with few others. Frozen objects are freed as ever when nobody refers to them. Cycles among them would stay: those that come and go
within a moment are found, but what lives longer (connections, links, tasks) must not end as one.

What is young may be large all the same: the copy of a million references that a snapshot works on, a copy of a collection, a
long reply. So before a collection begins it is seen whether anything so large is among what it would look at. If so, all that is
frozen instead.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable

LOOK_EVERY_S = 0.1
YOUNG_MAX = 10_000
"""If so many more objects come than go within that time, they are looked at before."""
LARGE_ELEMENTS = 50_000
"""A container with so many is large: to look through it takes some milliseconds."""

_CONTAINERS = frozenset({deque, dict, frozenset, list, set, tuple})


def keep_short(call_later: Callable[[float, Callable[[], None]], object]) -> None:
    """What is there by now stays; and so does, from now on, what has survived a collection, and what is large.

    `call_later` is an event loop's.
    """

    def look() -> None:
        gc.collect(0)
        call_later(LOOK_EVERY_S, look)

    gc.set_threshold(YOUNG_MAX)
    gc.collect()
    gc.freeze()
    gc.callbacks.append(_freeze_what_stays)
    call_later(LOOK_EVERY_S, look)


def _freeze_what_stays(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" or any(map(_has_large, range(info["generation"] + 1))):
        gc.freeze()


def _has_large(generation: int) -> bool:
    """Whether a large container is so young. (There are few objects that are: some hundreds, thousands, ten thousands.)"""
    containers, large = _CONTAINERS, LARGE_ELEMENTS
    return any(type(it) in containers and len(it) > large for it in gc.get_objects(generation))
