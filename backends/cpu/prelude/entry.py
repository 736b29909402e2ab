"""The way into a step: NumPy arrays are checked and noted without Python.

A step reads its inputs through addresses in its table. Looking up what an array is and
where it lies takes Python about 2 us an array, as long as a small network's whole
layer. So the driver does it: a record says what each array of a call must be, and which
words of the table its address goes to. If one array is anything else, nothing happens
but that the call says so, and Python goes the long way.

    way = team.entry([(xs.dtype, xs.shape, [address of a word]), ...])
    way.enter(xs, ...)              # 0: has run, 1: has run as one thread, -1: has not

The arrays are read as NumPy's C interface lays them out (PyArrayObject, the same in
NumPy 1 and 2). `is_known` looks whether that holds in this process.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

# Byte offsets in a record, and in its part on one array.
TEAM, ARRAYS, GIVEN, TYPE, FIRST = 0, 8, 16, 24, 32
DESCR, NDIM, SHAPE, FLAGS, BYTES, PLACES, N_PLACES, PART = 0, 8, 16, 24, 32, 40, 48, 56

# And in PyArrayObject. Type, descr and shape are addresses, ndim and flags 32 bits.
OF_TYPE, OF_DATA, OF_NDIM, OF_SHAPE, OF_DESCR, OF_FLAGS = 8, 16, 24, 32, 56, 64
CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400

TEXT = """
; Whether an object is an array of the wanted dtype, shape and flags.
define internal i1 @fits(ptr %object, ptr %wanted, i64 %type) {{
entry:
  %own.type = call i64 @word(ptr %object, i64 {OF_TYPE})
  %is.array = icmp eq i64 %own.type, %type
  br i1 %is.array, label %look, label %no

look:
  %descr = call i64 @word(ptr %object, i64 {OF_DESCR})
  %wanted.descr = call i64 @word(ptr %wanted, i64 {DESCR})
  %same.descr = icmp eq i64 %descr, %wanted.descr
  %ndim.place = getelementptr i8, ptr %object, i64 {OF_NDIM}
  %ndim.short = load i32, ptr %ndim.place
  %ndim = sext i32 %ndim.short to i64
  %wanted.ndim = call i64 @word(ptr %wanted, i64 {NDIM})
  %same.ndim = icmp eq i64 %ndim, %wanted.ndim
  %flags.place = getelementptr i8, ptr %object, i64 {OF_FLAGS}
  %flags.short = load i32, ptr %flags.place
  %flags = sext i32 %flags.short to i64
  %wanted.flags = call i64 @word(ptr %wanted, i64 {FLAGS})
  %good.flags = and i64 %flags, %wanted.flags
  %dense = icmp eq i64 %good.flags, %wanted.flags
  %alike = and i1 %same.descr, %same.ndim
  %all = and i1 %alike, %dense
  br i1 %all, label %sizes, label %no

sizes:
  %own.sizes = call i64 @word(ptr %object, i64 {OF_SHAPE})
  %wanted.sizes = call i64 @word(ptr %wanted, i64 {SHAPE})
  %own = inttoptr i64 %own.sizes to ptr
  %right = inttoptr i64 %wanted.sizes to ptr
  br label %next

next:
  %axis = phi i64 [ 0, %sizes ], [ %axis.next, %axis.fits ]
  %more = icmp slt i64 %axis, %ndim
  br i1 %more, label %compare, label %yes

compare:
  %offset = mul i64 %axis, 8
  %size = call i64 @word(ptr %own, i64 %offset)
  %wanted.size = call i64 @word(ptr %right, i64 %offset)
  %equal = icmp eq i64 %size, %wanted.size
  br i1 %equal, label %axis.fits, label %no

axis.fits:
  %axis.next = add i64 %axis, 1
  br label %next

yes:
  ret i1 true
no:
  ret i1 false
}}

; Whether an array shares no memory with any before it.
define internal i1 @is_apart(ptr %record, ptr %objects, i64 %j) {{
entry:
  %first = getelementptr i8, ptr %record, i64 {FIRST}
  %own.offset = mul i64 %j, 8
  %own.address = call i64 @word(ptr %objects, i64 %own.offset)
  %own = inttoptr i64 %own.address to ptr
  %own.start = call i64 @word(ptr %own, i64 {OF_DATA})
  %own.part = mul i64 %j, {PART}
  %own.wanted = getelementptr i8, ptr %first, i64 %own.part
  %own.bytes = call i64 @word(ptr %own.wanted, i64 {BYTES})
  %own.end = add i64 %own.start, %own.bytes
  br label %next

next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %apart ]
  %more = icmp slt i64 %i, %j
  br i1 %more, label %compare, label %yes

compare:
  %offset = mul i64 %i, 8
  %address = call i64 @word(ptr %objects, i64 %offset)
  %object = inttoptr i64 %address to ptr
  %start = call i64 @word(ptr %object, i64 {OF_DATA})
  %part = mul i64 %i, {PART}
  %wanted = getelementptr i8, ptr %first, i64 %part
  %bytes = call i64 @word(ptr %wanted, i64 {BYTES})
  %end = add i64 %start, %bytes
  %before = icmp ult i64 %start, %own.end
  %behind = icmp ult i64 %own.start, %end
  %meet = and i1 %before, %behind
  br i1 %meet, label %no, label %apart

apart:
  %i.next = add i64 %i, 1
  br label %next

yes:
  ret i1 true
no:
  ret i1 false
}}

; Write where an array lies into all words that ask for it.
define internal void @note(ptr %object, ptr %wanted) {{
entry:
  %data = call i64 @word(ptr %object, i64 {OF_DATA})
  %number = call i64 @word(ptr %wanted, i64 {N_PLACES})
  %list = call i64 @word(ptr %wanted, i64 {PLACES})
  %places = inttoptr i64 %list to ptr
  br label %next

next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %write ]
  %more = icmp slt i64 %i, %number
  br i1 %more, label %write, label %done

write:
  %offset = mul i64 %i, 8
  %address = call i64 @word(ptr %places, i64 %offset)
  %place = inttoptr i64 %address to ptr
  store i64 %data, ptr %place
  %i.next = add i64 %i, 1
  br label %next

done:
  ret void
}}

; Check the arrays of a call, then note all of them; whether they were right.
define internal i1 @take(ptr %record, ptr %objects, i64 %n) {{
entry:
  %number = call i64 @word(ptr %record, i64 {ARRAYS})
  %given = call i64 @word(ptr %record, i64 {GIVEN})
  %type = call i64 @word(ptr %record, i64 {TYPE})
  %first = getelementptr i8, ptr %record, i64 {FIRST}
  %all = icmp eq i64 %n, %number
  br i1 %all, label %check.next, label %no

check.next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %right ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %check, label %apart.next

check:
  %object.offset = mul i64 %i, 8
  %object.address = call i64 @word(ptr %objects, i64 %object.offset)
  %object = inttoptr i64 %object.address to ptr
  %offset = mul i64 %i, {PART}
  %wanted = getelementptr i8, ptr %first, i64 %offset
  %is.right = call i1 @fits(ptr %object, ptr %wanted, i64 %type)
  br i1 %is.right, label %right, label %no

right:
  %i.next = add i64 %i, 1
  br label %check.next

apart.next:
  %k = phi i64 [ %given, %check.next ], [ %k.next, %apart ]
  %unseen = icmp slt i64 %k, %n
  br i1 %unseen, label %look, label %note.next

look:
  %is.apart = call i1 @is_apart(ptr %record, ptr %objects, i64 %k)
  br i1 %is.apart, label %apart, label %no

apart:
  %k.next = add i64 %k, 1
  br label %apart.next

note.next:
  %j = phi i64 [ 0, %apart.next ], [ %j.next, %note ]
  %left = icmp slt i64 %j, %n
  br i1 %left, label %note, label %yes

note:
  %noted.offset = mul i64 %j, 8
  %noted.address = call i64 @word(ptr %objects, i64 %noted.offset)
  %noted = inttoptr i64 %noted.address to ptr
  %part.offset = mul i64 %j, {PART}
  %part = getelementptr i8, ptr %first, i64 %part.offset
  call void @note(ptr %noted, ptr %part)
  %j.next = add i64 %j, 1
  br label %note.next

yes:
  ret i1 true
no:
  ret i1 false
}}
"""


# What an array must be, dtype and shape, and the addresses of the words that say where
# it lies.
Wanted = tuple[np.dtype[Any], tuple[int, ...], Sequence[int]]


class Record:
    """What the driver must know of a call: the team that runs, and the arrays.

    given: how many of them, the last ones, are written to and come from a caller, so
    that they may share memory with others. `address` is where the record lies, as long
    as it lives.
    """

    def __init__(
        self, team: int, arrays: Sequence[Wanted] = (), given: int = 0
    ) -> None:
        """Write the record."""
        alone = len(arrays) - given
        words = [team, len(arrays), alone, id(np.ndarray)]
        self._kept: list[Any] = []
        for i, (dtype, shape, places) in enumerate(arrays):
            sizes, targets = (self._list(numbers) for numbers in (shape, places))
            flags = CONTIGUOUS | ALIGNED | WRITEABLE * (i >= alone)
            room = math.prod(shape) * dtype.itemsize
            words += [id(dtype), len(shape), sizes, flags, room, targets, len(places)]
            self._kept.append(dtype)
        self.address = self._list(words)

    def _list(self, numbers: Sequence[int]) -> int:
        """Return the address of numbers that stay where they are."""
        array = np.array(numbers, np.int64)
        self._kept.append(array)
        return int(array.ctypes.data)


@cache
def is_known() -> bool:
    """Tell whether arrays lie in memory as this file says."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    if sys.getsizeof(object()) != 16:  # a count and a type, and no more
        return False
    array = np.ones((3, 5), np.float32)
    at = id(array)

    def word(address: int) -> int:
        return int(ctypes.c_int64.from_address(address).value)

    def half(address: int) -> int:
        return int(ctypes.c_int32.from_address(address).value)

    good = array.flags
    right = CONTIGUOUS * good.c_contiguous | ALIGNED * good.aligned
    right |= WRITEABLE * good.writeable
    return (
        word(at + OF_TYPE) == id(np.ndarray)
        and word(at + OF_DATA) == array.ctypes.data
        and half(at + OF_NDIM) == 2
        and word(at + OF_DESCR) == id(np.dtype(np.float32))
        and half(at + OF_FLAGS) & (CONTIGUOUS | ALIGNED | WRITEABLE) == right
        and [word(word(at + OF_SHAPE) + 8 * i) for i in range(2)] == [3, 5]
    )
