"""Another container around what is tested: Podman's, on a copy-on-write view of this machine's files."""

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import oracle, session

NO_FILTER = ("--security-opt", "seccomp=unconfined")
NO_MASKS = ("--security-opt", "unmask=ALL")


def podman(test: Path, environment: Mapping[str, str], place: Path, options: tuple[str, ...]) -> tuple[str, ...]:
    """The words before a command that is to run in there, in `place`. `test` is the test's directory. Raises Missing.

    What is mounted below the directories shown is left out: Podman's own containers are there, and one /proc among them
    that nothing covers would permit another.
    """
    engine = oracle.podman(test / "here")
    seen = {str(path) for path in (session.directory(), test, session.REPOSITORY, Path(sys.prefix).resolve())}
    shown = [word for path in sorted(seen) for word in ("-v", f"{path}:{path}:bind")]
    variables = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
    settings = [f"{name}={value}" for name, value in engine.environment.items()]
    run = ["run", "--rm", "--network", "none", "-w", str(place), *shown, *variables, *options]
    return ("env", *settings, *engine.command, *run, "--rootfs", "/:O")
