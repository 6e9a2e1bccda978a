"""`Terminal`: a user at a terminal who types, reads, resizes the window and closes it."""

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import host, session
from tests.support.image import PYTHON

LEADER = Path(__file__).parent / "leader.py"
PATIENCE = 15.0 * session.SLOWNESS  # seconds


class Terminal:
    """A command in the foreground of a new terminal. With stdout=PIPE its output goes to a pipe instead."""

    def __init__(
        self,
        words: Sequence[str | bytes],
        *,
        env: Mapping[str, str],
        cwd: Path,
        user: int | None = None,
        rows: int = 24,
        columns: int = 80,
        stdout: int | None = None,
    ) -> None:
        self.master, slave = os.openpty()
        os.set_blocking(self.master, False)
        self.resize(rows, columns)
        self.before = self.settings()
        self.seen = b""  # all that has appeared on the screen and has not been expected yet
        self.code: int | None = None
        self.args = words
        self._report, report = os.pipe()
        if user is not None:
            os.fchown(slave, user, user)  # as login(1) does
        self.leader = subprocess.Popen(
            [PYTHON, "-I", "-S", "-c", LEADER.read_text(), str(report), *words],
            env=env,
            cwd=cwd,
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            pass_fds=(report,),
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        self.stdin, self.stdout, self.stderr = self.leader.stdin, self.leader.stdout, self.leader.stderr
        os.close(slave)
        os.close(report)
        self.pid = int(self._told())

    def send(self, typed: str | bytes) -> None:
        """Type these keys. The enter key is `\\r`, Ctrl-C is `\\x03`."""
        data = typed.encode() if isinstance(typed, str) else typed
        while data:
            select.select([], [self.master], [], PATIENCE)
            data = data[os.write(self.master, data) :]

    def expect(self, pattern: str) -> re.Match[bytes]:
        """Read the output up to the end of the first match of this regular expression."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern.encode(), self.seen, re.DOTALL)):
            assert time.monotonic() < deadline, f"{pattern!r} never appeared; the screen shows {self.seen[-2000:]!r}"
            self._read(0.1)
        self.seen = self.seen[found.end() :]
        return found

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self) -> list[Any]:
        """Return the terminal's settings (termios(3)). A shell needs the same settings again after the command."""
        return termios.tcgetattr(self.master)

    def end(self) -> int:
        """Wait until the command ends, and read all its output. Returns its exit code, as a shell shows it."""
        if self.code is None:
            self.code = int(self._told())
            while self._read(0):
                pass
        return self.code

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, but not through this terminal."""
        os.kill(self.pid, number)

    def close(self) -> None:
        """Close the window. The kernel sends SIGHUP to the shell and, when the shell has died, to the command in it."""
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def running(self) -> bool:
        return self.code is None and self.leader.poll() is None

    def kill(self) -> None:
        if self.running():
            self.send_signal(signal.SIGKILL)
        self.close()
        self.leader.kill()

    def wait(self) -> None:
        self.leader.wait()
        if self._report >= 0:
            os.close(self._report)
            self._report = -1

    def _told(self) -> str:
        """Return the leader's next line. Read the output meanwhile, so that the command never waits for us."""
        deadline = time.monotonic() + PATIENCE
        while not select.select([self._report], [], [], 0)[0]:
            assert time.monotonic() < deadline, f"the command does not end; the screen shows {self.seen[-2000:]!r}"
            self._read(0.05)
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._report, 1)
            assert byte, f"the terminal's shell died; the screen shows {self.seen!r}"
            line += byte
        return line.decode().strip()

    def _read(self, wait: float) -> bool:
        try:
            ready = select.select([self.master, self._report][: 2 if wait else 1], [], [], wait)[0]
            if self.master not in ready:
                return False
            data = os.read(self.master, 65536)
        except OSError:  # EIO: nobody has the other end open at the moment
            time.sleep(wait)
            return False
        self.seen += data
        return bool(data)


def sane(terminal: Terminal) -> None:
    """Wait until the terminal is restored: the guard may need a moment after the runtime's end."""
    host.wait_until(lambda: terminal.settings() == terminal.before, "the caller's terminal is as it was", 3)


def sleeping(state: str) -> None:
    """Wait until the `sleep` that was typed is sleeping (S), stopped (T), or has ended ("")."""

    def seen() -> str:
        return "".join(process.state for process in host.contained() if process.name == "sleep")

    host.wait_until(lambda: seen() == state, f"`sleep` in state {state!r}")
    time.sleep(0.1)  # the shell is a little behind what the kernel tells
