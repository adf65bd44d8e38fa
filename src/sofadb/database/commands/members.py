"""Who belongs to the cluster: what a person may ask of it, and what its nodes say of themselves (`roster`)."""

from __future__ import annotations

from collections.abc import Callable

from ..arguments import parse_integer
from ..keyspace import Keyspace
from ..replies import OK, SYNTAX, Reply, ReplyError
from ..roster import Roster
from ..table import Route, command


def _add(roster: Roster, words: list[str], options: set[str]) -> None:
    roster.add(words[0], words[1], is_voter="LEARNER" not in options)


def _remove(roster: Roster, words: list[str], options: set[str]) -> None:
    roster.remove(words[0], force="FORCE" in options)


def _replace(roster: Roster, words: list[str], options: set[str]) -> None:
    roster.replace(*words)


def _promote(roster: Roster, words: list[str], options: set[str]) -> None:
    roster.promote(words[0])


def _arrive(roster: Roster, words: list[str], options: set[str]) -> None:
    acceptor, peer_address, client_address, level = words
    roster.arrive(acceptor, peer_address, client_address, parse_integer(level.encode()))


_ASKED: dict[str, tuple[int, str, Callable[[Roster, list[str], set[str]], None]]] = {
    "ADD": (2, "LEARNER", _add),
    "REMOVE": (1, "FORCE", _remove),
    "REPLACE": (3, "", _replace),
    "PROMOTE": (1, "", _promote),
    "ARRIVE": (4, "", _arrive),
}
"""For each thing that may be asked, how many words it takes, an option, and what does it."""


def _parse(args: list[bytes]) -> tuple[Callable[[Roster, list[str], set[str]], None], list[str], set[str]]:
    words = [word.decode(errors="replace") for word in args[1:]]
    known = _ASKED.get(words[0].upper())
    if known is None:
        raise ReplyError(f"ERR SOFA.MEMBER knows {', '.join(_ASKED)}")
    count, option, function = known
    options = {word.upper() for word in words[1 + count :]}
    if len(words) < 1 + count or len(words) > 2 + count or options - {option}:
        raise ReplyError(SYNTAX)
    return function, words[1 : 1 + count], options


def _check(args: list[bytes]) -> None:
    """What a client asks for. What a node says of itself it says without this, and nobody can say it for one.

    (A level of which no program knows would end every node, for ever.)
    """
    _parse(args)
    if args[1].upper() == b"ARRIVE":
        raise ReplyError("ERR SOFA.MEMBER ARRIVE is what nodes say of themselves, and nobody else")


@command(
    "sofa.member",
    -3,
    Route.WRITE,
    "write admin noscript",
    group="sofa",
    summary="Ask for a change of who belongs to the cluster",
    inspect=_check,
)
def member(keyspace: Keyspace, args: list[bytes]) -> Reply:
    function, words, options = _parse(args)
    function(keyspace.shared.roster, words, options)
    return OK


@command(
    "sofa.members",
    1,
    Route.READ,
    "readonly admin noscript",
    group="sofa",
    summary="Name, part, acceptor id, peer and client address of each member",
    complexity="O(N) with N members",
)
def members(keyspace: Keyspace, args: list[bytes]) -> Reply:
    roster = keyspace.shared.roster
    return [
        [
            text.encode()
            for text in (
                each.name,
                roster.part(each),
                each.acceptor,
                each.peer_address,
                each.client_address,
            )
        ]
        for _, each in sorted(roster.members.items())
    ]
