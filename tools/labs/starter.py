"""Writes the folder that a student begins a lab with: a package `my_runtime`, made from the steps, and its task."""

import json
import re
import subprocess
import textwrap
import tomllib
from enum import StrEnum
from functools import cache
from pathlib import Path

from tools import chain

from . import rooms, story, tasks
from .errors import LabError

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATES = Path(__file__).parent / "templates"
PACKAGE = "my_runtime"
RUNTIME = f"python -m {PACKAGE}"


class Level(StrEnum):
    """How much is given. Guided: the rooms' signatures, and the lines that call them. Open: the step before."""

    GUIDED = "guided"
    OPEN = "open"


def default_directory(step: int) -> Path:
    """Where a lab goes if nobody says where: beside the repository."""
    return REPOSITORY.parent / f"my-runtime-{step:02}"


def new(step: int, directory: Path, level: Level) -> None:
    """Write the lab for this step into a directory that is empty, or not there yet. Raises LabError."""
    check_step(step)
    if step == 1 and level is Level.OPEN:
        raise LabError("step 1 has no step before it to begin with: take the level 'guided'")
    files = lab(step, level)
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise LabError(f"{directory} is there already and not empty: nothing was written; choose another place")
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in ("grade", "hint"):
            (directory / name).chmod(0o755)
    except OSError as error:
        raise LabError(f"{error.filename}: {error.strerror}") from None


def check_step(step: int) -> None:
    """Raise LabError if there is no such step."""
    if not 1 <= step <= len(rooms.steps()):
        raise LabError(f"there is no step {step}; the steps are 1 to {len(rooms.steps())}")


def lab(step: int, level: Level) -> dict[str, str]:
    """The text of each file of a lab, by its path."""
    files = {f"{PACKAGE}/{name}": text for name, text in package(step, level).items()}
    values = facts(step, level)
    files["README.md"] = filled("README.md", values | readme_facts(step, level))
    files["CHAPTER.md"] = without_links(chapter(step))
    files["AGENTS.md"] = filled("AGENTS.md", values)
    files["pyproject.toml"] = filled("pyproject.txt", values)
    files["grade"] = files["hint"] = filled("grade", values)
    files[".github/workflows/grade.yml"] = filled("grade.yml", values)
    files[".github/classroom50/autograder.py"] = filled("autograder.py", values)
    files[".lab.toml"] = settings(step, level)
    files[".gitignore"] = "__pycache__/\n*.egg-info/\n.venv/\nresults.json\njunit.xml\n"
    return files


# --- the package ---


def package(step: int, level: Level) -> dict[str, str]:
    """The files of the package, by their path inside it."""
    now = sources(step)
    if level is Level.GUIDED:
        files = now | {name: rooms.emptied(name, now[name]) for name in rooms.of(step)}
    else:
        files = {name: rooms.marked(step, text, now[name]) for name, text in sources(step - 1).items()}
    return files | {"__init__.py": beginning(step)}


@cache
def sources(step: int) -> dict[str, str]:
    """A step's files, by their path inside the step."""
    return {name: content.decode() for name, content in chain.contents(rooms.steps()[step - 1]).items()}


def beginning(step: int) -> str:
    """`__init__.py`, which tells of what is not written yet. From step 3 on a container has a root of its own."""
    belt = filled("belt.txt", {}) if step >= 3 else ""
    return filled("__init__.txt", {"STEP": str(step), "TITLE": title(chapter(step)), "BELT": belt}).rstrip() + "\n"


# --- the other files ---


def filled(template: str, values: dict[str, str]) -> str:
    """A template with a value in the place of each @NAME@."""
    return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], (TEMPLATES / template).read_text())


def facts(step: int, level: Level) -> dict[str, str]:
    """What the templates want to know."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    needs = project["dependencies"] + (project["optional-dependencies"]["zstd"] if step >= 6 else [])
    url = course_url()
    return {
        "STEP": str(step),
        "TITLE": title(chapter(step)),
        "PACKAGE": rooms.steps()[step - 1].name,
        "RUNTIME": RUNTIME,
        "PYTHON": project["requires-python"],
        "DEPENDENCIES": json.dumps(needs),
        "URL": url,
        "REPOSITORY": repository_of(url),
    }


def settings(step: int, level: Level) -> str:
    """`.lab.toml`: what ./grade and ./hint go by. (A text in JSON is one in TOML, too.)"""
    commit = git("rev-parse", "HEAD") or "unknown"
    values = {"step": step, "level": level.value, "runtime": RUNTIME, "course": str(REPOSITORY), "commit": commit}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()]
    return "# What ./grade and ./hint go by. `course` is the repository that this lab was made from.\n" + "".join(lines)


def git(*words: str) -> str:
    """What a git command says about the repository; "" where it cannot."""
    try:
        done = subprocess.run(["git", "-C", str(REPOSITORY), *words], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def course_url() -> str:
    """Where others can clone the course from: as we did, with no password in it."""
    url = re.sub(r"//[^/@]*@", "//", git("remote", "get-url", "origin"))
    return url if re.match(r"https://|ssh://|git@", url) else "https://github.com/OWNER/REPOSITORY"


def repository_of(url: str) -> str:
    """OWNER/NAME on GitHub."""
    found = re.search(r"github\.com[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?$", url)
    return found[1] if found else "OWNER/REPOSITORY"


# --- README.md ---

HOW = {
    Level.GUIDED: """\
The package `my_runtime` is step {N} as far as its command line, and all that calls your part of it. In the rooms of
this step every function is empty. Start with the first one below, and let the program tell you the next: it ends with a
line such as `my_runtime: {EXAMPLE}, line …`.""",
    Level.OPEN: """\
The package `my_runtime` is step {BEFORE}. Where step {N} changes something in these files, a comment says so: look for
`# step {N}`. What the step brings beside that, you build yourself, in files of your own.""",
}
HARMLESS = "A container of this step works on the files of this machine. As root, what it removes is gone."
DANGER = {
    1: HARMLESS,
    2: HARMLESS,
    3: """\
Until `rootfs.py` is right, a container of root's may work on the files of this machine. `__init__.py` refuses to run a
command in this machine's root, but your own code runs before that.""",
    6: "Until `images/unpack.py` confines itself, an archive of root's may overwrite the files of this machine.",
    9: "The networks are made on this machine: links, addresses, firewall rules.",
}
REFUGE = "So work as an ordinary user where you can, and as root in a virtual machine only."
ROOT_ALONE = "So work as root in a virtual machine: without root, nearly nothing of this step can be earned."
AFTER = {
    2: """\
When `run true` works, go on with the options that this step adds, then `./grade`. What belongs to the other cgroup
version cannot be tested here, and costs no points.""",
}


def readme_facts(step: int, level: Level) -> dict[str, str]:
    """What the student's README.md says beside the facts that others want, too."""
    order = story.order(sources(step), rooms.of(step))
    file, name, _ = order[0]
    words = {
        "N": str(step),
        "BEFORE": str(step - 1),
        "EXAMPLE": f"{rooms.module(file)}.{name}() is yours to write: {file}",
    }
    danger = DANGER[max(known for known in DANGER if known <= step)]
    return {
        "INTRO": introduction(chapter(step)),
        "HOW": wrapped(HOW[level].format(**words)),
        "RUN": f"python -m {PACKAGE} run {'busybox ' if step >= 3 else ''}true",
        "DANGER": wrapped(f"**Work where nothing can be lost.** {danger} {ROOT_ALONE if step == 2 else REFUGE}"),
        "TODO": todo(step, order) if level is Level.GUIDED else marks(step),
        "TASKS": table(tasks.load(step), level) + messages(tasks.load(step)),
    }


def wrapped(text: str) -> str:
    """A paragraph in lines of the usual length."""
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def table(listed: list[tasks.Task], level: Level) -> str:
    """What each task is worth and, as tasks.toml knows it of the guided starter, whether it is red at the start."""
    rows = [["task", "what it shows", "room", "points"], ["---", "---", "---", "---:"]]
    rows += [[task.name, task.title, task.topic, str(task.points)] for task in listed]
    if level is Level.OPEN:
        return "All tasks together are worth 100 points.\n\n" + lines(rows)
    now = ["green" if task.starter == "passes" else "red" for task in listed]
    points = sum(task.points for task in listed if task.starter != "passes")
    intro = f"All tasks together are worth 100 points. At the start {points} of them are red"
    intro += f", and {100 - points} green: do not lose these." if points < 100 else "."
    return f"{intro}\n\n" + lines([[*row, more] for row, more in zip(rows, ["now", "---", *now], strict=True)])


def messages(listed: list[tasks.Task]) -> str:
    """The wording that some tasks want."""
    wanted = [f"- {task.name}: {task.message}" for task in listed if task.message]
    intro = "\n\nSome wordings are graded, too. How your runtime puts everything else is your choice.\n\n"
    return intro + "\n".join(wanted) if wanted else ""


def lines(rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def todo(step: int, order: list[tuple[str, str, str]]) -> str:
    """The functions to write, in the order in which a run comes to them."""
    number = len(order)
    intro = (
        f"{number} functions, in the order in which a run comes to them. Each has a docstring that says what it does."
    )
    items = [f"{place}. `{name}` in `{file}`. {what}".rstrip() for place, (file, name, what) in enumerate(order, 1)]
    return "\n".join([intro, "", *items, *(["", wrapped(AFTER[step])] if step in AFTER else [])])


def marks(step: int) -> str:
    """The files of the step before in which something changes."""
    files = package(step, Level.OPEN)
    found = {name: text.count(f"# step {step}: ") for name, text in files.items()}
    return "\n".join(f"- `{name}`: {count} places" for name, count in found.items() if count)


def chapter(step: int) -> str:
    """The text of a step's chapter, without the line that leads to the other edition."""
    text = (rooms.steps()[step - 1] / "README.md").read_text()
    return re.sub(r"^\*\*English\*\* .*\n\n", "", text, flags=re.MULTILINE)


def title(text: str) -> str:
    """A chapter's title without its number."""
    return text.partition("\n")[0].partition(": ")[2]


def introduction(text: str) -> str:
    """What a chapter says it is about: its beginning, up to what a reader should type along."""
    paragraphs = text.partition("\n## ")[0].strip().split("\n\n")[2:]  # the title; chapter N of …
    kept: list[str] = []
    for paragraph in paragraphs:
        if re.match(r"Type along|To type along|As before, be root|```console", paragraph):
            break
        kept.append(paragraph)
    return "\n\n".join(kept)


def without_links(text: str) -> str:
    """A chapter for another folder, where its links to other chapters lead nowhere."""
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", text)
