"""The commands, a file for each type. Importing this fills the table."""

from . import hashes, keys, members, sets, sofa, sorted_sets, strings

__all__ = ["hashes", "keys", "members", "sets", "sofa", "sorted_sets", "strings"]
