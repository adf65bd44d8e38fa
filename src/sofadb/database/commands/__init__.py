"""The commands, a file for each type. Importing this fills the table."""

from . import keys, strings

__all__ = ["keys", "strings"]
