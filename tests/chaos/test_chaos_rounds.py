"""Who may not strike a network is told so; and what counts as lost or excused."""

from __future__ import annotations

import shutil

from chaos_command import chaos

from askers import Answered, Excuses, Setback, lost
from sofadb.sim.history import Operation

SETPRIV = shutil.which("setpriv")


def test_without_root_it_says_so_in_one_sentence() -> None:
    assert SETPRIV, "setpriv is not installed (Debian: apt-get install util-linux); this cannot do without"
    with chaos(before=[SETPRIV, "--reuid", "65534", "--clear-groups"]) as process:
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (77, "")
        assert errors == "make chaos cannot be run here: it needs Linux and root, for network namespaces\n"


def test_appended_text_that_a_node_lacks_in_the_end_is_lost() -> None:
    kept = Operation(1, "append", "text:1", "a;", None, 1.0, 2.0, 2)
    gone = Operation(1, "append", "text:1", "b;", None, 3.0, 4.0, 4)
    unknown = Operation(1, "append", "text:1", "c;", None, 5.0, None, None)
    whole = Operation(-1, "get", "text:1", None, None, 6.0, 7.0, "a;b;")
    part = Operation(-2, "get", "text:1", None, None, 6.0, 7.0, "a;")
    assert lost([kept, gone, unknown], [whole]) == []
    assert lost([kept, gone, unknown], [whole, part]) == [gone]


def test_only_what_overlaps_an_excuse_of_its_own_node_is_excused() -> None:
    excuses = Excuses({"n1": [[10.0, 20.0]]})
    assert excuses.cover(Setback("n1", 9.0, 11.0, "refused", ""))
    assert excuses.cover(Answered("n1", 19.0, 25.0, True))
    assert not excuses.cover(Setback("n1", 20.5, 21.0, "refused", ""))
    assert not excuses.cover(Setback("n2", 12.0, 13.0, "refused", ""))
