"""The driver: what runs a step's table, compiled once for ever.

It is written in LLVM's own language: it consists of loops over words in memory,
atomic operations and calls through addresses, and so compiles in a tenth of the time
that Numba's front end would take for it. `rows` walks through a table as one share of
a team, `share` is what each thread of a parallel region runs, `run` opens the region,
and what Python calls takes the arrays of a call before it. See ``layout.py`` for the
table and the team's memory, ``entry.py`` for the arrays, ``team.py`` for their use.
"""

from __future__ import annotations

import sys

import llvmlite.binding as llvm

from . import entry, layout, native, unlocked

SYMBOL = "graphc_run"

TEXT = """
declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)

; Wait a moment for a count to move on from %seen. A short wait costs least when
; spinning; in a long one the thread that everybody waits for may need this very core,
; and a thread that sleeps is soon scheduled again, one that spins on is not.
define internal void @wait(ptr %count, i64 %seen, i64 %spins) alwaysinline {{
  %short = icmp slt i64 %spins, {SPINS}
  br i1 %short, label %spin, label %sleep
spin:
  call void asm sideeffect "{pause}", "~{{memory}}"()
  ret void
sleep:
  call void @rest(ptr %count, i64 %seen)
  ret void
}}

{rest}

{entry}

define internal i64 @word(ptr %team, i64 %offset) alwaysinline {{
  %place = getelementptr i8, ptr %team, i64 %offset
  %value = load i64, ptr %place
  ret i64 %value
}}

; Run all rows of a table as share %t of %nt.
define internal void @rows(ptr %team, i64 %t, i64 %nt) {{
entry:
  %count = getelementptr i8, ptr %team, i64 {COUNT}
  %table = call i64 @word(ptr %team, i64 {TABLE})
  %n = call i64 @word(ptr %team, i64 {N_ROWS})
  %several = icmp sgt i64 %nt, 1
  %leads = icmp eq i64 %t, 0
  %counters = alloca i64, i64 {COUNTERS}
  br label %next

next:                                         ; the row to run, barriers passed
  %row = phi i64 [ 0, %entry ], [ %row.after, %advance ]
  %passed = phi i64 [ 0, %entry ], [ %passed.now, %advance ]
  %more = icmp slt i64 %row, %n
  br i1 %more, label %begin, label %done

begin:
  %offset = mul i64 %row, {ROW_BYTES}
  %address = add i64 %table, %offset
  %here = inttoptr i64 %address to ptr
  %flags = call i64 @word(ptr %here, i64 16)
  %barrier.bit = and i64 %flags, {BARRIER}
  %has.barrier = icmp ne i64 %barrier.bit, 0
  %must.wait = and i1 %has.barrier, %several
  br i1 %must.wait, label %barrier, label %work

barrier:                                      ; all shares count up to %goal
  %goal = add i64 %passed, %nt
  %before = atomicrmw add ptr %count, i64 1 seq_cst
  %arrived = add i64 %before, 1
  %last = icmp eq i64 %arrived, %goal
  br i1 %last, label %release, label %look

release:
  call void @wake(ptr %count)
  br label %work

look:
  %spins = phi i64 [ 0, %barrier ], [ %spins.next, %again ]
  %now = load atomic i64, ptr %count acquire, align 8
  %early = icmp slt i64 %now, %goal
  br i1 %early, label %again, label %work

again:
  call void @wait(ptr %count, i64 %now, i64 %spins)
  %spins.next = add i64 %spins, 1
  br label %look

work:
  %passed.now = phi i64 [ %passed, %begin ], [ %goal, %look ], [ %goal, %release ]
  %code = call i64 @word(ptr %here, i64 0)
  %args = call i64 @word(ptr %here, i64 8)
  %one.bit = and i64 %flags, {ONE}
  %for.one = icmp ne i64 %one.bit, 0
  %others = xor i1 %leads, true
  %not.mine = and i1 %for.one, %others
  %empty = icmp eq i64 %code, 0
  %skip = or i1 %empty, %not.mine
  br i1 %skip, label %called, label %call

call:                                         ; a row for one is share 0 of 1
  %kernel = inttoptr i64 %code to ptr
  %of = select i1 %for.one, i64 1, i64 %nt
  call void %kernel(i64 %args, i64 %t, i64 %of)
  br label %called

called:
  %aside.bits = and i64 %flags, {CONTROL}
  %goes.on = icmp eq i64 %aside.bits, 0
  %row.next = add i64 %row, 1
  br i1 %goes.on, label %advance, label %aside

aside:
  %cell.address = call i64 @word(ptr %here, i64 24)
  %cell = inttoptr i64 %cell.address to ptr
  %target = call i64 @word(ptr %here, i64 32)
  %jump.bit = and i64 %flags, {JUMP}
  %may.jump = icmp ne i64 %jump.bit, 0
  br i1 %may.jump, label %jump, label %stay

stay:                                         ; the first share goes on, others pass by
  %alone.bit = and i64 %flags, {ALONE}
  %is.alone = icmp ne i64 %alone.bit, 0
  %row.own = select i1 %leads, i64 %row.next, i64 %target
  br i1 %is.alone, label %advance, label %loop

jump:
  %always = icmp eq i64 %cell.address, 0
  br i1 %always, label %advance, label %ask

ask:
  %condition = load i8, ptr %cell
  %holds = icmp ne i8 %condition, 0
  %row.chosen = select i1 %holds, i64 %row.next, i64 %target
  br label %advance

loop:                                         ; all shares write the same number
  %which = call i64 @word(ptr %here, i64 48)
  %counter = getelementptr i64, ptr %counters, i64 %which
  %begin.bit = and i64 %flags, {BEGIN}
  %begins = icmp ne i64 %begin.bit, 0
  br i1 %begins, label %turn, label %again.loop

again.loop:
  %turns = call i64 @word(ptr %here, i64 40)
  %done.turn = load i64, ptr %counter
  %next.turn = add i64 %done.turn, 1
  %another = icmp slt i64 %next.turn, %turns
  br i1 %another, label %turn, label %advance

turn:
  %number = phi i64 [ 0, %loop ], [ %next.turn, %again.loop ]
  %row.turn = phi i64 [ %row.next, %loop ], [ %target, %again.loop ]
  store i64 %number, ptr %counter
  store atomic i64 %number, ptr %cell monotonic, align 8
  br label %advance

advance:
  %row.after = phi i64 [ %row.next, %called ], [ %target, %jump ],
                       [ %row.chosen, %ask ], [ %row.own, %stay ],
                       [ %row.next, %again.loop ], [ %row.turn, %turn ]
  br label %next

done:
  ret void
}}

; Run one share in a parallel region, if the whole team has come. Shares arrive by
; counting a word up. If they are not all there in time, one thread runs several
; shares in turn, and a barrier would wait for ever; then whoever first replaces the
; count by POISON runs the step alone.
define internal void @share(ptr %args, ptr %dims, ptr %steps, ptr %team) {{
entry:
  %arrivals = getelementptr i8, ptr %team, i64 {ARRIVED}
  %mine = load i64, ptr %args
  %base = ptrtoint ptr %team to i64
  %distance = sub i64 %mine, %base
  %t = sdiv i64 %distance, {ADVANCE}
  %nt = call i64 @word(ptr %team, i64 {NT})
  %first = load atomic i64, ptr %arrivals acquire, align 8
  br label %arrive

arrive:
  %seen = phi i64 [ %first, %entry ], [ %found, %count ]
  %poisoned = icmp slt i64 %seen, 0
  br i1 %poisoned, label %done, label %count

count:
  %one.more = add i64 %seen, 1
  %swap = cmpxchg ptr %arrivals, i64 %seen, i64 %one.more seq_cst seq_cst
  %found = extractvalue {{ i64, i1 }} %swap, 0
  %counted = extractvalue {{ i64, i1 }} %swap, 1
  br i1 %counted, label %counted.in, label %arrive

counted.in:
  call void @wake(ptr %arrivals)
  br label %look

look:
  %spins = phi i64 [ 0, %counted.in ], [ %spins.next, %again ], [ %spins, %give.up ]
  %here = load atomic i64, ptr %arrivals acquire, align 8
  %alone = icmp slt i64 %here, 0
  br i1 %alone, label %done, label %check

check:
  %complete = icmp sge i64 %here, %nt
  br i1 %complete, label %together, label %waiting

waiting:
  %patient = icmp slt i64 %spins, {PATIENCE}
  br i1 %patient, label %again, label %give.up

again:
  call void @wait(ptr %arrivals, i64 %here, i64 %spins)
  %spins.next = add i64 %spins, 1
  br label %look

give.up:
  %poison = cmpxchg ptr %arrivals, i64 %here, i64 {POISON} seq_cst seq_cst
  %took = extractvalue {{ i64, i1 }} %poison, 1
  br i1 %took, label %serial, label %look

serial:
  %note = getelementptr i8, ptr %team, i64 {SERIAL}
  store i64 1, ptr %note
  call void @rows(ptr %team, i64 0, i64 1)
  ret void

together:
  call void @rows(ptr %team, i64 %t, i64 %nt)
  ret void

done:
  ret void
}}

; Run the team's table; returns 1 if it ran as one thread against the wish.
define internal i64 @run(ptr %team) {{
entry:
  %nt = call i64 @word(ptr %team, i64 {NT})
  %runs = call i64 @word(ptr %team, i64 {RUNS})
  %runs.next = add i64 %runs, 1
  %runs.place = getelementptr i8, ptr %team, i64 {RUNS}
  store i64 %runs.next, ptr %runs.place
  %alone = icmp sle i64 %nt, 1
  br i1 %alone, label %serial, label %parallel

serial:
  call void @rows(ptr %team, i64 0, i64 1)
  ret i64 0

parallel:
  %arrivals = getelementptr i8, ptr %team, i64 {ARRIVED}
  %count = getelementptr i8, ptr %team, i64 {COUNT}
  %note = getelementptr i8, ptr %team, i64 {SERIAL}
  store i64 0, ptr %arrivals
  store i64 0, ptr %count
  store i64 0, ptr %note
  %address = call i64 @word(ptr %team, i64 {PARALLEL_FOR})
  %parallel.for = inttoptr i64 %address to ptr
  %nt.short = trunc i64 %nt to i32
  %bases = getelementptr i8, ptr %team, i64 {ARGS_BASE}
  %number = getelementptr i8, ptr %bases, i64 8
  %steps = getelementptr i8, ptr %bases, i64 16
  ; function, bases, numbers, steps, data, inner dimensions, arrays, threads
  call void %parallel.for(ptr @share, ptr %bases, ptr %number, ptr %steps, ptr %team,
                          i64 0, i64 1, i32 %nt.short)
  %serial.note = load i64, ptr %note
  ret i64 %serial.note
}}

; A CPython function, bound to a record's address as an int: such a one takes 0.1 us a
; call, one made by ctypes 0.4 us. It returns -1 if the arrays are not those wanted.
define ptr @{symbol}(ptr %self, ptr %objects, i64 %n) {{
entry:
  %address = call i64 @PyLong_AsLongLong(ptr %self)
  %record = inttoptr i64 %address to ptr
  %right = call i1 @take(ptr %record, ptr %objects, i64 %n)
  br i1 %right, label %go, label %refuse

go:
  %team.address = call i64 @word(ptr %record, i64 {TEAM})
  %team = inttoptr i64 %team.address to ptr
  %thread = call ptr @PyEval_SaveThread()
  %serial = call i64 @run(ptr %team)
  call void @PyEval_RestoreThread(ptr %thread)
  br label %refuse

refuse:
  %code = phi i64 [ -1, %entry ], [ %serial, %go ]
  %found = call ptr @PyLong_FromLongLong(i64 %code)
  ret ptr %found
}}
"""

# How a thread sleeps until a count moves, and how whoever moves it wakes the others.
# The word after the count holds how many sleep. A sleep ends after a millisecond in any
# case, so that nothing hangs on a wake that went astray.
FUTEX = """
@millisecond = internal constant [ 2 x i64 ] [ i64 0, i64 1000000 ]
declare i64 @syscall(i64, ...)

define internal void @rest(ptr %count, i64 %seen) noinline {{
  %sleepers = getelementptr i8, ptr %count, i64 8
  %more = atomicrmw add ptr %sleepers, i64 1 seq_cst
  %low = trunc i64 %seen to i32
  ; FUTEX_WAIT_PRIVATE: sleeps only if the word is still what was seen
  %slept = call i64 (i64, ...) @syscall(i64 {futex}, ptr %count, i32 128, i32 %low,
                                        ptr @millisecond, ptr null, i32 0)
  %fewer = atomicrmw sub ptr %sleepers, i64 1 seq_cst
  ret void
}}

define internal void @wake(ptr %count) alwaysinline {{
  %sleepers = getelementptr i8, ptr %count, i64 8
  %n = load atomic i64, ptr %sleepers seq_cst, align 8
  %some = icmp ne i64 %n, 0
  br i1 %some, label %call, label %done
call:
  ; FUTEX_WAKE_PRIVATE, all of them
  %woken = call i64 (i64, ...) @syscall(i64 {futex}, ptr %count, i32 129,
                                        i32 2147483647, ptr null, ptr null, i32 0)
  br label %done
done:
  ret void
}}
"""
YIELD = """
declare void @{give_way}()

define internal void @rest(ptr %count, i64 %seen) noinline {{
  call void @{give_way}()
  ret void
}}

define internal void @wake(ptr %count) alwaysinline {{
  ret void
}}
"""
_FUTEX_CALL = {"x86_64": 202, "aarch64": 98}  # the number of the system call on Linux

_PAUSE = {"x86_64": "pause", "aarch64": "yield", "arm64": "yield"}


def source(symbol: str = SYMBOL) -> str:
    """Return the driver in LLVM's language; `symbol` names what Python calls."""
    machine = native.target().triple.partition("-")[0]
    words = {
        name: value
        for module in (layout, entry)
        for name, value in vars(module).items()
        if isinstance(value, int)
    }
    if sys.platform == "linux" and machine in _FUTEX_CALL:
        rest = FUTEX.format(futex=_FUTEX_CALL[machine])
    else:
        give_way = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        rest = YIELD.format(give_way=give_way)
    pause = _PAUSE.get(machine, "")
    way_in = entry.TEXT.format(**words)
    return TEXT.format(symbol=symbol, rest=rest, entry=way_in, pause=pause, **words)


def address() -> int:
    """Return the address of `run`, compiling the driver if the cache has it not."""
    key = native.content_key("driver")
    symbol = f"{SYMBOL}_{key}"

    def build() -> llvm.ModuleRef:
        module = unlocked.parse(source(symbol))
        module.triple = native.target().triple
        module.verify()
        native.optimize(module)
        return module

    return native.load(key, symbol, build, "driver").address
