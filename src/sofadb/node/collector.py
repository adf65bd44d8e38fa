"""Python's collector of cycles, kept from stopping the node.

A full collection looks at every list, dict and object there is: 0.4 s for a million small hashes, in one piece. But a state has
no cycles, and what serves clients leaves none behind, errors included (`ReplyError.as_reply`). So whatever a full collection
leaves is frozen, which takes no time: the next one looks at nothing but what came since. Frozen objects are freed as ever when
nobody refers to them. Cycles among them would stay; those that come and go are found, since they are young.
"""

from __future__ import annotations

import gc


def keep_short() -> None:
    """What is there by now stays; and so does, from now on, what has survived a full collection."""
    gc.collect()
    gc.freeze()
    if _freeze_what_stays not in gc.callbacks:
        gc.callbacks.append(_freeze_what_stays)


def _freeze_what_stays(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()
