"""Where passwords come from: a file or the environment. Never the command line, which everybody on a machine can read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sofadb.server.admission import PASSWORD_BYTES_MAX

PASSWORD = "SOFADB_PASSWORD"
PASSWORD_FILE = "SOFADB_PASSWORD_FILE"
"""Of the environment."""


class NoPassword(Exception):
    """What is to be a password cannot be one, or not be read; the text says why."""


def read_passwords(file: Path | None = None, environment: Mapping[str, str] = os.environ) -> list[bytes]:
    """The passwords, one a line, in a file; or else what the environment says. None if nothing does. Raises `NoPassword`."""
    if file is None and environment.get(PASSWORD_FILE):
        file = Path(environment[PASSWORD_FILE])
    if file is not None:
        try:
            found = [line for line in file.read_bytes().splitlines() if line]
        except OSError as problem:
            raise NoPassword(f"{file} cannot be read: {problem.strerror}") from None
        if not found:
            raise NoPassword(f"{file} holds no password; write one a line")
    else:
        found = [os.fsencode(word) for word in (environment.get(PASSWORD, ""),) if word]
    if any(len(password) > PASSWORD_BYTES_MAX for password in found):
        raise NoPassword(f"a password has {PASSWORD_BYTES_MAX} bytes at most")
    return found
