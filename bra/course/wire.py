"""Values as bytes and back: tensors and plain values alone, so that nothing which arrives can run code.

A message is JSON, in which tensors are named by number, and their numbers behind it. What is neither a tensor nor plain
arrives as an object that can do nothing, of a type with the same name.
"""

import json
import math
import struct
from collections.abc import Callable
from io import BufferedIOBase
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

DTYPES = {str(kind).removeprefix("torch."): kind for kind in (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
    torch.float32, torch.float64,
)}  # fmt: skip
HEAD = struct.Struct("<QQ")  # bytes of the JSON, and of the tensors
MOST = 64_000_000  # bytes of a message
DEEP = 20


def send(file: BufferedIOBase, value: Any, functions: list | None = None) -> None:
    """Write a message. Functions, if a list is given for them, go by their number in it. Raises ValueError."""
    tensors: list[bytes] = []
    text = json.dumps(plain(value, tensors, functions, DEEP)).encode()
    body = b"".join(tensors)
    if len(text) + len(body) > MOST:
        raise ValueError(f"a message of {len(text) + len(body)} bytes: at most {MOST} are sent")
    file.write(HEAD.pack(len(text), len(body)) + text + body)
    file.flush()


def receive(file: BufferedIOBase, function: Callable[[int], Any] | None = None) -> Any:
    """Read a message; `function` makes one out of its number. Raises EOFError at its end, ValueError if it is none."""
    length, size = HEAD.unpack(exactly(file, HEAD.size))
    if length + size > MOST:
        raise ValueError(f"a message of {length + size} bytes: at most {MOST} are read")
    text, body = exactly(file, length), exactly(file, size)
    try:
        return value_of(json.loads(text), body, function)
    except (KeyError, TypeError, IndexError, RuntimeError, RecursionError) as error:  # a sender may send anything
        raise ValueError(f"not a message: {error}") from error


def exactly(file: BufferedIOBase, count: int) -> bytes:
    """So many bytes. Raises EOFError."""
    content = file.read(count)
    if len(content) < count:
        raise EOFError("the other side has ended")
    return content


def plain(value: Any, tensors: list[bytes], functions: list | None, deep: int) -> Any:
    """A value as JSON holds it: [its kind, what it needs]."""
    if isinstance(value, Tensor) and value.layout == torch.strided and (name := str(value.dtype)[6:]) in DTYPES:
        values = value.detach().cpu().contiguous()
        at = sum(len(part) for part in tensors)
        tensors.append(values.reshape(-1).view(torch.uint8).numpy().tobytes() if values.numel() else b"")
        return ["tensor", name, list(values.shape), at]
    if value is None or type(value) in (bool, str):
        return ["plain", value]
    if value is Ellipsis:
        return ["ellipsis"]
    if isinstance(value, Integral):
        return ["int", str(int(value))] if abs(value) < 10**300 else ["other", "int"]
    if isinstance(value, Real):
        return ["float", float(value).hex()]
    if deep and isinstance(value, dict):
        pairs = [plain(pair, tensors, functions, deep - 1) for pair in value.items()]
        return ["dict", pairs]
    if deep and isinstance(value, tuple | list | set | frozenset | range):
        kind = next((kind for kind in (tuple, set, frozenset) if isinstance(value, kind)), list).__name__
        return [kind, [plain(each, tensors, functions, deep - 1) for each in value]]
    if functions is not None and callable(value):
        functions.append(value)
        return ["function", len(functions) - 1]
    return ["other", type(value).__name__]


def value_of(form: Any, body: bytes, function: Callable[[int], Any] | None) -> Any:
    """The value of such a form."""
    kind, *rest = form
    if kind == "tensor":
        name, shape, at = rest
        dtype, count = DTYPES[name], math.prod(shape)
        part = body[at : at + count * dtype.itemsize]
        if len(part) < count * dtype.itemsize or min(shape, default=0) < 0:
            raise ValueError("a tensor without its numbers")
        return torch.frombuffer(bytearray(part), dtype=dtype).reshape(shape) if count else torch.zeros(shape).to(dtype)
    if kind == "dict":
        return dict(value_of(pair, body, function) for pair in rest[0])
    if kind in ("tuple", "list", "set", "frozenset"):
        made = {"tuple": tuple, "list": list, "set": set, "frozenset": frozenset}[kind]
        return made(value_of(each, body, function) for each in rest[0])
    if kind == "function" and function is not None:
        return function(int(rest[0]))
    if kind == "other":
        return type(identifier(rest[0]), (), {})()
    return {
        "plain": lambda: rest[0] if rest[0] is None or type(rest[0]) in (bool, str) else str(rest[0]),
        "ellipsis": lambda: ...,
        "int": lambda: int(rest[0]),
        "float": lambda: float.fromhex(rest[0]),
    }[kind]()


def identifier(name: Any) -> str:
    """A name, if it can be one, or else "object"."""
    return name[:60] if isinstance(name, str) and name[:60].isidentifier() else "object"
