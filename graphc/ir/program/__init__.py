"""Programs: loop nests over buffers, the level where all backends meet."""

from graphc.ir.program.program import Barrier as Barrier
from graphc.ir.program.program import Buffer as Buffer
from graphc.ir.program.program import Call as Call
from graphc.ir.program.program import If as If
from graphc.ir.program.program import Loop as Loop
from graphc.ir.program.program import LoopAxis as LoopAxis
from graphc.ir.program.program import Nest as Nest
from graphc.ir.program.program import Phase as Phase
from graphc.ir.program.program import Program as Program
from graphc.ir.program.program import Reduce as Reduce
from graphc.ir.program.program import Region as Region
from graphc.ir.program.program import Schedule as Schedule
from graphc.ir.program.program import Space as Space
from graphc.ir.program.program import Statement as Statement
from graphc.ir.program.program import Store as Store
from graphc.ir.program.program import Task as Task
from graphc.ir.program.program import While as While
