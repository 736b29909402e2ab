"""The driver: what runs a step's table, compiled once for ever.

It is written in LLVM's own language: it consists of loops over words in memory,
atomic operations and calls through addresses, and so compiles in a tenth of the time
that Numba's front end would take for it. `rows` walks through a table as one share of
a team, `run` opens a region for all shares of it, `serve` is what the threads of a pool
do for ever, and what Python calls takes the arrays of a call before it. See
``layout.py`` for the table and the memory of teams and pools, ``entry.py`` for the
arrays, ``team.py`` and ``pool.py`` for their use.
"""

from __future__ import annotations

import sys
from functools import cache

import llvmlite.binding as llvm

from . import entry, layout, native, unlocked

SYMBOLS = {n: f"graphc_{n}" for n in ("run", "strips", "serve", "dismiss")}

TEXT = """
declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)

; Wait a moment for a word to move on from %seen, for the %turn-th time. A short wait
; costs least when spinning. To sleep and be woken takes 0.05 ms, and where a host lends
; the cores a whole one, so a thread spins on as long as it is in nobody's way. Returns
; the number of the next turn: who is woken begins anew.
define internal i64 @wait(ptr %pool, ptr %place, i64 %seen, i64 %turn) alwaysinline {{
  %next = add i64 %turn, 1
  %part = and i64 %turn, {LOOK_MASK}
  %time.to.look = icmp eq i64 %part, {LOOK_MASK}
  br i1 %time.to.look, label %look, label %spin
spin:
  call void asm sideeffect "{pause}", "~{{memory}}"()
  ret i64 %next
look:
  %woken = call i1 @consider(ptr %pool, ptr %place, i64 %seen, i64 %turn)
  %on = select i1 %woken, i64 0, i64 %next
  ret i64 %on
}}

; Sleep, if it is time to; returns whether somebody woke the thread.
define internal i1 @consider(ptr %pool, ptr %place, i64 %seen, i64 %turn) noinline {{
  %patient = icmp slt i64 %turn, {PATIENCE}
  br i1 %patient, label %ask, label %sleep
ask:
  %crowded = call i1 @is_crowded(ptr %pool)
  br i1 %crowded, label %sleep, label %go.on
sleep:
  %woken = call i1 @rest(ptr %place, i64 %seen, i64 %turn)
  ret i1 %woken
go.on:
  ret i1 false
}}

; Wait until a count has come to %goal.
define internal void @await(ptr %pool, ptr %count, i64 %goal) alwaysinline {{
entry:
  br label %look

look:
  %turn = phi i64 [ 0, %entry ], [ %turn.next, %again ]
  %now = load atomic i64, ptr %count acquire, align 8
  %early = icmp slt i64 %now, %goal
  br i1 %early, label %again, label %done

again:
  %turn.next = call i64 @wait(ptr %pool, ptr %count, i64 %now, i64 %turn)
  br label %look

done:
  ret void
}}

{rest}

{entry}

define internal i64 @word(ptr %team, i64 %offset) alwaysinline {{
  %place = getelementptr i8, ptr %team, i64 %offset
  %value = load i64, ptr %place
  ret i64 %value
}}

; The first of %n items that share %t of %nt does; its last is before that of %t + 1.
define internal i64 @first_of(i64 %n, i64 %t, i64 %nt) alwaysinline {{
  %before = mul i64 %n, %t
  %first = udiv i64 %before, %nt
  ret i64 %first
}}

; Run all rows of a table as share %t of %nt.
define internal void @rows(ptr %team, i64 %t, i64 %nt) {{
entry:
  %count = getelementptr i8, ptr %team, i64 {COUNT}
  %pool.address = call i64 @word(ptr %team, i64 {POOL})
  %pool = inttoptr i64 %pool.address to ptr
  %table = call i64 @word(ptr %team, i64 {TABLE})
  %n = call i64 @word(ptr %team, i64 {N_ROWS})
  %several = icmp sgt i64 %nt, 1
  %leads = icmp eq i64 %t, 0
  %counters = alloca i64, i64 {COUNTERS}
  %part.place = alloca i64                    ; the part at hand,
  %end.place = alloca i64                     ; the one behind the share's last,
  %parts.place = alloca i64                   ; how many all have; 0: there are none
  store i64 0, ptr %parts.place
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
  br i1 %last, label %release, label %early

release:
  call void @wake(ptr %count)
  br label %work

early:
  call void @await(ptr %pool, ptr %count, i64 %goal)
  br label %work

work:
  %passed.now = phi i64 [ %passed, %begin ], [ %goal, %early ], [ %goal, %release ]
  %code = call i64 @word(ptr %here, i64 0)
  %args.first = call i64 @word(ptr %here, i64 8)
  %args.step = call i64 @word(ptr %here, i64 56)
  %args.behind = mul i64 %args.step, %t
  %args = add i64 %args.first, %args.behind
  %one.bit = and i64 %flags, {ONE}
  %for.one = icmp ne i64 %one.bit, 0
  %others = xor i1 %leads, true
  %not.mine = and i1 %for.one, %others
  %empty = icmp eq i64 %code, 0
  %skip = or i1 %empty, %not.mine
  br i1 %skip, label %called, label %call

call:                                         ; a row for one is share 0 of 1
  %kernel = inttoptr i64 %code to ptr
  %shares = select i1 %for.one, i64 1, i64 %nt
  %parts = load i64, ptr %parts.place
  %part = load i64, ptr %part.place
  %in.parts = icmp ne i64 %parts, 0
  %of = select i1 %in.parts, i64 %parts, i64 %shares
  %which.share = select i1 %in.parts, i64 %part, i64 %t
  call void %kernel(i64 %args, i64 %which.share, i64 %of)
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
  br i1 %is.alone, label %advance, label %repeat

repeat:
  %next.bit = and i64 %flags, {NEXT}
  %is.next = icmp ne i64 %next.bit, 0
  br i1 %is.next, label %another.part, label %divide

another.part:
  %done.part = load i64, ptr %part.place
  %part.next = add i64 %done.part, 1
  store i64 %part.next, ptr %part.place
  %part.end = load i64, ptr %end.place
  %part.left = icmp slt i64 %part.next, %part.end
  br i1 %part.left, label %advance, label %no.parts

no.parts:
  %row.behind = phi i64 [ %row.next, %another.part ], [ %target, %give.parts ]
  store i64 0, ptr %parts.place
  br label %advance

divide:
  %parts.bit = and i64 %flags, {PARTS}
  %has.parts = icmp ne i64 %parts.bit, 0
  br i1 %has.parts, label %give.parts, label %loop

give.parts:
  %all.parts = call i64 @word(ptr %here, i64 40)
  %share.next = add i64 %t, 1
  %first.part = call i64 @first_of(i64 %all.parts, i64 %t, i64 %nt)
  %end.part = call i64 @first_of(i64 %all.parts, i64 %share.next, i64 %nt)
  store i64 %first.part, ptr %part.place
  store i64 %end.part, ptr %end.place
  store i64 %all.parts, ptr %parts.place
  %have.one = icmp slt i64 %first.part, %end.part
  br i1 %have.one, label %advance, label %no.parts

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
                       [ %row.next, %again.loop ], [ %row.turn, %turn ],
                       [ %target, %another.part ], [ %row.next, %give.parts ],
                       [ %row.behind, %no.parts ]
  br label %next

done:
  ret void
}}

; A kernel that runs tables which need nothing of each other, each as one thread would.
; Its args are how many there are, and for each a team's memory that says where it is.
define void @{strips}(ptr %args, i64 %t, i64 %nt) {{
entry:
  %count = load i64, ptr %args
  %share.next = add i64 %t, 1
  %first = call i64 @first_of(i64 %count, i64 %t, i64 %nt)
  %end = call i64 @first_of(i64 %count, i64 %share.next, i64 %nt)
  br label %look

look:
  %strip = phi i64 [ %first, %entry ], [ %strip.next, %go ]
  %strip.next = add i64 %strip, 1
  %more = icmp slt i64 %strip, %end
  br i1 %more, label %go, label %done

go:
  %place = getelementptr i64, ptr %args, i64 %strip.next
  %address = load i64, ptr %place
  %team = inttoptr i64 %address to ptr
  call void @rows(ptr %team, i64 0, i64 1)
  br label %look

done:
  ret void
}}

; Run the team's table on as many threads as it asks for; returns 1 if it ran on one
; against the wish: another team has the pool's threads, or they are too few. A small
; one asks for as many as are awake.
define internal i64 @run(ptr %team) {{
entry:
  %nt = call i64 @word(ptr %team, i64 {NT})
  %runs = call i64 @word(ptr %team, i64 {RUNS})
  %runs.next = add i64 %runs, 1
  %runs.place = getelementptr i8, ptr %team, i64 {RUNS}
  store i64 %runs.next, ptr %runs.place
  %alone = icmp sle i64 %nt, 1
  br i1 %alone, label %serial, label %ask

ask:
  %pool.address = call i64 @word(ptr %team, i64 {POOL})
  %pool = inttoptr i64 %pool.address to ptr
  %workers = call i64 @word(ptr %pool, i64 {WORKERS})
  %all = add i64 %workers, 1  ; the caller works too
  %short = icmp sgt i64 %nt, %all
  br i1 %short, label %serial, label %look

look:
  %small = call i64 @word(ptr %team, i64 {SMALL})
  %job = getelementptr i8, ptr %pool, i64 {JOB}
  %sleepers = getelementptr i8, ptr %job, i64 8
  %asleep = load atomic i64, ptr %sleepers monotonic, align 8
  %unready = mul i64 %small, %asleep
  %ready = icmp eq i64 %unready, 0
  br i1 %ready, label %take, label %leave.them

leave.them:
  call void @rouse(ptr %pool)
  br label %serial

take:
  %busy = getelementptr i8, ptr %pool, i64 {BUSY}
  %swap = cmpxchg ptr %busy, i64 0, i64 1 seq_cst seq_cst
  %taken = extractvalue {{ i64, i1 }} %swap, 1
  br i1 %taken, label %parallel, label %serial

serial:
  %against = phi i64 [ 0, %entry ], [ 1, %ask ], [ 0, %leave.them ], [ 1, %take ]
  call void @rows(ptr %team, i64 0, i64 1)
  ret i64 %against

parallel:
  %count = getelementptr i8, ptr %team, i64 {COUNT}
  store i64 0, ptr %count
  %done = getelementptr i8, ptr %pool, i64 {DONE}
  store i64 0, ptr %done
  call void @call_up(ptr %pool, i64 %nt, ptr %team)
  call void @rows(ptr %team, i64 0, i64 %nt)
  %others = sub i64 %nt, 1
  call void @await(ptr %pool, ptr %done, i64 %others)
  store atomic i64 0, ptr %busy release, align 8
  ret i64 0
}}

; Give the first threads of a pool a job. The word that they wait for holds the job's
; number and how many it is for, so that whoever it is not for need not look further:
; such a thread may come late, when the team's address is another's.
define internal void @call_up(ptr %pool, i64 %nt, ptr %team) {{
  %now = getelementptr i8, ptr %pool, i64 {TEAM_NOW}
  store ptr %team, ptr %now
  %job = getelementptr i8, ptr %pool, i64 {JOB}
  %old = load i64, ptr %job
  %full = or i64 %old, {EVERYBODY}
  %number = add i64 %full, 1
  %new = or i64 %number, %nt
  %before = atomicrmw xchg ptr %job, i64 %new seq_cst
  call void @wake(ptr %job)
  ret void
}}

; What a pool's thread does: share %t of every job that is for so many, until one has no
; team. %first is the job that it need not do.
define void @{serve}(ptr %pool, i64 %t, i64 %first) {{
entry:
  %job = getelementptr i8, ptr %pool, i64 {JOB}
  %done = getelementptr i8, ptr %pool, i64 {DONE}
  br label %idle

idle:
  %last = phi i64 [ %first, %entry ], [ %word, %called ], [ %word, %finished ]
  br label %look

look:
  %turn = phi i64 [ 0, %idle ], [ %turn.next, %again ]
  %word = load atomic i64, ptr %job acquire, align 8
  %same = icmp eq i64 %word, %last
  br i1 %same, label %again, label %called

again:
  %turn.next = call i64 @wait(ptr %pool, ptr %job, i64 %word, i64 %turn)
  br label %look

called:
  %nt = and i64 %word, {EVERYBODY}
  %mine = icmp slt i64 %t, %nt
  br i1 %mine, label %work, label %idle

work:
  %team.address = call i64 @word(ptr %pool, i64 {TEAM_NOW})
  %team = inttoptr i64 %team.address to ptr
  %ends = icmp eq i64 %team.address, 0
  br i1 %ends, label %leave, label %share

share:
  call void @rows(ptr %team, i64 %t, i64 %nt)
  %before = atomicrmw add ptr %done, i64 1 seq_cst
  %left = sub i64 %nt, %before
  %last.one = icmp eq i64 %left, 2
  br i1 %last.one, label %tell, label %finished

tell:
  call void @wake(ptr %done)
  br label %finished

finished:
  br label %idle

leave:
  ret void
}}

; End a pool's threads, if they have nothing to do; returns whether they will.
define i64 @{dismiss}(ptr %pool) {{
  %busy = getelementptr i8, ptr %pool, i64 {BUSY}
  %swap = cmpxchg ptr %busy, i64 0, i64 1 seq_cst seq_cst
  %taken = extractvalue {{ i64, i1 }} %swap, 1
  br i1 %taken, label %end, label %done
end:
  call void @call_up(ptr %pool, i64 {EVERYBODY}, ptr null)
  br label %done
done:
  %found = zext i1 %taken to i64
  ret i64 %found
}}

; A CPython function, bound to a record's address as an int: such a one takes 0.1 us a
; call, one made by ctypes 0.4 us. It returns -1 if the arrays are not those wanted.
define ptr @{run}(ptr %self, ptr %objects, i64 %n) {{
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

# How a thread sleeps until a word moves, and how whoever moves it wakes the others.
# The word after it holds how many sleep. A sleep ends after a tenth of a second in any
# case, so that nothing hangs on a wake that went astray. The file of the loads reads
# "0.20 0.18 0.12 2/345 8123", two threads of 345 run.
LINUX = """
@tenth = internal constant [ 2 x i64 ] [ i64 0, i64 100000000 ]
declare i64 @syscall(i64, ...)
declare i32 @clock_gettime(i32, ptr)

define internal i1 @rest(ptr %place, i64 %seen, i64 %turn) noinline {{
  %sleepers = getelementptr i8, ptr %place, i64 8
  %more = atomicrmw add ptr %sleepers, i64 1 seq_cst
  %low = trunc i64 %seen to i32
  ; FUTEX_WAIT_PRIVATE: sleeps only if the word is still what was seen
  %slept = call i64 (i64, ...) @syscall(i64 {futex}, ptr %place, i32 128, i32 %low,
                                        ptr @tenth, ptr null, i32 0)
  %fewer = atomicrmw sub ptr %sleepers, i64 1 seq_cst
  %woken = icmp eq i64 %slept, 0
  ret i1 %woken
}}

define internal void @wake(ptr %place) alwaysinline {{
  %sleepers = getelementptr i8, ptr %place, i64 8
  %n = load atomic i64, ptr %sleepers seq_cst, align 8
  %some = icmp ne i64 %n, 0
  br i1 %some, label %call, label %done
call:
  ; FUTEX_WAKE_PRIVATE, all of them
  %woken = call i64 (i64, ...) @syscall(i64 {futex}, ptr %place, i32 129,
                                        i32 2147483647, ptr null, ptr null, i32 0)
  br label %done
done:
  ret void
}}

; Wake the threads that wait for jobs, for a small team that comes again and again, so
; that they share the next ones. Neither where one comes once in a while, nor where the
; machine has other things to do: there they would but fall asleep again.
define internal void @rouse(ptr %pool) noinline {{
  %clock = alloca [ 2 x i64 ]
  %error = call i32 @clock_gettime(i32 1, ptr %clock)  ; CLOCK_MONOTONIC
  %seconds = call i64 @word(ptr %clock, i64 0)
  %rest = call i64 @word(ptr %clock, i64 8)
  %whole = mul i64 %seconds, 1000000000
  %now = add i64 %whole, %rest
  %asked = call i64 @word(ptr %pool, i64 {ASKED})
  %asked.place = getelementptr i8, ptr %pool, i64 {ASKED}
  store i64 %now, ptr %asked.place
  %between = sub i64 %now, %asked
  %often = icmp slt i64 %between, {OFTEN}
  %roused = call i64 @word(ptr %pool, i64 {ROUSED})
  %since = sub i64 %now, %roused
  %seldom = icmp sgt i64 %since, {SELDOM}
  %due = and i1 %often, %seldom
  br i1 %due, label %ask, label %done
ask:
  %roused.place = getelementptr i8, ptr %pool, i64 {ROUSED}
  store i64 %now, ptr %roused.place
  %crowded = call i1 @is_crowded(ptr %pool)
  br i1 %crowded, label %done, label %call
call:
  %job = getelementptr i8, ptr %pool, i64 {JOB}
  call void @wake(ptr %job)
  br label %done
done:
  ret void
}}

define internal i1 @is_crowded(ptr %pool) noinline {{
entry:
  %text = alloca [ 64 x i8 ]
  %file = call i64 @word(ptr %pool, i64 {LOADS})
  %cores = call i64 @word(ptr %pool, i64 {CORES})
  %n = call i64 (i64, ...) @syscall(i64 {pread}, i64 %file, ptr %text, i64 64, i64 0)
  %read = icmp sgt i64 %n, 0
  br i1 %read, label %next, label %unknown

next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %more ]
  %running = phi i64 [ 0, %entry ], [ %number, %more ]
  %at = getelementptr i8, ptr %text, i64 %i
  %letter = load i8, ptr %at
  %is.end = icmp eq i8 %letter, 47  ; the slash
  br i1 %is.end, label %found, label %more

more:
  %is.space = icmp eq i8 %letter, 32
  %digit.short = sub i8 %letter, 48
  %digit = zext i8 %digit.short to i64
  %tens = mul i64 %running, 10
  %longer = add i64 %tens, %digit
  %number = select i1 %is.space, i64 0, i64 %longer
  %i.next = add i64 %i, 1
  %left = icmp slt i64 %i.next, %n
  br i1 %left, label %next, label %unknown

found:
  %crowded = icmp sgt i64 %running, %cores
  ret i1 %crowded

unknown:
  ret i1 true
}}
"""
# Elsewhere nobody is woken: a thread lets others run, and after a while it naps.
ELSEWHERE = """
declare void @{give_way}()
declare void @{nap}(i32)

define internal i1 @rest(ptr %place, i64 %seen, i64 %turn) noinline {{
  %patient = icmp slt i64 %turn, {PATIENCE}
  br i1 %patient, label %give.way, label %nap
give.way:
  call void @{give_way}()
  ret i1 false
nap:
  %sleepers = getelementptr i8, ptr %place, i64 8
  %more = atomicrmw add ptr %sleepers, i64 1 seq_cst
  call void @{nap}(i32 {moment})
  %fewer = atomicrmw sub ptr %sleepers, i64 1 seq_cst
  ret i1 false
}}

define internal void @wake(ptr %place) alwaysinline {{
  ret void
}}

define internal void @rouse(ptr %pool) alwaysinline {{
  ret void
}}

define internal i1 @is_crowded(ptr %pool) alwaysinline {{
  ret i1 true
}}
"""
# The numbers of system calls on Linux.
_CALLS = {
    "x86_64": {"futex": 202, "pread": 17},
    "aarch64": {"futex": 98, "pread": 67},
}

_PAUSE = {"x86_64": "pause", "aarch64": "yield", "arm64": "yield"}


def source(key: str = "", waits: str | None = None) -> str:
    """Return the driver in LLVM's language.

    key: ends the names of what Python calls. waits: "linux" or "elsewhere", how threads
    wait; None: as this machine does.
    """
    machine = native.target().triple.partition("-")[0]
    words: dict[str, object] = {
        name: value
        for module in (layout, entry)
        for name, value in vars(module).items()
        if isinstance(value, int)
    }
    words |= {"LOOK_MASK": layout.LOOK - 1, "pause": _PAUSE.get(machine, "")}
    words |= {name: f"{symbol}_{key}" for name, symbol in SYMBOLS.items()}
    if waits is None:
        linux = sys.platform == "linux" and machine in _CALLS
        waits = "linux" if linux else "elsewhere"
    if waits == "linux":
        rest = LINUX.format(**_CALLS[machine], **words)
    else:
        windows = sys.platform == "win32"
        give_way, nap = (
            ("SwitchToThread", "Sleep") if windows else ("sched_yield", "usleep")
        )
        moment = 1 if windows else 500
        rest = ELSEWHERE.format(give_way=give_way, nap=nap, moment=moment, **words)
    return TEXT.format(rest=rest, entry=entry.TEXT.format(**words), **words)


@cache
def addresses() -> dict[str, int]:
    """Return the addresses of `SYMBOLS`; the driver is compiled if no cache has it."""
    key = native.content_key("driver")

    def build() -> llvm.ModuleRef:
        module = unlocked.parse(source(key))
        module.triple = native.target().triple
        module.verify()
        native.optimize(module)
        return module

    native.load(key, f"{SYMBOLS['run']}_{key}", build, "driver")
    return {name: native.linked(f"{symbol}_{key}") for name, symbol in SYMBOLS.items()}
