"""An OTP for asyncio: actors, supervisors, registries, and the tools to look into them and to test them.

>>> import asyncio
>>> from attrs import frozen
>>> from supervisors import Call, Caller, Cast, ChildSpec, GenServer, Registry, Supervisor, start
>>> @frozen
... class Add(Cast):
...     amount: int
>>> @frozen
... class Total(Call[int]):
...     pass
>>> class Counter(GenServer[Add]):
...     def init(self) -> None:
...         self.total = 0
...
...     def handle_cast(self, message: Add) -> None:
...         self.total += message.amount
...
...     def handle_call(self, message: Total, caller: Caller[int]) -> int:
...         return self.total
>>> async def main() -> int:
...     registry = Registry()
...     children = [ChildSpec(id="counter", start=Counter, name="counter")]
...     root = await start(lambda: Supervisor(children), registry=registry)
...     counter = registry.via("counter")
...     counter.cast(Add(40))
...     counter.cast(Add(2))
...     total = await counter.call(Total())
...     await root.stop()
...     return total
>>> asyncio.run(main())
42

If the counter crashes, its supervisor makes a new one, with a fresh state and the same name; ``counter`` reaches it as before.

* :class:`GenServer` - an actor: one mailbox, one loop, one message at a time. :class:`Task` - a coroutine function as a child.
* :class:`Supervisor`, :class:`DynamicSupervisor`, :class:`TaskSupervisor` - start, stop and restart others; :func:`start` makes the root.
* :class:`ChildSpec`, :class:`Backoff` - how a child is started, stopped and restarted.
* :class:`ActorRef`, :class:`Via` - how to reach a process: one incarnation, or whoever has a name. :class:`Registry` - the names.
* :class:`Call`, :class:`Cast`, :class:`Info` - messages. :class:`Caller` - one call in progress.
* :class:`Normal`, :class:`Shutdown`, :class:`Killed`, :class:`Crashed`, :class:`NoProc` - why a process ended.
* :func:`run_blocking` - blocking work on a thread. :class:`LoopMonitor` - who holds the event loop up.
* :func:`tree`, :func:`get_state`, :func:`suspend`, :func:`trace` and their like - a look into a running tree;
  :func:`activity` - who is busy in it; :func:`stacks` - where its tasks are.
* :mod:`supervisors.testing` - a loop with virtual time, and what else tests need. :mod:`supervisors.events` - what observers are told.

Use a process to model what a program has at run time: state that changes, things that happen at once, parts that fail apart from each
other. Never use one to organise code: that is what modules and functions are for.
"""

from supervisors.blocking import abandoned_threads, run_blocking
from supervisors.caller import Caller
from supervisors.child_spec import ChildSpec
from supervisors.dynamic_supervisor import DynamicSupervisor
from supervisors.errors import (
    ActorError,
    ActorExited,
    AlreadyRegistered,
    BadReturn,
    CallTimeout,
    CircularCall,
    MailboxFull,
    NoProcess,
    StartError,
)
from supervisors.events import CrashReport, Event, Exited, GaveUp, LogObserver, Started
from supervisors.exit import Crashed, ExitReason, Killed, NoProc, Normal, Shutdown, is_abnormal
from supervisors.gen_server import GenServer, Task, Timer
from supervisors.introspection import (
    Activity,
    HandlerTime,
    TaskStack,
    Trace,
    TraceEvent,
    TreeNode,
    activity,
    dead_letters,
    get_state,
    get_status,
    measure_handlers,
    on_handled,
    processes,
    replace_state,
    resume,
    stacks,
    statistics,
    suspend,
    trace,
    tree,
)
from supervisors.loop_monitor import LoopLag, LoopMonitor
from supervisors.messages import Call, Cast, Down, Exit, Info, TimedOut
from supervisors.monitor import Monitor
from supervisors.process import Process, current_process
from supervisors.ref import ActorRef, Address, Via
from supervisors.registry import Entry, Registered, Registry, Unregistered
from supervisors.restart import Backoff
from supervisors.results import (
    AlreadyPresent,
    AlreadyStarted,
    ChildCounts,
    ChildInfo,
    Done,
    FailedToStartChild,
    Ignored,
    MaxChildren,
    NotFound,
    Restarting,
    Running,
    StartFailed,
)
from supervisors.returns import NO_REPLY, Continue, Ignore, Reply, Stop, Timeout
from supervisors.root import start
from supervisors.supervisor import Supervisor
from supervisors.task_supervisor import TaskHandle, TaskSupervisor

__all__ = [  # noqa: RUF022 - in plain order, which a reader can check
    "Activity",
    "ActorError",
    "ActorExited",
    "ActorRef",
    "Address",
    "AlreadyPresent",
    "AlreadyRegistered",
    "AlreadyStarted",
    "Backoff",
    "BadReturn",
    "Call",
    "CallTimeout",
    "Caller",
    "Cast",
    "ChildCounts",
    "ChildInfo",
    "ChildSpec",
    "CircularCall",
    "Continue",
    "CrashReport",
    "Crashed",
    "Done",
    "Down",
    "DynamicSupervisor",
    "Entry",
    "Event",
    "Exit",
    "ExitReason",
    "Exited",
    "FailedToStartChild",
    "GaveUp",
    "GenServer",
    "HandlerTime",
    "Ignore",
    "Ignored",
    "Info",
    "Killed",
    "LogObserver",
    "LoopLag",
    "LoopMonitor",
    "MailboxFull",
    "MaxChildren",
    "Monitor",
    "NO_REPLY",
    "NoProc",
    "NoProcess",
    "Normal",
    "NotFound",
    "Process",
    "Registered",
    "Registry",
    "Reply",
    "Restarting",
    "Running",
    "Shutdown",
    "StartError",
    "StartFailed",
    "Started",
    "Stop",
    "Supervisor",
    "Task",
    "TaskHandle",
    "TaskStack",
    "TaskSupervisor",
    "TimedOut",
    "Timeout",
    "Timer",
    "Trace",
    "TraceEvent",
    "TreeNode",
    "Unregistered",
    "Via",
    "abandoned_threads",
    "activity",
    "current_process",
    "dead_letters",
    "get_state",
    "get_status",
    "is_abnormal",
    "measure_handlers",
    "on_handled",
    "processes",
    "replace_state",
    "resume",
    "run_blocking",
    "stacks",
    "start",
    "statistics",
    "suspend",
    "trace",
    "tree",
]
