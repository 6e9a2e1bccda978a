"""Start a new process in the namespaces of a running container: setns(2).

    runtime ── fork ───► a helper: joins the container's namespaces. But it stays outside of the PID namespace: only
       │                 its children will be in it. So it makes a child:
       │                     clone3(CLONE_PARENT) ──► the new process: a child of the runtime, not of the helper, so
       │                                              that the runtime learns its exit code
       │ ◄────────────── its PID; then the helper ends
       │ go ────────────────────────────────────────► as in `run`: capabilities, user, execve

The container's processes see the new process in their /proc. Until its execve(2), /proc/PID/exe is the host's Python. A
process that could open this file for writing would control the host (CVE-2019-5736, found in runc). Two things protect
us:

- The helper makes itself undumpable before it joins, and its child inherits this. Then the kernel lets a process look
  into /proc/PID only with CAP_SYS_PTRACE in the helper's user namespace: ptrace(2), "Ptrace access mode checking".
- execve(2) makes the process dumpable again. So program.refuse_ourselves refuses a program that leads to our Python,
  such as a script with the first line `#!/proc/self/exe`. A process inside may replace the program after this check.
  Then one protection is left: the kernel does not let anybody write to a file while it is executed.

runc executes a sealed copy of itself instead. For our Python that would double the time of each start.
"""

import os
import socket
from contextlib import ExitStack, closing
from dataclasses import fields
from functools import partial

from . import cgroups, init, namespaces
from .cgroups import Cgroup
from .cgroups.limits import Limits
from .child import Child, do, guarded, start
from .config import Config
from .container import attend, signals_forwarded, wait_for_exec
from .lib import explain, linux
from .lib.errors import ContainerError, sentence
from .lib.linux import CLONE, PR
from .records import process
from .records.record import Record


def run(record: Record, config: Config) -> int:
    """Run a command in a running container until it ends. Returns its exit code; raises ContainerError if it failed."""
    ended = ContainerError(f"{config.name}: it has just ended")
    with ExitStack() as cleanup:
        if not record.running:
            raise ContainerError(f"{record.name}: it is not running")
        if (target := process.open_noted(record.state)) is None:
            raise ended
        cleanup.callback(os.close, target)
        try:
            cgroup = cleanup.enter_context(cgroups.existing(record.id))
            child = cleanup.enter_context(closing(joined(config, target, cgroup)))
            cleanup.enter_context(guarded(child.kill, needs=child.pidfd))
            cleanup.enter_context(signals_forwarded(child))
            child.go()
            master = wait_for_exec(child)
        except (FileNotFoundError, ProcessLookupError):
            raise ended from None
        return attend(child, master, config.interactive, log=lambda output: None)


def config_of(record: Record) -> Config:
    """Return the container's config as `run` got it. A container made by an earlier step has fewer fields on record."""
    known = {"workdir": "/", "user": "0", "env": {}, "entrypoint": None} | record.config
    known |= {"limits": Limits(**known["limits"]), "volumes": []}
    return Config(**{field.name: known[field.name] for field in fields(Config)})


def joined(config: Config, target: int, cgroup: Cgroup) -> Child:
    """Start a child in the namespaces of `target` (a pidfd) and in the cgroup. The child waits for "go"."""
    with closing(start(partial(join, config, target, cgroup), who="helper")) as helper:
        helper.go()
        news = helper.hear()
        if news is None:
            raise ContainerError("the process that joins the container was killed")
        pid = int(news[0])
        return Child(pid, os.pidfd_open(pid), helper.channel.dup())


def join(config: Config, target: int, cgroup: Cgroup, channel: socket.socket) -> int:
    """In the helper: join the namespaces, start a child there, return its PID."""
    linux.prctl(PR.PR_SET_DUMPABLE, 0, "SUID_DUMP_DISABLE")
    cgroup.enter()
    try:
        linux.setns(target, namespaces.flags())
        pid = linux.clone(CLONE.CLONE_PARENT, cgroup.birthplace)
    except OSError as error:
        raise ContainerError(f"the container cannot be joined, perhaps it has just ended: {sentence(error)}") from None
    if pid == 0:
        explain.set_process_name("init")
        do(partial(inside, config, target), channel)
    return pid


def inside(config: Config, target: int, channel: socket.socket) -> None:
    """In the child: become the command. The namespaces are the container's, which are set up already."""
    linux.setns(target, CLONE.CLONE_NEWCGROUP)  # only now: clone3 needs a cgroup that its caller can see
    init.forget_the_caller(channel)
    init.connect_streams(config, channel)
    init.become(config, make_workdir=False)
