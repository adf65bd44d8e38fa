"""How a command of a person ends that cannot do what it was asked."""

from __future__ import annotations

import sys
from typing import NoReturn


def fail(text: str, code: int = 1) -> NoReturn:
    """Say what is wrong, in one line, and stop."""
    print(f"sofadb: {text}", file=sys.stderr, flush=True)
    raise SystemExit(code)
