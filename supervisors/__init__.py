"""An OTP for asyncio."""

from supervisors.child_spec import ChildSpec
from supervisors.dynamic_supervisor import DynamicSupervisor
from supervisors.errors import (
    ActorError,
    ActorExited,
    AlreadyStarted,
    CallTimeout,
    MailboxFull,
    NoProcess,
    NotFound,
    StartFailed,
)
from supervisors.exit import Crashed, ExitReason, Killed, NoProc, Normal, Shutdown, is_abnormal
from supervisors.gen_server import NO_REPLY, GenServer, StopServer, Task
from supervisors.introspection import TreeNode, tree
from supervisors.messages import Call, Cast, Down, Info
from supervisors.process import Monitor, Process, current_process
from supervisors.ref import ActorRef, Caller, Via
from supervisors.registry import Registry
from supervisors.supervisor import Supervisor, start
