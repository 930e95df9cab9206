"""The machine that follows a pickle's program and makes none of its calls.

Its steps are those of Python's pickletools, protocols 0 to 4, without what no weights are kept in: protocol 0's
texts and objects, and the registry of extensions.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from mmap import mmap

_INLINE_BYTES = 4096  # longer texts and bytes stay in the file
_MOST_STEPS = 20_000_000  # three tables of XLM's 200,000 words take 2 million; each step may cost 100 bytes
_LINE_BYTES = 1024
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # Python 2
_ATOMS = (str, int, float, bytes, type(None))


@dataclass(frozen=True, slots=True)
class Global:
    """A function or class that the pickle names."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Bytes of the file that were not read: `stored` of them, from `start` on.

    Where `text`, they are UTF-8 of characters 0 to 255, a byte each: protocol 2 writes bytes so.
    """

    start: int
    stored: int
    text: bool = False


class UnsafeError(Exception):
    """Raised by what stands for a call: why the file is not read."""


class UnlistedError(Exception):
    """The pickle names what the reader has no entry for."""


class Inert:
    """What a call would have made. It has no behaviour, and holds what the pickle gave it."""

    __slots__ = ("args", "state")

    def __init__(self, *args: object) -> None:
        self.args = args
        self.state: object = None

    def build(self, state: object) -> None:
        self.state = state


class Machine:
    def __init__(
        self,
        data: mmap | bytes,
        start: int,
        end: int,
        calls: Mapping[str, Callable[..., object]],
        persistent: Callable[[object], object] | None,
    ) -> None:
        self.data, self.at, self.end = data, start, min(end, len(data))
        self.calls, self.persistent = calls, persistent
        self.stack: list[object] = []
        self.below: list[list[object]] = []  # the stacks under each mark
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        for _ in range(_MOST_STEPS):
            if self.at >= self.end:
                raise ValueError("ends early")
            step = self.data[self.at]
            self.at += 1
            if step == _STOP:
                return self.stack.pop()
            _BY_NUMBER[step](self)
        raise UnsafeError(f"a pickle of more than {_MOST_STEPS:,} steps")

    # Reading

    def skip(self, count: int) -> int:
        """Go `count` bytes on, and give the place before."""
        before = self.at
        if count < 0 or before + count > self.end:
            raise ValueError("ends early")
        self.at += count
        return before

    def take(self, count: int) -> bytes:
        before = self.at
        after = before + count
        if count < 0 or after > self.end:
            raise ValueError("ends early")
        self.at = after
        return self.data[before:after]

    def number(self, width_bytes: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(width_bytes), "little", signed=signed)

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, min(self.at + _LINE_BYTES, self.end))
        if end < 0:
            raise ValueError("a line without an end")
        return self.take(end + 1 - self.at)[:-1].decode()

    def push_text(self, count: int) -> None:
        if count > _INLINE_BYTES:
            self.stack.append(Span(self.skip(count), count, text=True))
        else:
            self.stack.append(self.take(count).decode("utf-8", "surrogatepass"))

    def push_bytes(self, count: int) -> None:
        self.stack.append(self.take(count) if count <= _INLINE_BYTES else Span(self.skip(count), count))

    def push_old_text(self, count: int) -> None:
        """Python 2's str, which is bytes and text at once: names, and the data of arrays."""
        if count > _INLINE_BYTES:
            self.push_bytes(count)
        else:
            self.stack.append(self.take(count).decode("latin-1"))

    # Stack and memo

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[object]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def pop_tuple(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) < count:
            raise IndexError
        self.stack[-count:] = [tuple(items)]

    def extend(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError
        target.extend(items)

    def make_dict(self) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.set_items(items)

    def append(self) -> None:
        item = self.stack.pop()
        self.extend([item])

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def set_items(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise TypeError
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in _ATOMS:
                # Python hashes nested tuples by recursion, without a bound: a file could end the process by it.
                parts = key if isinstance(key, tuple) else (key,)
                if not all(isinstance(part, (*_ATOMS, Global, Span, Inert)) for part in parts):
                    raise TypeError
            target[key] = value

    # Names and what would be calls

    def push_global(self, module: object, name: object) -> None:
        module = _OLD_MODULES.get(str(module), str(module))
        dotted = f"{module}.{name}".replace("numpy.core.", "numpy._core.")
        if dotted not in self.calls:
            raise UnlistedError(dotted)
        self.stack.append(Global(dotted))

    def call(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise TypeError
        self.stack.append(self.calls[function.name](*args))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, dict):
            return  # attributes of an OrderedDict: torch's `_metadata`, which tells versions of modules
        target.build(state)  # type: ignore[attr-defined]  # without it, AttributeError: a damaged file

    def persist(self) -> None:
        if self.persistent is None:
            raise TypeError
        self.stack.append(self.persistent(self.stack.pop()))


def _whole_number(text: str) -> int | bool:
    return text == "01" if text in ("00", "01") else int(text)  # so protocol 0 writes False and True


def _push(make: Callable[[Machine], object]) -> Callable[[Machine], None]:
    def step(m: Machine) -> None:
        value = make(m)  # first: what ends a mark changes which stack is meant
        m.stack.append(value)

    return step


_STEPS: dict[bytes, Callable[[Machine], object]] = {
    b"\x80": lambda m: m.take(1),
    b"\x95": lambda m: m.take(8),  # a frame: an aid to reading ahead
    b"(": Machine.mark,
    b"0": lambda m: m.stack.pop(),
    b"1": Machine.since_mark,
    b"2": _push(lambda m: m.stack[-1]),
    b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True),
    b"\x89": _push(lambda m: False),
    b"I": _push(lambda m: _whole_number(m.line())),
    b"L": _push(lambda m: int(m.line().rstrip("L"))),
    b"F": _push(lambda m: float(m.line())),
    b"J": _push(lambda m: m.number(4, signed=True)),
    b"K": _push(lambda m: m.number(1)),
    b"M": _push(lambda m: m.number(2)),
    b"G": _push(lambda m: struct.unpack(">d", m.take(8))[0]),
    b"\x8a": _push(lambda m: int.from_bytes(m.take(m.number(1)), "little", signed=True)),
    b"\x8b": _push(lambda m: int.from_bytes(m.take(m.number(4, signed=True)), "little", signed=True)),
    b"X": lambda m: m.push_text(m.number(4)),
    b"\x8c": lambda m: m.push_text(m.number(1)),
    b"\x8d": lambda m: m.push_text(m.number(8)),
    b"B": lambda m: m.push_bytes(m.number(4)),
    b"C": lambda m: m.push_bytes(m.number(1)),
    b"\x8e": lambda m: m.push_bytes(m.number(8)),
    b"\x96": lambda m: m.push_bytes(m.number(8)),
    b"T": lambda m: m.push_old_text(m.number(4, signed=True)),
    b"U": lambda m: m.push_old_text(m.number(1)),
    b"}": _push(lambda m: {}),
    b"]": _push(lambda m: []),
    b"\x8f": _push(lambda m: []),
    b")": _push(lambda m: ()),
    b"\x85": lambda m: m.pop_tuple(1),
    b"\x86": lambda m: m.pop_tuple(2),
    b"\x87": lambda m: m.pop_tuple(3),
    b"t": _push(lambda m: tuple(m.since_mark())),
    b"l": _push(lambda m: m.since_mark()),
    b"\x91": _push(lambda m: m.since_mark()),
    b"d": Machine.make_dict,
    b"a": Machine.append,
    b"e": lambda m: m.extend(m.since_mark()),
    b"\x90": lambda m: m.extend(m.since_mark()),
    b"s": Machine.set_item,
    b"u": lambda m: m.set_items(m.since_mark()),
    b"p": lambda m: m.put(int(m.line())),
    b"q": lambda m: m.put(m.number(1)),
    b"r": lambda m: m.put(m.number(4)),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"g": _push(lambda m: m.memo[int(m.line())]),
    b"h": _push(lambda m: m.memo[m.number(1)]),
    b"j": _push(lambda m: m.memo[m.number(4)]),
    b"c": lambda m: m.push_global(m.line(), m.line()),
    b"\x93": lambda m: m.push_global(*(m.stack.pop(), m.stack.pop())[::-1]),
    b"R": Machine.call,
    b"\x81": Machine.call,
    b"b": Machine.build,
    b"Q": Machine.persist,
}
_STOP = ord(".")
_BY_NUMBER = {ord(step): do for step, do in _STEPS.items()}
