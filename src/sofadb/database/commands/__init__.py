"""The commands, a file for each type. Importing this fills the table."""

from . import hashes, keys, members, sets, sofa, strings

__all__ = ["hashes", "keys", "members", "sets", "sofa", "strings"]
