"""Reading and writing what comes before the weights in a GGUF file (version 3).

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any, BinaryIO

_MAGIC = b"GGUF"
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f",
    7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_LONGEST_KEPT_ARRAY = 1024
_TENSORS = {0: "F32", 1: "F16"}


def read(file: BinaryIO) -> dict[str, Any]:
    """Read all keys and values; arrays of more than 1024 items come as empty lists. Raises
    ValueError if it is no GGUF file."""
    if file.read(4) != _MAGIC:
        raise ValueError("no GGUF file: it does not begin with GGUF")
    _, _, keys = struct.unpack("<IQQ", file.read(20))
    return {_read_string(file): _read_value(file, _unpack(file, "<I")) for _ in range(keys)}


def tensors(file: BinaryIO) -> list[dict[str, Any]]:
    """The tensors of a file, as /api/show lists them."""
    file.seek(len(_MAGIC) + 4)
    count = _unpack(file, "<Q")
    file.seek(0)
    read(file)
    found = []
    for _ in range(count):
        name = _read_string(file)
        shape = [_unpack(file, "<Q") for _ in range(_unpack(file, "<I"))]
        kind = _unpack(file, "<I")
        _unpack(file, "<Q")  # where it lies
        found.append({"name": name, "type": _TENSORS.get(kind, str(kind)), "shape": shape})
    return found


def write(values: dict[str, Any]) -> bytes:
    """A GGUF file with these values and no tensors. Whole numbers become uint32, floats
    float32, lists arrays of strings or uint32."""
    out = BytesIO()
    out.write(_MAGIC + struct.pack("<IQQ", 3, 0, len(values)))
    for key, value in values.items():
        out.write(_string(key))
        if isinstance(value, list):
            kind = 8 if value and isinstance(value[0], str) else 4
            out.write(struct.pack("<IIQ", _ARRAY, kind, len(value)))
            for item in value:
                out.write(_string(item) if kind == _STRING else struct.pack("<I", item))
        elif isinstance(value, bool):
            out.write(struct.pack("<I?", 7, value))
        elif isinstance(value, int):
            wide = value >= 1 << 32
            out.write(struct.pack("<IQ" if wide else "<II", 10 if wide else 4, value))
        elif isinstance(value, float):
            out.write(struct.pack("<If", 6, value))
        else:
            out.write(struct.pack("<I", _STRING) + _string(value))
    return out.getvalue()


def _read_value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _read_string(file)
    if kind == _ARRAY:
        item_kind, count = struct.unpack("<IQ", file.read(12))
        if item_kind in _SCALARS and count > _LONGEST_KEPT_ARRAY:
            file.seek(count * struct.calcsize(_SCALARS[item_kind]), 1)
            return []
        items = [_read_value(file, item_kind) for _ in range(count)]
        return items if count <= _LONGEST_KEPT_ARRAY else []
    if kind not in _SCALARS:
        raise ValueError(f"GGUF value of unknown type {kind}")
    return _unpack(file, _SCALARS[kind])


def _read_string(file: BinaryIO) -> str:
    length = _unpack(file, "<Q")
    return file.read(length).decode("utf-8", "replace")


def _unpack(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
