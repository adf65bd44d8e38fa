"""Taking back all that has been changed since a moment, for scripts that are stopped.

While a script writes, each keyspace has a `Witness` in the place of its past (`keyspace.past`), so it is told of each key
before that is changed; what is not changed costs nothing. Of a key it keeps what there was: value, version, expiry. A value
that may be changed in place is not copied: its containers are exchanged for `Noted` ones, which do the same and keep what
it takes to do it backwards. When the script is done they are exchanged back.

What was there is there again afterwards, to the byte and in its order. What is no state may differ, such as the order in which
a bucket gives its keys.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sortedcontainers import SortedList

from .graveyard import Graveyard
from .keyspace import Keyspace, bucket_of
from .messages import Message
from .values import LongString, Value

if TYPE_CHECKING:
    from .past import Past

Step = tuple[Callable[..., Any], tuple[Any, ...]]
"""What takes one change back."""


class Undo:
    """Everything that is changed from now on, until `keep` or `take_back` is called. Before that nothing else may end a batch."""

    def __init__(self, keyspaces: list[Keyspace]) -> None:
        shared = keyspaces[0].shared
        self.shared = shared
        self.steps: list[Step] = []
        """The last one first."""
        self.values: dict[int, tuple[Value, dict[str, Any]]] = {}
        """Those that are noted, by `id`, and what they were."""
        self._crc = shared.rolling.crc
        self._events, self._touched = len(shared.events), shared.queues.touched.copy()
        self._tell = shared.messages.tell
        shared.messages.tell = self._tell_unseen
        self._graveyard = shared.graveyard
        self.mortuary = shared.graveyard = _Mortuary()
        self._witnesses = [Witness(each, self) for each in keyspaces]

    def keep(self) -> None:
        """Let it be as it is now."""
        self._end()
        for value, _ in self.values.values():
            for name, container in _containers(value):
                if isinstance(container, Noted):
                    setattr(value, name, container.raw)
        self._graveyard.bury(
            *(each.raw if isinstance(each, Noted) else each for each in self.mortuary.things)
        )
        self._let_go()

    def take_back(self) -> None:
        """Let it be as it was."""
        self._end()
        for function, arguments in reversed(self.steps):
            function(*arguments)
        for value, attributes in self.values.values():
            for name, attribute in attributes.items():
                setattr(value, name, attribute)
        for witness in self._witnesses:
            witness.take_back()
        shared = self.shared
        shared.rolling.crc = self._crc
        shared.queues.touched = self._touched
        del shared.events[self._events :]
        self._let_go()

    def _let_go(self) -> None:
        """Of whatever refers to this, or to itself: only the collector of cycles would find that."""
        self._witnesses.clear()
        self.steps.clear()

    def _tell_unseen(self, message: Message) -> int:
        """How many will be told is another number on each node, which a script must not see."""
        self._tell(message)
        return 0

    def _end(self) -> None:
        self.shared.messages.tell = self._tell
        self.shared.graveyard = self._graveyard
        for witness in self._witnesses:
            witness.keyspace.past = witness.past

    def note(self, value: Value) -> None:
        """`value` is about to be changed in place."""
        if id(value) not in self.values:
            attributes = {name: getattr(value, name) for name in _attributes(type(value))}
            self.values[id(value)] = (value, attributes)
            for name, container in _containers(value):
                setattr(value, name, _NOTED[type(container)](container, self.steps))


class _Mortuary(Graveyard):
    """In the place of the graveyard: nothing is taken apart yet."""

    __slots__ = ("things",)

    def __init__(self) -> None:
        super().__init__()
        self.things: list[Any] = []

    def bury(self, *things: Any) -> None:
        self.things += things


class Witness:
    """What one keyspace was. It stands in the place of the past, and passes on what that has to know."""

    __slots__ = ("_changes", "_cleared", "_notes", "_undo", "keyspace", "past")

    def __init__(self, keyspace: Keyspace, undo: Undo) -> None:
        self.keyspace = keyspace
        self.past: Past | Witness | None = keyspace.past
        self._undo = undo
        self._changes = keyspace.changes
        self._notes: dict[bytes, tuple[Any, int | None, int | None, int | None]] = {}
        """Of each key: value, version, expiry, and the last deletion in its bucket."""
        self._cleared: list[tuple[Any, ...]] = []
        """What was there each time that all was removed."""
        keyspace.past = self

    def note(self, key: bytes, bucket: int) -> None:
        """`key` is about to change."""
        keyspace = self.keyspace
        if self.past is not None:
            self.past.note(key, bucket)
        if key in self._notes:
            return
        value = keyspace.values.get(key)
        if isinstance(value, Value):
            self._undo.note(value)
        elif isinstance(value, LongString):
            value = value.freeze()
        version, expiry = keyspace.versions.get(key), keyspace.expiry.get(key)
        self._notes[key] = (value, version, expiry, keyspace.deleted.get(bucket))

    def on_clear(self) -> Witness:
        """All is about to be removed. Returns who is to be told of what comes then."""
        keyspace = self.keyspace
        if self.past is None:
            self._undo.mortuary.bury_large(
                keyspace.values, keyspace.expiry, keyspace.versions, keyspace.buckets
            )
        contents = {
            name: getattr(keyspace, name) for name in ("values", "expiry", "versions", "buckets", "deadlines")
        }
        self._cleared.append((contents, keyspace.deleted.copy(), self._notes, self.past))
        self._notes, self.past = {}, None
        return self

    def take_back(self) -> None:
        """Let the keyspace be as it was."""
        keyspace = self.keyspace
        self._put_back()
        while self._cleared:
            contents, keyspace.deleted, self._notes, keyspace.past = self._cleared.pop()
            for name, container in contents.items():
                setattr(keyspace, name, container)
            self._put_back()
        keyspace.changes = self._changes

    def _put_back(self) -> None:
        keyspace = self.keyspace
        for key, (value, version, expiry, deletion) in reversed(self._notes.items()):
            bucket = bucket_of(key)
            if value is None:
                _forget(keyspace, key, bucket)
            else:
                assert version is not None
                keyspace.expiry.pop(key, None)
                keyspace.restore(key, value, version, expiry)
            if deletion is None:
                keyspace.deleted.pop(bucket, None)
            else:
                keyspace.deleted[bucket] = deletion


class Noted:
    """A container that notes what takes its changes back. What it does not know it copies first, and then does."""

    __slots__ = ("raw", "steps")

    def __init__(self, raw: Any, steps: list[Step]) -> None:
        self.raw = raw
        self.steps = steps

    def __len__(self) -> int:
        return len(self.raw)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.raw)

    def __reversed__(self) -> Iterator[Any]:
        backwards: Iterator[Any] = reversed(self.raw)
        return backwards

    def __contains__(self, item: Any) -> bool:
        return item in self.raw

    def __getitem__(self, at: Any) -> Any:
        return self.raw[at]

    def __getattr__(self, name: str) -> Any:
        if name not in _READS:
            self._note_all()
        return getattr(self.raw, name)

    def __delitem__(self, at: Any) -> None:
        self._note_all()
        del self.raw[at]

    def __setitem__(self, at: Any, item: Any) -> None:
        if isinstance(at, slice):
            self._note_all()
        else:
            self.steps.append((self.raw.__setitem__, (at, self.raw[at])))
        self.raw[at] = item

    def _note_all(self) -> None:
        self.steps.append((self._put_all_back, (self.raw.copy(),)))

    def _put_all_back(self, copy: Any) -> None:
        self.raw.clear()
        (self.raw.extend if hasattr(self.raw, "extend") else self.raw.update)(copy)


_READS = frozenset(
    b"get copy count index items keys values maxlen bisect bisect_left bisect_right irange islice".decode().split()
)
"""Methods that change nothing."""


class NotedList(Noted):
    """A list, or a deque."""

    __slots__ = ()

    def append(self, item: Any) -> None:
        self.raw.append(item)
        self.steps.append((self.raw.pop, ()))

    def pop(self) -> Any:
        item = self.raw.pop()
        self.steps.append((self.raw.append, (item,)))
        return item

    def appendleft(self, item: Any) -> None:
        self.raw.appendleft(item)
        self.steps.append((self.raw.popleft, ()))

    def popleft(self) -> Any:
        item = self.raw.popleft()
        self.steps.append((self.raw.appendleft, (item,)))
        return item

    def extend(self, items: Iterable[Any]) -> None:
        for item in items:
            self.append(item)

    def extendleft(self, items: Iterable[Any]) -> None:
        for item in items:
            self.appendleft(item)

    def rotate(self, by: int = 1) -> None:
        self.raw.rotate(by)
        self.steps.append((self.raw.rotate, (-by,)))

    def insert(self, at: int, item: Any) -> None:
        # (Whatever the index means, the item is found there.)
        at = min(max(at + len(self.raw) if at < 0 else at, 0), len(self.raw))
        self.raw.insert(at, item)
        self.steps.append((self.raw.__delitem__, (at,)))


class NotedDict(Noted):
    """A dict."""

    __slots__ = ()

    def __setitem__(self, key: Any, item: Any) -> None:
        if key in self.raw:
            self.steps.append((self.raw.__setitem__, (key, self.raw[key])))
        else:
            self.steps.append((self.raw.__delitem__, (key,)))
        self.raw[key] = item

    def __delitem__(self, key: Any) -> None:
        self.pop(key)

    def pop(self, key: Any, *otherwise: Any) -> Any:
        if key in self.raw:
            self.steps.append((self.raw.__setitem__, (key, self.raw[key])))
        return self.raw.pop(key, *otherwise)


class NotedSortedList(Noted):
    """A sorted list."""

    __slots__ = ()

    def add(self, item: Any) -> None:
        self.raw.add(item)
        self.steps.append((self.raw.remove, (item,)))

    def remove(self, item: Any) -> None:
        self.raw.remove(item)
        self.steps.append((self.raw.add, (item,)))

    def pop(self, at: int = -1) -> Any:
        item = self.raw.pop(at)
        self.steps.append((self.raw.add, (item,)))
        return item

    def __delitem__(self, at: Any) -> None:
        items = self.raw[at] if isinstance(at, slice) else [self.raw[at]]
        del self.raw[at]
        self.steps.append((self.raw.update, (items,)))


_NOTED: dict[type, Callable[[Any, list[Step]], Noted]] = {
    list: NotedList,
    deque: NotedList,
    dict: NotedDict,
    SortedList: NotedSortedList,
}


def _attributes(kind: type) -> list[str]:
    return [name for each in kind.__mro__ for name in getattr(each, "__slots__", ())]


def _containers(value: Value) -> list[tuple[str, Any]]:
    """The containers of a value that is noted or will be, by the names of their attributes."""
    all_of_them = [(name, getattr(value, name)) for name in _attributes(type(value))]
    return [(name, each) for name, each in all_of_them if isinstance(each, Noted) or type(each) in _NOTED]


def _forget(keyspace: Keyspace, key: bytes, bucket: int) -> None:
    if keyspace.values.pop(key, None) is not None:
        del keyspace.versions[key]
        keyspace.expiry.pop(key, None)
        del keyspace.buckets[bucket][key]
        if not keyspace.buckets[bucket]:
            del keyspace.buckets[bucket]
