"""What the package promises to keep."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import supervisors

PUBLIC = {
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
}
MODULES = sorted(Path(supervisors.__file__).parent.glob("*.py"))


def test_public_names_are_sorted() -> None:
    assert list(supervisors.__all__) == sorted(supervisors.__all__)


def test_public_names_exist() -> None:
    assert [name for name in supervisors.__all__ if not hasattr(supervisors, name)] == []


def test_public_names_are_these_and_no_others() -> None:
    assert set(supervisors.__all__) == PUBLIC


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_module_imports_the_standard_library_and_attrs_alone(path: Path) -> None:
    imported = set()
    for each in ast.walk(ast.parse(path.read_text())):
        if isinstance(each, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in each.names}
        elif isinstance(each, ast.ImportFrom) and each.module:
            imported.add(each.module.split(".")[0])

    assert imported - set(sys.stdlib_module_names) <= {"attrs", "supervisors"}


@pytest.mark.parametrize("name", supervisors.__all__ if hasattr(supervisors, "__all__") else [])
def test_public_class_or_function_is_documented(name: str) -> None:
    value = getattr(supervisors, name)

    if isinstance(value, type) or callable(value):
        assert value.__doc__
