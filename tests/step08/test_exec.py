"""Step 8: exec places a new process into a running container, in all that confines it, with nothing of the host's."""

import json
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import host, strace
from tests.support.background import WAITING, background, output
from tests.support.explain import agree, events, explained, store
from tests.support.faults import REASONS, can_fail, failed_well, recorded, sample
from tests.support.fresh import Fresh
from tests.support.host import capabilities
from tests.support.runtime import Result, Runtime, Started, Word, probe
from tests.support.terminal import Terminal, sane, sleeping

OURS = pytest.mark.ours_alone("Podman words it differently")
ROOTS = pytest.mark.as_root("-u and limits are root's")


def start(runtime: Runtime, name: str, *command: Word, options: Sequence[Word] = (), **more: Any) -> Started:
    return runtime.popen([*runtime.command, "exec", *options, name, *command], **more)


def at_terminal(runtime: Runtime, name: str, *command: Word, under: Sequence[str] = ()) -> Terminal:
    words = [*under, *runtime.command, "exec", "-it", name, *command]
    terminal = Terminal(words, env=runtime.environment, cwd=runtime.directory, user=runtime.user)
    runtime.started.append(terminal)
    return terminal


def alone(name: str = "tail") -> None:
    """In the container there is PID 1 again and nobody else.

    A placed process whose runtime was killed is the worker's orphan, and no PID 1 ends while a dead one is unreaped.
    """

    def seen() -> bool:
        living = [process.name for process in host.contained()]
        host.reap()
        return living == [name]

    host.wait_until(seen, f"only {name} is left")


# ---- where it is placed ----------------------------------------------------------------------------------------------


def test_as_its_own_processes_see_it(runtime: Runtime, fresh: Fresh) -> None:
    """In its namespaces, cgroup and root, with its capabilities; but PID 1 is not its parent: nobody in there is."""
    script = """
        for name in cgroup ipc mnt net pid user uts; do readlink /proc/$1/ns/$name; done
        cat /proc/$1/cgroup; stat -L -c %d:%i /proc/$1/root/ /proc/$1/cwd/; grep -e ^Cap -e ^Sig /proc/$1/status
    """
    hostname = fresh.word()
    with background(runtime, "sleep", "600", options=["--hostname", hostname]) as name:
        of_exec, of_init = (output(runtime, name, "sh", "-c", script, "sh", pid) for pid in ("self", "1"))
        lines = [line for line in of_exec.splitlines() if not line.startswith(("SigQ", "SigBlk", "SigCgt"))]
        assert lines == [line for line in of_init.splitlines() if not line.startswith(("SigQ", "SigBlk", "SigCgt"))]
        assert len(lines) > 20
        assert os.readlink("/proc/self/ns/pid") not in lines
        assert capabilities(of_exec)["Eff"] == capabilities(of_init)["Eff"]
        assert output(runtime, name, "hostname") == hostname
        script = "grep ^PPid /proc/self/status; (sleep 600 >/dev/null 2>&1 & echo $!)"
        parent, orphan = output(
            runtime, name, "sh", "-c", f"exec 3</proc/$$/status; grep ^PPid <&3; {script}"
        ).splitlines()[::2]
        assert parent.split() == ["PPid:", "0"]
        assert output(runtime, name, "grep", "^PPid", f"/proc/{orphan}/status").split() == ["PPid:", "1"]


@pytest.mark.ours_alone("a record of ours")
def test_a_container_of_step_7(runtime: Runtime) -> None:
    """Its record says less: nothing of what later steps let `run` be told."""
    with background(runtime) as name:
        (place,) = Path(store(runtime), "containers").glob("*/config.json")
        noted = json.loads(place.read_text())
        later = {"env", "user", "workdir", "networks", "ip", "ports"}
        place.write_text(json.dumps({key: value for key, value in noted.items() if key not in later}))
        assert output(runtime, name, "pwd") == "/"


@pytest.mark.ours_alone("between Podman and its process is conmon")
def test_outside_it_is_a_child_of_the_runtime(runtime: Runtime) -> None:
    with background(runtime) as name:
        started = start(runtime, name, "sleep", "600")
        host.wait_until(lambda: "sleep" in {process.name for process in host.contained()}, "it runs")
        (placed,) = (process for process in host.contained() if process.name == "sleep")
        assert placed.parent == started.pid
        started.send_signal(signal.SIGTERM)
        assert started.end().code == 143
        alone()


def test_nothing_of_the_caller_comes_along(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    own = fresh.number(3, 900)
    folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with background(runtime, options=["--hostname", "box"]) as name:
            for options in ([], ["-i"], ["-t"]):
                ask = (*probe("descriptors"), str(own))
                told = output(runtime, name, *ask, options=options, pass_fds=(folder,), cwd=tmp_path)
                assert json.loads(told) == [0, 1, 2, own]
            script = "umask; pwd; env; readlink /proc/self/cwd; cat"
            umask, cwd, *env = output(runtime, name, "sh", "-c", script, umask=0o077, input=b"typed").splitlines()
            assert (umask, cwd, env[-1]) == ("0022", "/", "/")
            names = {line.partition("=")[0] for line in env[:-1]}
            assert names - {"container", "TERM", "SHLVL", "PWD", "OLDPWD"} == {"PATH", "HOME", "HOSTNAME"}
            status = output(runtime, name, "cat", "/proc/self/status", under=["nohup"])
            assert "SigIgn:\t0000000000000000" in status.replace("80000000", "00000000")
    finally:
        os.close(folder)


@pytest.mark.ours_alone("runc runs from a copy of itself, which may be seen")
def test_cve_2019_5736_nothing_of_the_host_is_seen_through_it(runtime: Runtime) -> None:
    """What is not yet the container's program showed in /proc who it was: runc, open for writing by /proc/PID/exe; and
    what it had open, a directory of the host's (CVE-2016-9962). Ours is undumpable before it comes in."""
    with background(runtime) as name:
        watch = start(runtime, name, *probe("exec_watch"))
        assert watch.line() == "ready"
        for _ in range(6):
            assert output(runtime, name, "true") == ""
        output(runtime, name, "touch", "/stop")
        refused, reached = json.loads(watch.end().text)
        assert reached == []
        assert refused > 0, "it has seen none come"


@ROOTS
@pytest.mark.parametrize("trap", ["/proc/self/exe", "/proc/self/fd/0", "/proc/kmsg"])
def test_cve_2019_5736_nothing_of_the_host_is_opened_for_it(runtime: Runtime, tmp_path: Path, trap: str) -> None:
    """A container makes of its /dev/null a link to the one who opens it as standard input: the host's Python, what the
    caller did not give (without -i), the kernel's log, which root alone may open. It is given the null device, or else
    an empty pipe."""
    (tmp_path / "secret").write_text("secret of the host")
    with background(runtime) as name, (tmp_path / "secret").open() as secret:
        output(runtime, name, "sh", "-c", f"rm /dev/null; ln -s {trap} /dev/null")
        seen = output(runtime, name, "readlink", "/proc/self/fd/0", stdin=secret)
        assert re.fullmatch(r"/dev/null|pipe:\[\d+\]", seen)


@pytest.mark.ours_alone("another program, and no way to look into it")
@pytest.mark.as_root("others may not look into an undumpable process, strace as little as the container")
@pytest.mark.parametrize("options", [[], ["-t", "-u", "alice"]], ids=["", "-t"])
def test_cve_2025_52881_nothing_is_written_to_proc(runtime: Runtime, trace: Path, options: list[str]) -> None:
    """The container has had time to redirect paths of its /proc, as far as a container can. runc wrote labels there;
    once ours has joined, it writes to no file of /proc or /sys. Its cgroup it has entered before."""
    with background(runtime) as name:
        words = [*runtime.command, "exec", *options, name, "true"]
        assert runtime.popen(words, under=strace.recording(trace)).end().code == 0
    assert [path for path in strace.opened_to_write(trace, "setns") if path.startswith(("/proc", "/sys"))] == []


# ---- what it is given ------------------------------------------------------------------------------------------------


@ROOTS
def test_user_and_directory(runtime: Runtime) -> None:
    ask = ("sh", "-c", "id -u; id -g; pwd; echo $HOME")
    with background(runtime, options=["-u", "alice", "-w", "/tmp"]) as name:
        assert output(runtime, name, *ask).split() == ["1000", "1000", "/tmp", "/home/alice"]
        options = ["-u", "bob:staff", "-w", "/home"]
        assert output(runtime, name, *ask, options=options).split() == ["1001", "50", "/home", "/home/bob"]
        assert output(runtime, name, *ask, options=["-u", "0"]).split() == ["0", "0", "/tmp", "/root"]
        for wrong, code in ((["-u", "nobody-here"], 125), (["-w", "/none"], 126)):
            result = runtime.call("exec", *wrong, name, "true")
            said = runtime.refusal(result, code if not runtime.podman else result.code)
            assert result.code != 0 and wrong[1].strip("/") in said
        assert output(runtime, name, "ls", "/").split().count("none") == 0


def test_streams(runtime: Runtime, fresh: Fresh) -> None:
    typed, error, code = fresh.bytes(5000), fresh.word(), fresh.number(1, 124)
    with background(runtime) as name:
        script = f"cat; echo {error} >&2; exit {code}"
        result = runtime.call("exec", "-i", name, "sh", "-c", script, input=typed)
        assert (result.code, result.out, result.err.decode()) == (code, typed, f"{error}\n")
        assert runtime.call("exec", name, "cat", input=b"in") == Result(0, b"", b"")
        assert runtime.call("exec", name, "head", "-c", "3000000", "/dev/zero").out == bytes(3_000_000)
        if not runtime.podman:
            assert runtime.call("logs", name).out == b"", "what comes of an exec is not in the container's log"
            for closed in ("0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"):
                under = ("sh", "-c", f'exec "$@" {closed}', "sh")
                result = runtime.call("exec", name, "sh", "-c", "echo hi; exit 3", under=under)
                assert (result.code, result.out) == (3, b"" if "1>" in closed else b"hi\n")


@ROOTS
@pytest.mark.v2
def test_the_limits_count_it(runtime: Runtime) -> None:
    with background(runtime, options=["--pids-limit", "20", "-m", "150m"]) as name:
        big = runtime.call("exec", name, "python3", "-I", "-S", "-c", "b'x' * 400_000_000")
        assert big.code == 137
        (runtime.directory / "oom").unlink(missing_ok=True)  # a note of Podman's
        number, refusal = json.loads(output(runtime, name, *probe("processes"), "processes"))
        # last, as its children stay behind, dead, and PID 1 does not reap
        assert refusal == "EAGAIN" and number <= 19


# ---- its end, and the container's ------------------------------------------------------------------------------------


def test_exit_codes(runtime: Runtime, fresh: Fresh) -> None:
    code, missing = fresh.number(1, 124), fresh.word()
    codes = {
        ("true",): 0,
        ("sh", "-c", f"exit {code}"): code,
        (missing,): 127,
        ("/etc",): 126,
        ("sh", "-c", "kill -9 $$"): 137,
        ("sh", "-c", "kill -TERM $$"): 143,
    }
    with background(runtime) as name:
        found = {command: runtime.call("exec", name, *command) for command in codes}
        assert {command: result.code for command, result in found.items()} == codes
        assert missing in runtime.refusal(found[missing,], 127)
        assert "/etc" in runtime.refusal(found["/etc",], 126)
        assert runtime.call("exec", "--no-such-option", name, "true").code == 125


def test_it_ends_with_the_container_and_then_there_is_no_way_in(runtime: Runtime) -> None:
    with background(runtime) as name:
        started = start(runtime, name, "sh", "-c", "trap '' TERM HUP; echo ready; while :; do sleep 0.1; done")
        assert started.line() == "ready"
        assert len(host.contained()) >= 2
        assert runtime.call("kill", name).code == 0
        assert started.end().code == 137
        result = runtime.call("exec", name, "true")
        assert result.code != 0 if runtime.podman else "not running" in runtime.refusal(result)


@OURS
def test_in_the_moment_of_its_end(runtime: Runtime) -> None:
    """PID 1 is dead, and its monitor (which stands still here) has not noted it."""
    with background(runtime) as name:
        init = host.init()
        (monitor,) = (process for process in host.descendants() if process.pid == init.parent)
        monitor.signal(signal.SIGSTOP)
        init.signal(signal.SIGKILL)
        assert "ended" in runtime.refusal(runtime.call("exec", name, "true"))
        monitor.signal(signal.SIGCONT)


@OURS
def test_which_container(runtime: Runtime) -> None:
    with background(runtime) as one:
        assert one in runtime.refusal(runtime.call("exec", f"{one}x", "true"))
        assert "no such container" in runtime.refusal(runtime.call("exec", "", "true"))
        assert "-w 'etc'" in runtime.refusal(runtime.call("exec", "-w", "etc", one, "true"))
        own = runtime.call("inspect", one)
        assert output(runtime, json.loads(own.out)[0]["Id"][:8], "echo", "hi") == "hi"
        identities = {}
        for _ in range(40):  # until two ids begin alike: with 16 first digits that is soon
            made = runtime.call("run", "-d", *(["--network", "none"] if runtime.step >= 9 else []), "test", "true")
            first = made.text[:1]
            if first in identities:
                break
            identities[first] = made.text
        try:
            assert "several containers" in runtime.refusal(runtime.call("exec", first, "true"))
        finally:
            runtime.call("rm", "-f", *identities.values(), made.text)


@pytest.mark.ours_alone("Podman does not forward them")
@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1"])
def test_signals_are_forwarded(runtime: Runtime, name: str, fresh: Fresh) -> None:
    code = fresh.number(1, 100)
    with background(runtime) as box:
        script = f"trap 'echo got {name}; exit {code}' {name}; echo ready; while :; do sleep 0.1; done"
        started = start(runtime, box, "sh", "-c", script)
        assert started.line() == "ready"
        started.send_signal(signal.Signals[f"SIG{name}"])
        result = started.end()
        assert (result.code, result.text) == (code, f"got {name}")


@pytest.mark.ours_alone("what Podman has placed outlives it")
def test_it_ends_with_the_runtime_and_the_container_does_not(runtime: Runtime) -> None:
    with background(runtime) as name:
        started = start(runtime, name, "sh", "-c", "echo ready; exec sleep 600")
        assert started.line() == "ready"
        started.kill()
        started.wait()
        alone()
        assert output(runtime, name, "echo", "alive") == "alive"


@pytest.mark.long
@pytest.mark.ours_alone("a measure of our own")
@pytest.mark.as_root("as root is as good")
def test_twenty_at_once(runtime: Runtime, fresh: Fresh) -> None:
    with background(runtime) as name:
        given = [(fresh.number(0, 124), fresh.word()) for _ in range(20)]
        started = [start(runtime, name, "sh", "-c", f"echo {word}; exit {code}") for code, word in given]
        assert [(each.code, each.text) for each in (one.end() for one in started)] == given
        alone()


# ---- at a terminal ---------------------------------------------------------------------------------------------------


def test_a_shell_is_as_good_as_that_of_run(runtime: Runtime) -> None:
    """Job control, Ctrl-C, the window's size, the exit code."""
    with background(runtime) as name:
        terminal = at_terminal(runtime, name, "sh")
        terminal.send("PS1=; tty; echo in the $((1))st place\r")
        terminal.expect("/dev/pts/0\r\n.*in the 1st place\r\n")
        runtime.settle()
        terminal.resize(50, 132)
        terminal.send_signal(signal.SIGWINCH)
        terminal.send("sleep 0.3; stty size\r")
        terminal.expect("50 132\r\n")
        terminal.send("sleep 60\r")
        sleeping("S")
        terminal.send("\x1a")
        terminal.expect("Stopped")
        sleeping("T")
        terminal.send("fg\r")
        sleeping("S")
        terminal.send("\x03")
        sleeping("")
        terminal.send("exit 5\r")
        assert terminal.end() == 5
        assert b"job control" not in terminal.seen
        sane(terminal)
        alone()


@pytest.mark.ours_alone("what Podman has placed outlives its terminal")
def test_closing_the_window_ends_the_shell_alone(runtime: Runtime) -> None:
    with background(runtime) as name:
        terminal = at_terminal(runtime, name, "sh", "-c", "trap '' HUP; echo ready; while :; do sleep 1; done")
        terminal.expect("ready\r\n")
        terminal.close()
        alone()
        assert output(runtime, name, "echo", "alive") == "alive"


@OURS
def test_it_needs_a_terminal_to_read_from(runtime: Runtime) -> None:
    assert "terminal" in runtime.refusal(runtime.call("exec", "-it", "none", "true", input=b""))


# ---- what may go wrong -----------------------------------------------------------------------------------------------


@pytest.mark.ours_alone("what Podman makes of such a container is its own affair")
@pytest.mark.as_root("without root, /dev/null is a mount that nobody inside can remove")
def test_a_container_full_of_traps(runtime: Runtime) -> None:
    """The runtime reads and opens files of a container that has had time to prepare: none may keep it waiting."""
    with background(runtime) as name:
        script = "cd $1; for file; do rm -f $file; mkfifo $file; done"
        output(runtime, name, "sh", "-c", script, "sh", "/dev/null", "/dev/ptmx", "/etc/passwd", "/etc/group")
        assert output(runtime, name, "echo", "hi") == "hi"
        assert output(runtime, name, "cat") == ""
        runtime.refusal(runtime.call("exec", "-t", name, "true"))
        output(runtime, name, "sh", "-c", "rm /dev/null /etc/passwd; ln -s /etc/passwd /etc; ln -s null /dev/null")
        runtime.refusal(runtime.call("exec", name, "true"))


@OURS
def test_a_script_that_is_its_own_interpreter(runtime: Runtime) -> None:
    """The kernel follows some, and gives up."""
    with background(runtime) as name:
        output(runtime, name, "sh", "-c", "echo '#!/tmp/again' > /tmp/again; chmod +x /tmp/again")
        assert "/tmp/again" in runtime.refusal(runtime.call("exec", name, "/tmp/again"), 126)


@pytest.mark.ours_alone("another store")
@pytest.mark.as_root("as root is as good")
def test_a_container_of_the_step_before(runtime: Runtime) -> None:
    if runtime.name != "step08_exec":
        pytest.skip("its predecessor is step 7")
    before = [word if word != "step08_exec" else "step07_detach" for word in runtime.command]
    made = runtime.popen([*before, "run", "-d", "test", *WAITING]).end()
    assert made.code == 0
    try:
        assert output(runtime, made.text, "echo", "hi") == "hi"
        assert runtime.call("inspect", made.text).code == 0
    finally:
        runtime.call("rm", "-f", made.text)


@pytest.mark.ours_alone("Podman has no --explain")
@pytest.mark.as_root("others may not look into an undumpable process, strace as little as the container")
@pytest.mark.parametrize("options", [[], ["-t", "-w", "/tmp"]], ids=["", "-t"])
def test_explain_tells_the_truth(runtime: Runtime, trace: Path, options: list[str]) -> None:
    with background(runtime) as name:
        words = [*runtime.command, "exec", "--explain", *options, name, "true"]
        result = runtime.popen(words, under=strace.recording(trace)).end()
        assert result.code == 0
        found = events(trace, store(runtime))
        agree(found)
        lines = explained(result)
        assert lines == [f"[{event.who}] {event.text}\n" for event in found if event.who]
        assert sum("setns(" in line for line in lines) == 2, "the cgroup namespace last, in the child"


@pytest.mark.long
@pytest.mark.ours_alone("what breaks our runtime is of no interest in Podman")
@pytest.mark.parametrize("fault", ["signal=KILL", "signal=TERM", "error"])
@pytest.mark.parametrize("where", ["outside", "in the helper"])
def test_at_any_call(runtime: Runtime, trace: Path, fault: str, where: str) -> None:
    """Killed, told to end, a call that fails: one line at most, no hang, nobody is left in the container."""
    with background(runtime) as name:
        words = [*runtime.command, "exec", "-t", name, "true"]
        moments = [point for point in recorded(runtime, trace, words) if point.inside == (where != "outside")]
        if fault == "error":
            moments = [point for point in moments if can_fail(point)]
        for point in sample(moments, 3 if runtime.rootless else 6, f"{runtime.step} {fault} {where}"):
            what = f"error={REASONS.get(point.call.name, 'EPERM')}" if fault == "error" else fault
            result = runtime.popen(words, under=point.sabotage(what)).end()
            if result.code in (137, 143) and fault != "error":
                assert result.out + result.err == b"", point
            elif result.code != 0:
                failed_well(runtime, result, point)
            alone()
        assert output(runtime, name, "echo", "alive") == "alive"
