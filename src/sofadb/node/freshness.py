"""When a directory that remembers nothing may take part: it may be new, or in the place of one that was lost (rule P10).

An acceptor whose directory was lost must not deny what it promised. But a node cannot see by itself whether its empty directory
is its first: the others can. Whoever hears an acceptor has it on disk that it met it, and in which life, before it
listens; and says so when it greets. A directory that is told of a life it knows nothing of is a replacement, and must
become another acceptor. A directory without history that was told of none yet waits. It speaks as soon as one of two
things is known.

*All other members have answered, and none has met a life that is not this directory's.* An earlier directory of this
acceptor can then have promised and accepted whatever it liked: nobody who could count it ever heard it. (Each who had
heard it would have met it.)

*A quorum of the members, with this one, is there, and nobody who was heard, in it or not, has ever promised or learned
anything, nor heard of a member who has.* That is a cluster which begins: if a value had been chosen with the help of an
earlier directory of ours, all of a quorum would have a history, and any two quorums meet. **They may meet in us alone.** Of
three, the one who answers may never have been used while we and the third chose values; if then our directory is lost and the
third was not heard by either of us since we were started, the two empty ones take each other for a new cluster. So this is
safe while the directories that were lost or never used are fewer than a quorum (of three, one), and not beyond: whoever
loses as many as make a quorum has lost what was chosen, here as anywhere, and nothing that is left can tell. To ask for all
members instead would keep a new cluster from beginning with one of its nodes missing.

Answers may be old: what counts happened before our directory was made, and whoever has a history keeps it. The members are
those that this directory knows of: if others took the place of all of them since, none of them answers, and it waits for ever.
Not the first life is what counts but that there is no history: a replacement that is started a second time knows no more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping


def is_fresh_safe(others: Collection[str], histories: Mapping[str, bool]) -> bool:
    """Whether a directory without history may speak.

    `histories` has those who have answered that they never met it, or met it in a life that it had: each with whether it has a
    history of its own. `others` are all members but ourselves.
    """
    heard = [histories[other] for other in others if other in histories]
    quorum = (len(others) + 1) // 2 + 1
    return len(heard) == len(others) or (len(heard) + 1 >= quorum and not any(heard))
