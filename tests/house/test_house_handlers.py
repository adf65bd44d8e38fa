"""No error is swallowed: every handler names what it expects, does something about it, or says why there is nothing to do."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "sofadb"
PARTS = ("paxos", "storage", "node", "server", "database")
SOURCES = [path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))]
ALL = {"Exception", "BaseException"}
"""Who catches these catches mistakes of the program, too."""
FOR_TOOLS = re.compile(r"# (noqa|type:)[^(]*")
"""A comment that gives no reason."""


def problems(source: str) -> list[str]:
    """What is wrong with the handlers of a source, each with its line."""
    comments = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and not FOR_TOOLS.fullmatch(token.string)
    }
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler):
            last = node.body[-1]
            is_explained = not comments.isdisjoint(range(node.lineno, (last.end_lineno or last.lineno) + 1))
            found += [f"line {node.lineno}: {problem}" for problem in _of_handler(node, is_explained)]
        elif isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                call = item.context_expr
                is_explained = not comments.isdisjoint(range(call.lineno - 1, node.body[0].lineno + 1))
                found += [f"line {call.lineno}: {problem}" for problem in _of_suppress(call, is_explained)]
    return found


def _of_handler(handler: ast.ExceptHandler, is_explained: bool) -> Iterator[str]:
    if handler.type is None:
        yield "a bare except catches whatever there is"
    if all(map(_is_nothing, handler.body)):
        yield "a handler that does nothing swallows the error"
    if ALL & set(_names(handler.type)) and not isinstance(handler.body[-1], ast.Raise) and not is_explained:
        yield "it catches mistakes, too, raises nothing in the end, and does not say why"


def _of_suppress(call: ast.expr, is_explained: bool) -> Iterator[str]:
    if isinstance(call, ast.Call) and list(_names(call.func)) == ["suppress"]:
        if not call.args or ALL & {name for argument in call.args for name in _names(argument)}:
            yield "what is suppressed is not named"
        if not is_explained:
            yield "it does not say why this may be suppressed"


def _names(expression: ast.expr | None) -> Iterator[str]:
    """The names of the classes that are caught, without the modules they are from."""
    if isinstance(expression, ast.Tuple):
        for element in expression.elts:
            yield from _names(element)
    elif isinstance(expression, ast.Attribute):
        yield expression.attr
    elif isinstance(expression, ast.Name):
        yield expression.id


def _is_nothing(statement: ast.stmt) -> bool:
    """Whether this is `pass`, `...`, or a text that stands about."""
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_handler_swallows_an_error_or_catches_more_than_it_says(path: Path) -> None:
    assert problems(path.read_text()) == []


def test_there_are_handlers_to_look_at() -> None:
    """Else the test before would show nothing."""
    handlers = [
        node
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
    ]
    assert len(handlers) > 40
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(PARTS)


TRY = "try:\n    act()\n"

BAD = {
    "bare": TRY + "except:\n    raise\n",
    "bare, with a reason": TRY + "except:  # Whatever it is.\n    tell()\n",
    "pass": TRY + "except OSError:\n    pass\n",
    "pass, with a reason": TRY + "except OSError:\n    pass  # It does not matter.\n",
    "dots": TRY + "except OSError:\n    ...\n",
    "a text": TRY + "except OSError:\n    'It does not matter.'\n",
    "everything": TRY + "except Exception:\n    tell()\n",
    "everything and more": TRY + "except BaseException as mistake:\n    tell(mistake)\n",
    "everything among others": TRY + "except (OSError, Exception):\n    tell()\n",
    "everything of a module": TRY + "except builtins.Exception:\n    tell()\n",
    "everything, silenced for the linter only": TRY + "except Exception:  # noqa: BLE001\n    tell()\n",
    "raised sometimes": TRY + "except Exception:\n    if loud:\n        raise\n",
    "in a function": "def f():\n    try:\n        act()\n    except OSError:\n        pass\n",
    "the second of two": TRY + "except OSError:\n    tell()\nexcept ValueError:\n    pass\n",
    "a group": TRY + "except* OSError:\n    pass\n",
    "suppressed without a reason": "with suppress(OSError):\n    act()\n",
    "suppressed without a reason, by its module": "with contextlib.suppress(OSError):\n    act()\n",
    "everything suppressed": "with suppress(Exception):  # It does not matter.\n    act()\n",
    "nothing named": "with suppress():  # It does not matter.\n    act()\n",
    "asynchronously": "async def f():\n    async with lock, suppress(OSError):\n        act()\n",
}

GOOD = {
    "named and handled": TRY + "except (OSError, ValueError) as problem:\n    tell(problem)\n",
    "named and left": "def f():\n    try:\n        act()\n    except OSError:\n        return None\n",
    "everything raised again": TRY + "except BaseException:\n    tidy()\n    raise\n",
    "everything as something else": TRY + "except Exception as mistake:\n    raise Problem from mistake\n",
    "everything, with a reason": TRY + "except Exception:  # It is for who waits.\n    tell()\n",
    "everything, with a reason within": TRY + "except Exception:\n    # It is for who waits.\n    tell()\n",
    "everything, with a reason beside what is for the linter": TRY
    + "except Exception:  # noqa: BLE001 (It is for who waits.)\n    tell()\n",
    "suppressed with a reason": "with suppress(OSError):  # It may be gone.\n    act()\n",
    "suppressed with a reason above": "# It may be gone.\nwith contextlib.suppress(OSError):\n    act()\n",
    "another with": "with lock, open(name) as file:\n    act()\n",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_handler_is_found(name: str) -> None:
    assert problems(BAD[name])


@pytest.mark.parametrize("name", GOOD)
def test_a_good_handler_is_left_in_peace(name: str) -> None:
    assert problems(GOOD[name]) == []
