"""`-t`: a terminal inside, and the caller's own given back as it was, whatever happens."""

import os
import resource
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from tests.support import host
from tests.support.fresh import Fresh
from tests.support.runtime import Runtime
from tests.support.terminal import Terminal, sane, sleeping


def shell(runtime: Runtime) -> Terminal:
    terminal = runtime.terminal("sh")
    terminal.send("PS1=; echo in the $((1))st place\r")
    terminal.expect("in the 1st place\r\n")
    return terminal


# ---- inside ----------------------------------------------------------------------------------------------------------


def test_it_is_the_first_terminal_of_the_containers_own(runtime: Runtime) -> None:
    terminal = runtime.terminal("tty")
    assert terminal.end() == 0
    assert terminal.seen == b"/dev/pts/0\r\n"


@pytest.mark.step(3)
@pytest.mark.as_root("without root the group is not there")
def test_it_belongs_to_the_group_of_terminals(runtime: Runtime) -> None:
    """5, `tty`, on every distribution: write(1) and wall(1) have it."""
    terminal = runtime.terminal("stat", "-c", "%u:%g %a", "/dev/pts/0")
    assert terminal.end() == 0
    assert terminal.seen == b"0:5 620\r\n"


@pytest.mark.parametrize("options", [("-it",), ("-i", "-t"), ("-t",), ("--interactive", "--tty")])
def test_all_three_streams_are_the_terminal(runtime: Runtime, options: tuple[str, ...]) -> None:
    terminal = runtime.terminal("sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo yes", options=options)
    assert terminal.end() == 0
    assert terminal.seen.split() == [b"yes"]  # with -t alone there may be two carriage returns: one of each terminal


def test_what_is_typed_arrives_and_is_echoed_once(runtime: Runtime, fresh: Fresh) -> None:
    words = f"{fresh.word()} {fresh.word()}"
    terminal = runtime.terminal("sh", "-c", "echo ready; read line; echo got $line")
    terminal.expect("ready\r\n")
    terminal.send(f"{words}\r")
    assert terminal.end() == 0
    assert terminal.seen == f"{words}\r\ngot {words}\r\n".encode()


def test_the_exit_code_passes(runtime: Runtime, fresh: Fresh) -> None:
    code = fresh.number(1, 124)
    assert runtime.terminal("sh", "-c", f"exit {code}").end() == code


def test_nothing_of_the_output_is_lost_at_the_end(runtime: Runtime) -> None:
    script = "import os; os.write(1, b'x' * 1_000_000 + b'end')"
    terminal = runtime.terminal("python3", "-c", script)
    assert terminal.end() == 0
    assert len(terminal.seen) == 1_000_003


def test_a_burst_of_keys_is_not_lost(runtime: Runtime) -> None:
    terminal = runtime.terminal("sh", "-c", "stty raw -echo; echo ready; head -c 100000 | wc -c; stty sane")
    terminal.expect("ready")
    terminal.send(b"k" * 100_000)
    terminal.expect("100000")
    assert terminal.end() == 0


@pytest.mark.long
@pytest.mark.parametrize("more", [0, 1000])
def test_keys_that_nobody_reads_do_not_hold_up_the_output(runtime: Runtime, more: int) -> None:
    terminal = runtime.terminal("sh", "-c", "stty raw -echo; echo ready; sleep 2; echo later; sleep 60")
    terminal.expect("ready")
    terminal.send(b"k" * more)
    time.sleep(0.1)
    for _ in range(15):
        with suppress(BlockingIOError):  # as many as there is room for
            os.write(terminal.master, b"k" * 10_000)
        time.sleep(0.05)
    terminal.expect("later")


# ---- the shell -------------------------------------------------------------------------------------------------------


def test_a_shell_has_job_control(runtime: Runtime) -> None:
    terminal = shell(runtime)
    terminal.send("sleep 60\r")
    sleeping("S")
    terminal.send("\x1a")
    terminal.expect("Stopped")
    sleeping("T")
    terminal.send("fg\r")
    sleeping("S")
    terminal.send("\x03")
    sleeping("")
    terminal.send("echo $((6 * 7))\r")
    terminal.expect("42\r\n")
    terminal.send("exit 5\r")
    assert terminal.end() == 5


def test_a_shell_has_nothing_to_complain_of(runtime: Runtime) -> None:
    terminal = runtime.terminal("sh")
    terminal.send("exit\r")
    assert terminal.end() == 0
    assert b"job control" not in terminal.seen and b"tty" not in terminal.seen


def test_ctrl_c_stops_the_program_inside_and_not_the_runtime(runtime: Runtime) -> None:
    terminal = shell(runtime)
    terminal.send("sleep 60; echo code $?\r")
    sleeping("S")
    terminal.send("\x03")
    sleeping("")
    terminal.send("echo alive\r")
    terminal.expect("alive\r\n")
    terminal.send("\x04")
    terminal.end()


# ---- the window ------------------------------------------------------------------------------------------------------


def test_the_size_of_the_window(runtime: Runtime, fresh: Fresh) -> None:
    rows, columns = fresh.number(10, 99), fresh.number(30, 300)
    terminal = runtime.terminal("sh", "-c", "sleep 0.2; stty size", rows=rows, columns=columns)
    assert terminal.end() == 0
    assert terminal.seen == f"{rows} {columns}\r\n".encode()


def test_the_size_follows(runtime: Runtime, fresh: Fresh) -> None:
    rows, columns = fresh.number(10, 99), fresh.number(100, 300)
    terminal = runtime.terminal("sh", "-c", "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done")
    terminal.expect("ready\r\n")
    runtime.settle()
    terminal.resize(rows, columns)
    terminal.send_signal(signal.SIGWINCH)  # as the kernel does to the foreground
    terminal.expect(f"{rows} {columns}\r\n")


# ---- the caller's terminal afterwards --------------------------------------------------------------------------------


def ready(runtime: Runtime) -> Terminal:
    """A command at work, with the caller's terminal in raw mode."""
    terminal = runtime.terminal("sh", "-c", "echo ready; sleep 60")
    terminal.expect("ready\r\n")
    host.wait_until(lambda: terminal.settings() != terminal.before, "the caller's terminal is raw")
    return terminal


def test_sane_after_the_end(runtime: Runtime) -> None:
    terminal = runtime.terminal("sh", "-c", "stty raw -echo")
    assert terminal.end() == 0
    sane(terminal)


def test_sane_after_a_refusal(runtime: Runtime) -> None:
    terminal = runtime.terminal("no-such-program")
    assert terminal.end() == 127
    sane(terminal)


def test_sane_when_the_container_is_killed(runtime: Runtime) -> None:
    terminal = ready(runtime)
    host.init().signal(signal.SIGKILL)
    assert terminal.end() == 137
    sane(terminal)


@pytest.mark.ours_alone("Podman leaves it raw")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_sane_when_the_runtime_is_killed(runtime: Runtime, number: signal.Signals) -> None:
    terminal = ready(runtime)
    terminal.send_signal(number)
    assert terminal.end() == 128 + number
    sane(terminal)
    host.wait_until(lambda: not host.contained(), "the container died with it")
    runtime.sweep()


def test_sane_when_the_runtime_is_told_to_end(runtime: Runtime) -> None:
    terminal = runtime.terminal("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    terminal.expect("ready\r\n")
    runtime.settle()
    terminal.send_signal(signal.SIGTERM)
    assert terminal.end() == 3
    sane(terminal)


@pytest.mark.ours_alone("a container of Podman's outlives its terminal")
@pytest.mark.parametrize("command", ["sh", "echo ready; sleep 60", "trap '' HUP; echo ready; sleep 60"])
def test_closing_the_window_ends_everything(runtime: Runtime, command: str) -> None:
    terminal = shell(runtime) if command == "sh" else runtime.terminal("sh", "-c", command)
    if command != "sh":
        terminal.expect("ready\r\n")
    terminal.close()
    host.wait_until(lambda: not host.descendants(), "nothing runs any more")


# ---- no terminal -----------------------------------------------------------------------------------------------------


def test_it_needs_a_terminal_to_read_from(runtime: Runtime) -> None:
    result = runtime.run("true", options=["-it"], input=b"")
    if not runtime.podman:  # it warns, and goes on
        assert "terminal" in runtime.refusal(result)


@pytest.mark.ours_alone("Podman warns and reads all the same")
def test_t_alone_does_not_read(runtime: Runtime) -> None:
    terminal = runtime.terminal("sh", "-c", "echo ready; sleep 0.5", options=("-t",))
    terminal.expect("ready")
    assert terminal.settings() == terminal.before, "nobody needs it raw"
    assert terminal.end() == 0


def test_output_of_t_goes_into_a_pipe_too(runtime: Runtime) -> None:
    result = runtime.run("sh", "-c", "test -t 1 && echo out; echo err >&2", options=["-t"])
    assert (result.code, result.out) == (0, b"out\r\nerr\r\n")


def test_output_of_it_goes_into_a_pipe_while_keys_come_from_a_terminal(runtime: Runtime) -> None:
    terminal = runtime.terminal("sh", "-c", "read line; echo got $line; exit 4", stdout=subprocess.PIPE)
    terminal.send("hello\r")
    assert terminal.end() == 4
    assert terminal.stdout
    assert terminal.stdout.read().endswith(b"got hello\r\n")
    sane(terminal)


def test_a_command_that_lets_go_of_its_terminal(runtime: Runtime) -> None:
    """It is not over, though nobody can read from the terminal's other end meanwhile; and who waits takes no time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = runtime.run("sh", "-c", "exec </dev/null >/dev/null 2>&1; sleep 2; exit 7", options=["-t"])
    assert result.code == 7
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1, "seconds of a processor"
