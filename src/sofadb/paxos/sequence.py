"""The sequence of chosen values (section 3), as one replica knows it.

Values become known out of order; they take effect in order, without a gap, each once (rule P8). `watermark` is the last
instance of the unbroken run from the beginning: everything up to it is chosen and was handed on. A bounded tail of it stays in
memory to teach others; what lies further back is on disk.
"""

from __future__ import annotations

from collections import deque

from .ballot import Instance
from .values import Value


class Sequence:
    """Chosen values: the unbroken run up to `watermark`, and those known ahead of it."""

    __slots__ = ("_tail_bytes", "ahead", "tail", "tail_bytes_max", "watermark")

    def __init__(self, tail_bytes_max: int) -> None:
        self.watermark = Instance(0)
        self.ahead: dict[Instance, Value] = {}
        self.tail: deque[Value] = deque()
        """The values of the instances `tail_first..watermark`."""
        self.tail_bytes_max = tail_bytes_max
        self._tail_bytes = 0

    @property
    def tail_first(self) -> Instance:
        return Instance(self.watermark - len(self.tail) + 1)

    def knows(self, instance: Instance) -> bool:
        """Whether the value of `instance` is known to be chosen."""
        return instance <= self.watermark or instance in self.ahead

    def learn(self, instance: Instance, value: Value) -> None:
        """`value` was chosen for `instance`. Learning it again changes nothing; learning another value is the end."""
        assert instance > self.watermark, f"instance {instance} is settled"
        known = self.ahead.setdefault(instance, value)
        assert known is value or known == value, f"two values were chosen for instance {instance}"

    def take(self) -> tuple[Instance, Value] | None:
        """Hand on the next value of the run, if it is known."""
        value = self.ahead.pop(Instance(self.watermark + 1), None)
        if value is None:
            return None
        self.watermark = Instance(self.watermark + 1)
        self.tail.append(value)
        self._tail_bytes += value.size
        while self._tail_bytes > self.tail_bytes_max and len(self.tail) > 1:
            self._tail_bytes -= self.tail.popleft().size
        return self.watermark, value

    def jump(self, instance: Instance) -> None:
        """Everything up to `instance` has taken effect without its values: only what is known beyond is left to hand on."""
        assert instance > self.watermark
        self.watermark = instance
        self.ahead = {number: value for number, value in self.ahead.items() if number > instance}
        self.tail.clear()
        self._tail_bytes = 0

    def teach(self, first: Instance, bytes_max: int) -> tuple[Value, ...]:
        """Values from `first` on that are in memory, at least one and at most `bytes_max` of them."""
        assert self.tail_first <= first <= self.watermark
        values: list[Value] = []
        for index in range(first - self.tail_first, len(self.tail)):
            bytes_max -= self.tail[index].size
            if bytes_max < 0 and values:
                break
            values.append(self.tail[index])
        return tuple(values)
