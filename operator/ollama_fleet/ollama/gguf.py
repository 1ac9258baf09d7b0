"""Reading what a GGUF file says of its model, from as little of it as that takes.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3). The file may
be anybody's: whatever it claims, no more than some megabytes are kept, nothing is nested, and
after 32 MiB the reading ends.
"""

from __future__ import annotations

import struct
from collections.abc import Generator

Value = int | float | bool | str | list[int] | list[bool]

LONGEST_HEADER = 32 << 20
_MOST_KEYS = 65536
_LONGEST_KEY = 65535
_LONGEST_TEXT = 256
_LONGEST_LIST = 1024
_MOST_KEPT = 512

_MAGIC = b"GGUF"
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f",
    7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_INTEGERS = (0, 1, 2, 3, 4, 5, 7, 10, 11)
_STRING, _ARRAY = 8, 9
_LENGTH = struct.Struct("<Q")

TOKENS = "tokenizer.ggml.tokens"
_NEEDED = ("block_count", "context_length", "embedding_length", "attention.head_count")


class GgufError(ValueError):
    """Bytes that are no readable GGUF header; the text says why."""


class Header:
    """The beginning of a GGUF file, taken in pieces.

    ``values`` are those of ``general.architecture`` and of the architecture's own keys that are
    numbers or short lists; of the tokens only how many there are. ``done`` is set once these are
    known, which in common files is long before the header ends.
    """

    def __init__(self, longest: int = LONGEST_HEADER) -> None:
        self.values: dict[str, Value] = {}
        self.done = False
        self.position = 0
        """Where the next piece begins: what lies between may be left out."""
        self._longest = longest
        self._kept = bytearray()
        self._used = 0
        """Of what is kept; more than there is where what follows is to be skipped."""
        self._steps = self._read()
        self._wanted = next(self._steps)

    def feed(self, piece: bytes) -> None:
        """Take the bytes that begin at ``position``; raises GgufError."""
        if self.done:
            return
        self._kept += piece
        while not self.done and self._used + max(0, self._wanted) <= len(self._kept):
            begin, wanted = self._used, self._wanted
            self._used += abs(wanted)
            data = bytes(self._kept[begin : begin + wanted]) if wanted > 0 else b""
            try:
                self._wanted = self._steps.send(data)
            except StopIteration:
                self.done = True
        self.position += len(piece) + max(0, self._used - len(self._kept))
        del self._kept[: self._used]
        self._used = 0
        if self.position > self._longest and not self.done:
            raise GgufError(f"its header is longer than {self._longest >> 20} MiB")

    def _read(self) -> Generator[int, bytes, None]:
        """Yields how many bytes are wanted next, or, below zero, are to be skipped."""
        if (yield 4) != _MAGIC:
            raise GgufError("it does not begin with GGUF")
        version, _, keys = struct.unpack("<IQQ", (yield 20))
        if version not in (2, 3):
            raise GgufError(f"its version is {version}, and 2 and 3 can be read")
        if keys > _MOST_KEYS:
            raise GgufError(f"it claims to have {keys} keys")
        for _ in range(keys):
            length = yield from self._number("<Q")
            if length > _LONGEST_KEY:
                raise GgufError(f"it has a key of {length} bytes")
            key = (yield length).decode("utf-8", "replace")
            kind = yield from self._number("<I")
            value = yield from self._value(kind, key == TOKENS)
            if value is not None and self._concerns(key) and len(self.values) < _MOST_KEPT:
                self.values[key] = value
            if self._complete(key):
                return

    def _value(self, kind: int, counted: bool) -> Generator[int, bytes, Value | None]:
        """The value, if it is one to keep; a list that is counted as how many it has."""
        if kind == _STRING:
            return (yield from self._text())
        if kind != _ARRAY:
            return (yield from self._number(_form(kind)))
        item = yield from self._number("<I")
        count = yield from self._number("<Q")
        if count > self._longest:
            raise GgufError(f"it claims to have a list of {count} values")
        if counted and self._shape_known():
            return count
        if item == _STRING:
            left = count
            while left := self._pass_over(left):
                length = yield from self._number("<Q")
                yield from self._skip(length)
                left -= 1
            return count if counted else None
        form = _form(item)
        if item in _INTEGERS and count <= _LONGEST_LIST:
            data = yield count * struct.calcsize(form)
            return [one for (one,) in struct.iter_unpack(form, data)]
        yield from self._skip(count * struct.calcsize(form))
        return count if counted else None

    def _pass_over(self, texts: int) -> int:
        """Skip those texts that begin in what is here, as there may be a million; the rest."""
        last = len(self._kept) - _LENGTH.size
        while texts and self._used <= last:
            (length,) = _LENGTH.unpack_from(self._kept, self._used)
            if length > self._longest:
                break
            self._used += _LENGTH.size + length
            texts -= 1
        return texts

    def _text(self) -> Generator[int, bytes, str | None]:
        length = yield from self._number("<Q")
        if length > _LONGEST_TEXT:
            yield from self._skip(length)
            return None
        return (yield length).decode("utf-8", "replace")

    def _number(self, form: str) -> Generator[int, bytes, int]:
        (value,) = struct.unpack(form, (yield struct.calcsize(form)))
        return value  # type: ignore[no-any-return]

    def _skip(self, length: int) -> Generator[int, bytes, None]:
        if length > self._longest:
            raise GgufError(f"it claims to have a value of {length} bytes")
        if length:
            yield -length

    def _concerns(self, key: str) -> bool:
        """Whether a key may say something of the model's shape. Keys come in any order, so until
        the architecture is known those of every other group are kept."""
        if len(key) > _LONGEST_TEXT:
            return False
        if key in ("general.architecture", TOKENS):
            return True
        architecture = self.values.get("general.architecture")
        if architecture is None:
            return not key.startswith(("general.", "tokenizer."))
        return key.startswith(f"{architecture}.")

    def _complete(self, key: str) -> bool:
        """Whether all is known: what is needed, and, as some keys may be absent, that the group
        of the architecture's keys has ended."""
        if not self._shape_known() or key.startswith(f"{self.values['general.architecture']}."):
            return False
        sized = f"{self.values['general.architecture']}.vocab_size" in self.values
        return key.startswith("tokenizer.") and (sized or TOKENS in self.values)

    def _shape_known(self) -> bool:
        architecture = self.values.get("general.architecture")
        return all(f"{architecture}.{key}" in self.values for key in _NEEDED)


def _form(kind: int) -> str:
    if kind not in _SCALARS:
        raise GgufError(f"it has a value of unknown type {kind}")
    return _SCALARS[kind]
