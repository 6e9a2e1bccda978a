"""`Runtime`: a container runtime seen from outside. The nine steps, Podman and a student's runtime look alike here."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import host, session
from tests.support.terminal import Terminal

PROBES = Path(__file__).parent / "probes"
PATIENCE = 20.0 * session.SLOWNESS  # seconds that any command of these tests may take
Word = str | bytes
# What runtimes find in their environment, whatever the tests' own is. Nothing of it may be seen inside.
HOST_ENVIRONMENT = {
    "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
    "LANG": "C.UTF-8",
    "TERM": "screen-256color",
    "SECRET": "of the host",
}


class Missing(Exception):
    """There is no such runtime here; the message is the reason of the skip."""


@dataclass(frozen=True)
class Result:
    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the last newline."""
        return self.out.decode(errors="surrogateescape").rstrip("\n").replace("\r\n", "\n")


class Started(subprocess.Popen[bytes]):
    """A running process of a runtime."""

    result: Result | None = None  # once it has ended, in `end`

    def running(self) -> bool:
        return self.poll() is None

    def line(self) -> str:
        """Return the next line that the command prints, "" if none comes. So a test knows how far the command is."""
        assert self.stdout
        impatient = threading.Timer(PATIENCE, self.kill)
        impatient.start()
        try:
            return self.stdout.readline().decode().rstrip("\r\n")
        finally:
            impatient.cancel()

    def wait(self, timeout: float | None = PATIENCE) -> int:
        return super().wait(timeout)

    def end(self, input: bytes | None = None) -> Result:
        """Wait for the end. If it does not come in time, the test fails."""
        try:
            out, err = self.communicate(input, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {PATIENCE:.0f} seconds: {self.args!r}") from None
        code = self.returncode if self.returncode >= 0 else 128 - self.returncode  # as a shell counts
        self.result = Result(code, out or b"", err or b"")
        return self.result


@dataclass
class Runtime:
    name: str  # as its error messages begin: the package, `podman`
    step: int  # which step's features it has; Podman has those of all nine
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path  # where it is started
    image: str | None = None  # what `run` wants before the command, from step 3 on
    user: int | None = None  # run by this user; None: by whoever runs the tests
    rootless: bool = False
    started: list[Started | Terminal] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # ids of containers that are on record

    @property
    def podman(self) -> bool:
        return self.name == "podman"

    @property
    def modest(self) -> tuple[str, ...]:
        """The options with which a later step's `run` keeps no container on record, and gives it no network."""
        return (*(["--rm"] if self.step >= 7 else []), *(["--network", "none"] if self.step >= 9 else []))

    @property
    def layers(self) -> str:
        """The directory of the store that holds the containers' layers."""
        return "containers" if self.step >= 7 else "layers"

    def words(self, command: Sequence[Word], options: Sequence[Word] = (), keep: bool = False) -> list[Word]:
        """Return the whole command line of `run`. With `keep`, the container stays on record."""
        own_network = b"--network" in map(os.fsencode, options)
        removed, *network = self.modest or ("",)
        modest = [*([removed] if removed and not keep else []), *([] if own_network else network)]
        image = [self.image] if self.image else []
        return [*self.command, "run", *modest, *options, *image, *command]

    def popen(
        self,
        words: Sequence[Word],
        *,
        under: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        **more: Any,
    ) -> Started:
        """Start any command line as the runtime's user, after a prefix such as `("nohup",)`; see subprocess.Popen."""
        started = Started(
            [*under, *words],
            env={**self.environment, **(env or {})},
            cwd=cwd or self.directory,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            **more,
        )
        self.started.append(started)
        return started

    def start(self, *command: Word, options: Sequence[Word] = (), **more: Any) -> Started:
        """Start `run` and do not wait for it. Its output and errors go to pipes."""
        return self.popen(self.words(command, options), **more)

    def run(self, *command: Word, options: Sequence[Word] = (), input: bytes | None = None, **more: Any) -> Result:
        """Call `run` and wait until it ends. `input` is the caller's standard input: without `-i`, nobody reads it."""
        return self._finish(self.words(command, options), input, more)

    def call(self, *words: Word, input: bytes | None = None, **more: Any) -> Result:
        """Call any other command: `runtime.call("images", "-q")`."""
        return self._finish([*self.command, *words], input, more)

    def _finish(self, words: Sequence[Word], input: bytes | None, more: dict[str, Any]) -> Result:
        if input is not None:
            more["stdin"] = subprocess.PIPE
        return self.popen(words, **more).end(input)

    def output(self, *command: Word, **more: Any) -> str:
        """Return what a command prints in a container. It must succeed."""
        result = self.run(*command, **more)
        assert result.code == 0, f"exit code {result.code}: {result.err.decode(errors='replace')}"
        return result.text

    def probe(self, name: str, *arguments: Word, **more: Any) -> Any:
        """Run support/probes/NAME.py inside, as an argument of `python3 -c`. Returns the JSON that it prints."""
        return json.loads(self.output(*probe(name), *arguments, **more))

    def detach(self, *command: Word, options: Sequence[Word] = (), **more: Any) -> str:
        """Call `run -d`. The container stays on record until the test is over. Returns its id."""
        result = self._finish(self.words(command, ["-d", *options], keep=True), None, more)
        assert result.code == 0, f"exit code {result.code}: {result.err.decode(errors='replace')}"
        self.kept.append(result.text)
        return result.text

    def says(self, *words: Word) -> str:
        """Return what a command other than `run` prints. It must succeed."""
        result = self.call(*words)
        assert result.code == 0, f"exit code {result.code}: {result.err.decode(errors='replace')}"
        return result.text

    def terminal(self, *command: Word, options: Sequence[Word] = ("-it",), **more: Any) -> Terminal:
        """Start `run -it` as a user at a terminal does."""
        session = Terminal(
            self.words(command, options),
            env=self.environment,
            cwd=self.directory,
            user=self.user,
            **more,
        )
        self.started.append(session)
        return session

    def settle(self) -> None:
        """Wait for Podman: it forwards signals and sizes only some time after the command runs. (We do so at once.)"""
        if self.podman:
            time.sleep(0.5 * session.SLOWNESS)

    def sweep(self) -> None:
        """Run once more: this removes what a killed run and the kernel have left, such as a cgroup, from step 2 on."""
        assert self.run("true").code == 0

    def refusal(self, result: Result, code: int = 125) -> str:
        """Check a refusal: the right exit code, and one line that begins with the runtime's name. Returns that line."""
        said = result.err.decode(errors="replace")
        assert result.code == code, f"exit code {result.code}, not {code}; it said: {said!r}"
        assert "Traceback" not in said
        if self.podman:  # it has warnings of its own
            return said.strip()
        assert re.fullmatch(r"[^\n]+\n", said), f"not one line: {said!r}"
        assert said.startswith(f"{self.name}: "), f"does not begin with {self.name!r}: {said!r}"
        return said.removeprefix(f"{self.name}: ").strip()

    def stop(self) -> bool:
        """End what a test has left running. Tests may do so: only what remains after this and the next run is a leak.

        Returns False if a container on record cannot be removed, as in a student's runtime that has no `rm` yet."""
        removed = True
        killed = any(started.running() for started in self.started)
        for started in self.started:
            started.kill()
        if self.kept:
            removed = self.call("rm", "-f", *(["--ignore", "-t", "0"] if self.podman else []), *self.kept).code == 0
        if self.podman:  # its containers outlive it by design
            for process in host.contained():
                process.signal(signal.SIGKILL)
        for started in self.started:
            started.wait()
            for pipe in (started.stdin, started.stdout, started.stderr):
                if pipe:
                    pipe.close()
        if killed and self.step >= 2 and not self.podman:
            self.run("true")  # which sweeps
        return removed


def probe(name: str) -> tuple[str, ...]:
    return ("python3", "-I", "-S", "-c", (PROBES / f"{name}.py").read_text())
