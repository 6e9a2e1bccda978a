"""Run the tests' commands inside a container of Podman, whose root is a copy-on-write view of this machine's files."""

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import oracle, session

NO_FILTER = ("--security-opt", "seccomp=unconfined")
NO_MASKS = ("--security-opt", "unmask=ALL")


def podman(test: Path, environment: Mapping[str, str], place: Path, options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words before a command to run in there, in `place`. `test` is the test's directory. Raises Missing.

    Mounts below the directories that are shown are left out. Podman's own containers are among them: a /proc there that
    nothing covers would allow us to mount another one.
    """
    engine = oracle.podman(test / "here")
    seen = {str(path) for path in (session.directory(), test, session.REPOSITORY, Path(sys.prefix).resolve())}
    shown = [word for path in sorted(seen) for word in ("-v", f"{path}:{path}:bind")]
    variables = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
    settings = [f"{name}={value}" for name, value in engine.environment.items()]
    run = ["run", "--rm", "--network", "none", "-w", str(place), *shown, *variables, *options]
    return ("env", *settings, *engine.command, *run, "--rootfs", "/:O")
