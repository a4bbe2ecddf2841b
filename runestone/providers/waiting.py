"""The line of those who wait for a place at a provider: first come, first served within a client's key, and the keys take turns."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class WaitingLine(Generic[T]):
    """Of one provider. It belongs to its actor, and bounds nothing by itself.

    >>> line: WaitingLine[int] = WaitingLine()
    >>> for key, number in [("hog", 1), ("hog", 2), ("hog", 3), ("modest", 4)]:
    ...     line.add(key, number)
    >>> [line.next() for _ in range(len(line))]
    [1, 4, 2, 3]
    """

    def __init__(self) -> None:
        self._of: OrderedDict[str, deque[T]] = OrderedDict()  # by key; the one whose turn it is comes first
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, key: str, who: T) -> None:
        """Stand behind the others of ``key``."""
        self._of.setdefault(key, deque()).append(who)
        self._size += 1

    def next(self) -> T:
        """Whose turn it is; that key's next one waits for those of the others. Raises :class:`KeyError` if nobody waits."""
        key, waiting = self._of.popitem(last=False)
        who = waiting.popleft()
        if waiting:
            self._of[key] = waiting  # behind the other keys
        self._size -= 1
        return who

    def leave(self, key: str, who: T) -> bool:
        """Step out of the line; whether ``who`` stood in it."""
        waiting = self._of.get(key)
        if waiting is None or who not in waiting:
            return False
        waiting.remove(who)
        if not waiting:
            del self._of[key]
        self._size -= 1
        return True
