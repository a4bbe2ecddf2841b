"""An OTP for asyncio."""

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
    TreeNode,
    dead_letters,
    get_state,
    get_status,
    replace_state,
    resume,
    statistics,
    suspend,
    trace,
    tree,
)
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
    "Ignore",
    "Ignored",
    "Info",
    "Killed",
    "LogObserver",
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
    "TaskSupervisor",
    "TimedOut",
    "Timeout",
    "Timer",
    "TreeNode",
    "Unregistered",
    "Via",
    "current_process",
    "dead_letters",
    "get_state",
    "get_status",
    "is_abnormal",
    "replace_state",
    "resume",
    "start",
    "statistics",
    "suspend",
    "trace",
    "tree",
]
