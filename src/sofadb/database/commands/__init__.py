"""The commands, a file for each type. Importing this fills the table."""

from . import keys, members, sofa, strings

__all__ = ["keys", "members", "sofa", "strings"]
