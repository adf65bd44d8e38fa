"""The commands, a file for each type. Importing this fills the table."""

from . import keys, lists, members, sofa, sorting, strings

__all__ = ["keys", "lists", "members", "sofa", "sorting", "strings"]
