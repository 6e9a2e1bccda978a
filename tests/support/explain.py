"""Compare the lines of --explain with strace(1) of the same run: see step01/test_explain.py."""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import strace
from tests.support.runtime import Result, Runtime, Word

COVERED = """
    clone clone3 mount umount2 pivot_root chroot chdir mkdir rmdir mknod symlink rename sethostname prctl close_range
    unshare capset setgroups setresuid setresgid setns ioctl execve write open_tree mount_setattr move_mount
""".split()
BEFORE = ("execve(", "echo ", "ip ")
LINE = re.compile(r"\[(\w+)\] (.*)\n")


def standard(call: strace.Call) -> tuple[str, str]:
    """Return a call's name and arguments in one form: a C library may use mkdir(2), or mkdirat(2) with AT_FDCWD."""
    here = r"AT_FDCWD(?:<[^>]*>)?, "
    if call.name in ("mkdirat", "mknodat", "symlinkat", "renameat", "renameat2"):
        return call.name.partition("at")[0], re.sub(rf"{here}|, 0$", "", call.arguments)
    if call.name == "unlinkat" and call.arguments.endswith(", AT_REMOVEDIR"):
        return "rmdir", re.sub(rf"{here}|, AT_REMOVEDIR$", "", call.arguments)
    arguments = re.sub(r"^(\d+|AT_FDCWD)<[^>]*>", r"\1", call.arguments)  # a descriptor without its path
    if call.name == "move_mount":  # it has two
        arguments = re.sub(r", AT_FDCWD<[^>]*>", ", AT_FDCWD", arguments)
    return call.name, arguments.replace(" /* MS_??? */", "")  # which strace makes of no flags at all


def told(call: strace.Call) -> str:
    """Return the line that --explain must print for this call."""
    name, arguments = standard(call)
    if name == "write":
        return f"echo {written(call)} > {call.path}"
    if "SIOCSIFFLAGS" in arguments:
        return "ip link set lo up"
    result = re.sub(r"^(\d+)<.*>$", r"\1", call.result)
    return f"execve({arguments})" if name == "execve" else f"{name}({arguments}) = {result}"


def written(call: strace.Call) -> str:
    """Return the text that a write(2) writes."""
    data = re.fullmatch(r'\d+(?:<.*?>)?, "(.*)", \d+', call.arguments)
    return data[1].encode().decode("unicode_escape") if data else ""


def owed(call: strace.Call, store: str) -> bool:
    """Whether --explain must print a line for this call."""
    name, arguments = standard(call)
    match name:
        case "write":  # the kernel's files; not the store's, a channel, a terminal
            return re.match(r"/sys/fs/cgroup/|/proc/\d+/(uid_map|gid_map|setgroups)", call.path) is not None
        case "ioctl":
            return "SIOCSIFFLAGS" in arguments or "TIOCSCTTY" in arguments
        case "prctl":
            return re.match("PR_SET_PDEATHSIG|PR_CAPBSET_DROP|PR_SET_DUMPABLE", arguments) is not None
        case "clone" | "clone3":  # not fork(2) by the C library: a helper, such as gives the caller's terminal back
            return "CLONE_CHILD_SETTID" not in arguments and "CLONE_VM" not in arguments
        case "rmdir" if call.result.startswith("-1"):  # a cgroup that was not empty yet: it is tried again
            return False
        case "mkdir" | "rmdir" | "symlink" | "rename":  # not how the store keeps its files, and Python its bytecode
            return f'"{store}' not in arguments and "__pycache__" not in call.path
    return name in COVERED


@dataclass(frozen=True)
class Event:
    """A line of --explain by the process `who`; or, if `who` is empty, a system call."""

    pid: int
    who: str
    text: str


def events(trace: Path, store: str) -> list[Event]:
    """Return the lines of --explain, and the calls that must have a line or have one, in the order that strace saw.

    These are the calls of the runtime, and of each child that it clones, until the child executes the command; or until
    it calls chroot to unpack an archive, which makes thousands of calls without interest.
    """
    first, *calls = strace.calls(trace)
    lines = [(call, LINE.fullmatch(written(call)) if call.name == "write" else None) for call in calls]
    have_one = {(call.pid, line[2]) for call, line in lines if line}
    watched, unpacking = {first.pid}, set[int]()
    found = []
    for call, line in lines:
        if line:
            found.append(Event(call.pid, line[1], line[2]))
        elif call.pid in watched and (owed(call, store) or (call.pid, told(call)) in have_one):
            if call.pid in unpacking and call.name != "chdir":
                continue
            found.append(Event(call.pid, "", told(call)))
            if call.name in ("clone", "clone3") and call.result.isdecimal():
                watched.add(int(call.result))
            elif call.name == "execve" and call.result == "0":
                watched.remove(call.pid)
            elif call.name == "chroot":
                unpacking.add(call.pid)
    return found


def disagreements(found: Sequence[Event]) -> Iterator[str]:
    """Yield where --explain and strace disagree."""
    calls = [f"{event.pid} {event.text}" for event in found if not event.who]
    lines = [f"{event.pid} {event.text}" for event in found if event.who]
    yield from difflib.unified_diff(calls, lines, "what strace saw", "what --explain told", lineterm="", n=1)
    names = {(event.pid, event.who) for event in found if event.who}
    if len({pid for pid, _ in names}) != len(names):
        yield f"one process told under two names: {names}"
    if calls == lines:
        for one, other in zip(found[::2], found[1::2], strict=True):
            if one.text != other.text or bool(one.who) != one.text.startswith(BEFORE):
                yield f"not told when it was done: {one.text}"


def agree(found: Sequence[Event]) -> None:
    told_wrong = list(disagreements(found))
    assert not told_wrong, "\n".join(["--explain and strace disagree", *told_wrong])


def store(runtime: Runtime) -> str:
    return runtime.environment["MYDOCKER_ROOT"]


def explained(result: Result) -> list[str]:
    """Return the lines of --explain on standard error. There must be no other lines."""
    lines = result.err.decode().splitlines(keepends=True)
    assert all(map(LINE.fullmatch, lines)), result.err.decode()
    return lines


def watched_run(runtime: Runtime, trace: Path, *command: Word, options: Sequence[Word] = (), **more: Any) -> Result:
    result = runtime.run(*command, options=["--explain", *options], under=strace.recording(trace), **more)
    found = events(trace, store(runtime))
    agree(found)
    assert [f"[{event.who}] {event.text}\n" for event in found if event.who] == explained(result)
    return result
