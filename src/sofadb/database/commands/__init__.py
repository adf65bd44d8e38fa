"""The commands, a file for each type. Importing this fills the table."""

from . import keys, sofa, strings

__all__ = ["keys", "sofa", "strings"]
