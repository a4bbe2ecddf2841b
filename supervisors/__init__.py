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
from supervisors.events import Restarting as RestartingEvent
from supervisors.exit import Crashed, ExitReason, Killed, NoProc, Normal, Shutdown, is_abnormal
from supervisors.gen_server import GenServer, Task, Timer
from supervisors.introspection import TreeNode, dead_letters, tree
from supervisors.messages import Call, Cast, Down, Exit, Info, TimedOut
from supervisors.process import Monitor, Process, current_process
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
