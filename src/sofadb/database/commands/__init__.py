"""The commands, a file for each type. Importing this fills the table."""

from . import (
    bitmaps,
    blocking,
    dumps,
    hashes,
    keys,
    lists,
    members,
    memory,
    pubsub,
    scripting,
    sets,
    sofa,
    sorted_sets,
    sorting,
    strings,
)

__all__ = [
    "bitmaps",
    "blocking",
    "dumps",
    "hashes",
    "keys",
    "lists",
    "members",
    "memory",
    "pubsub",
    "scripting",
    "sets",
    "sofa",
    "sorted_sets",
    "sorting",
    "strings",
]
