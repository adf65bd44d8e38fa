"""Python's collector of cycles, kept from stopping the node.

A full collection looks at every list, dict and object there is: 0.4 s for a million small hashes, in one piece. But a state has
no cycles, and what serves clients leaves none behind, errors included (`ReplyError.as_reply`). So whatever a full collection
leaves is frozen, which takes no time: the next one looks at nothing but what came since. Frozen objects are freed as ever when
nobody refers to them. Cycles among them would stay; those that come and go are found, since they are young.

What is young may be large all the same: the copy of a million references that a snapshot works on, a copy of a collection, a
long reply. It would be looked through by three collections one after the other, each a tenth of a second. So before a collection
begins it is seen whether anything so large is among what it would look at. If so, all that is frozen instead.
"""

from __future__ import annotations

import gc
from collections import deque

YOUNG_MAX, YOUNG_TIMES = 10_000, 50
"""So many more objects may come than go before it is looked for cycles among them; and so many times until what has survived that
is looked at, too. What was chosen last, and is kept for those who lack it, is a quarter of a million at most: less than that."""
LARGE_ELEMENTS = 50_000
"""A container with so many is large: to look through it takes some milliseconds."""

_CONTAINERS = frozenset({deque, dict, frozenset, list, set, tuple})


def keep_short() -> None:
    """What is there by now stays; and so does, from now on, what has survived a full collection, and what is large."""
    gc.set_threshold(YOUNG_MAX, YOUNG_TIMES)
    gc.collect()
    gc.freeze()
    if _freeze_what_stays not in gc.callbacks:
        gc.callbacks.append(_freeze_what_stays)


def _freeze_what_stays(phase: str, info: dict[str, int]) -> None:
    if phase == "start":
        if any(map(_has_large, range(info["generation"] + 1))):
            gc.freeze()
    elif info["generation"] == 2:
        gc.freeze()


def _has_large(generation: int) -> bool:
    """Whether a large container is so young. (There are few objects that are: some hundreds, thousands, ten thousands.)"""
    containers, large = _CONTAINERS, LARGE_ELEMENTS
    return any(type(it) in containers and len(it) > large for it in gc.get_objects(generation))
