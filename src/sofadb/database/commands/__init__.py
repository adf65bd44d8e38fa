"""The commands, a file for each type. Importing this fills the table."""

from . import hashes, keys, lists, members, sets, sofa, sorted_sets, sorting, strings

__all__ = ["hashes", "keys", "lists", "members", "sets", "sofa", "sorted_sets", "sorting", "strings"]
