"""Packs what Gradescope wants as an autograder: setup.sh, run_autograder, and the course's tests and tools.

No step is packed: a submission that runs there as root could read the solution.
"""

import json
import subprocess
import zipfile
from pathlib import Path

from .errors import LabError
from .starter import REPOSITORY, TEMPLATES, check_step

PACKED = ("tests", "tools", "pyproject.toml", "README.md", "LICENSE")
SECONDS = 540  # Gradescope ends an autograder after 10 minutes, unless the assignment's settings allow more


def pack(step: int, file: Path, runtime: str, sandbox: str) -> None:
    """Write the zip file for a step's lab. Raises LabError."""
    check_step(step)
    lab = {"step": step, "runtime": runtime, "sandbox": sandbox, "seconds": SECONDS}
    try:
        with zipfile.ZipFile(file, "w") as archive:
            for name in ("setup.sh", "run_autograder"):
                add(archive, name, (TEMPLATES / name).read_bytes(), 0o755)
            add(archive, "lab.json", json.dumps(lab).encode(), 0o644)
            for name in tracked():
                add(archive, f"course/{name}", (REPOSITORY / name).read_bytes(), (REPOSITORY / name).stat().st_mode)
    except OSError as error:
        raise LabError(f"{error.filename or file}: {error.strerror}") from None


def add(archive: zipfile.ZipFile, name: str, content: bytes, mode: int) -> None:
    """Put a file into the archive."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (mode & 0o777) << 16
    archive.writestr(entry, content, zipfile.ZIP_DEFLATED)


def tracked() -> list[str]:
    """The files to pack: those that git knows, so that nothing goes along that merely lies here."""
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--", *PACKED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    names = [name for name in done.stdout.split("\0") if name and (REPOSITORY / name).is_file()]
    return names or refuse(done.stderr.strip())


def refuse(reason: str) -> list[str]:
    raise LabError(f"git cannot tell which files belong to the course: {reason}")
