"""`make grade`, `make hint` and the grading of a class: what is earned is counted, and nothing else is.

With MYDOCKER_TEST_LABS=all: hostile runtimes in the virtual machine, a minute or two each, and a class of real ones.
"""

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as xml
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.support import host, session
from tools.labs import classroom, grade, hints, recorder, report, sandbox
from tools.labs.grade import Heard, Report
from tools.labs.tasks import Hints, Task

ALL = os.environ.get("MYDOCKER_TEST_LABS") == "all"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the tests are not run by root")
in_full = pytest.mark.skipif(not ALL, reason="MYDOCKER_TEST_LABS=all runs it")

# A runtime in five lines of shell: right exit codes, and whatever ATTACK does when it is asked for help.
SHELL = """#!/bin/sh
if [ "$1" = --help ] || [ "$2" = --help ]; then
    ATTACK
    exit 3
fi
shift
exec unshare --user --map-root-user "$@"
"""
NO_HINTS = Hints("the chapter", "sethostname", ("--hostname", "box", "--", "hostname"))
CODES = Task("codes", "Exit codes", "init", 60, ("test_exit_codes.py::test_the_commands_own",), NO_HINTS)
HELP = Task("help", "Help", "cli", 40, ("test_exit_codes.py::test_help_is_no_error",), NO_HINTS)
WRONG = Task(
    "wrong",
    "Wrong usage",
    "cli",
    40,
    ("test_exit_codes.py::test_false_fails",),
    NO_HINTS,
    unlisted=("test_exit_codes.py::test_wrong_usage",),
)


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """The tasks of step 1, for these tests: few."""
    chosen = [CODES, HELP]
    for module in (grade, hints, classroom):
        monkeypatch.setattr(module, "load", lambda step: chosen)
    return chosen


def shell(place: Path, attack: str = "echo run; exit 0") -> Path:
    place.mkdir(exist_ok=True)
    (place / "mydocker").write_text(SHELL.replace("ATTACK", attack))
    (place / "mydocker").chmod(0o755)
    return place


def earned(told: Report) -> dict[str, int]:
    return {task.name: task.earned for task in told.tasks}


def shown(told: Report) -> str:
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    report.show(told, console)
    return console.export_text()


# ---- counting --------------------------------------------------------------------------------------------------------


KEY = b"known to two"


class Teller:
    """What a run would tell."""

    def __init__(self, key: bytes = KEY) -> None:
        self.key, self.number, self.lines = key, 0, b""

    def tell(self, **event: object) -> "Teller":
        self.number += 1
        text = json.dumps({"number": self.number, **event})
        self.lines += f"\n{recorder.MARK} {recorder.sign(self.key, text)} {text}\n".encode()
        return self

    def ended(self, function: str, outcome: str = "passed", said: str = "", suffix: str = "[given]") -> "Teller":
        test = f"tests/step01/test_exit_codes.py::{function}{suffix}"
        self.tell(planned=test)
        for when in ("setup", "call", "teardown"):
            how = outcome if when == "call" else "passed"
            self.tell(test=test, when=when, outcome=how, seconds=0.5, said=said if when == "call" else "")
        return self


def counted(lines: bytes, chosen: list[Task], remark: str = "") -> Report:
    heard = Heard(KEY)
    heard.hear(lines)
    return grade.count(1, "./mydocker", chosen, heard, remark=remark)


def test_all_tests_of_a_task_must_pass() -> None:
    told = Teller().ended("test_the_commands_own", suffix="[given-0]").ended("test_help_is_no_error")
    assert earned(counted(told.lines, [CODES, HELP])) == {"codes": 60, "help": 40}
    told.ended("test_the_commands_own", "failed", "it said no", suffix="[given-3]")
    result = counted(told.lines, [CODES, HELP])
    assert earned(result) == {"codes": 0, "help": 40}
    assert result.tasks[0].failures == ("the commands own (3)\nit said no",)


def test_what_has_not_ended_has_not_passed() -> None:
    told = Teller().ended("test_help_is_no_error")
    test = "tests/step01/test_exit_codes.py::test_the_commands_own[given-0]"
    told.tell(planned=test).tell(test=test, when="call", outcome="passed", seconds=1, said="")
    result = counted(told.lines, [CODES, HELP], "time is up")
    assert earned(result) == {"codes": 0, "help": 40}
    assert result.tasks[0].failures == ("the commands own (0)\ntime is up",)


def test_a_run_that_breaks_off_says_so() -> None:
    heard = Heard(KEY)
    heard.hear(Teller().ended("test_help_is_no_error").lines)
    assert heard.broken_off() == "the run was ended from inside"
    heard.hear(Teller().ended("test_help_is_no_error").tell(end=0).lines)
    assert heard.broken_off() == ""
    other = Heard(KEY)
    other.hear(Teller().ended("test_help_is_no_error").tell(planned="tests/step01/test_x.py::test_y").tell(end=3).lines)
    assert other.broken_off() == "the run broke off"


def test_what_needs_root_is_not_counted() -> None:
    told = Teller().ended("test_help_is_no_error", "skipped", grade.NOT_ROOT)
    told.ended("test_help_is_no_error", suffix="[given-rootless]")
    told.ended("test_the_commands_own", "skipped", grade.NOT_ROOT, suffix="[given-0]")
    result = counted(told.lines, [CODES, HELP])
    assert earned(result) == {"codes": 0, "help": 40} and (result.score, result.possible) == (40, 40)
    said = shown(result)
    assert "needs root" in said and "not counted" in said and "40 of 40 points that can be earned here" in said
    assert report.gradescope(result)["tests"][0]["max_score"] == 0


def test_unlisted_tests_count_and_are_not_told() -> None:
    told = Teller().ended("test_false_fails").ended("test_wrong_usage", "failed", "a secret")
    result = counted(told.lines, [WRONG])
    assert result.score == 0
    assert "1 test that is not shown failed: try what lies at the edges" in shown(result)
    assert "secret" not in shown(result) + report.junit(result)
    visible, hidden = report.gradescope(result)["tests"]
    assert "secret" not in json.dumps(visible) and "secret" in hidden["output"] and hidden["visibility"] == "hidden"


def test_an_empty_function_is_named_for_unlisted_tests_too() -> None:
    said = "typed: my_runtime run -x\ncame out: exit code 125, errors 'my_runtime: cli.usage() is yours to write: cli…'"
    result = counted(Teller().ended("test_wrong_usage", "failed", said).ended("test_false_fails").lines, [WRONG])
    told = shown(result)
    assert "1 test that is not shown failed: cli.usage() is yours to write\n" in told and "run -x" not in told


def test_only_what_is_signed_counts() -> None:
    """Not another key, no line twice, no line that was changed; and garbage before, after and between harms nothing."""
    forged = Teller(b"guessed").ended("test_help_is_no_error")
    assert counted(forged.lines, [HELP]).score == 0
    failed = Teller().ended("test_help_is_no_error", "failed")
    assert counted(failed.lines.replace(b"failed", b"passed"), [HELP]).score == 0
    honest = Teller().ended("test_help_is_no_error").lines
    assert counted(honest, [HELP]).score == 40
    assert (
        counted(b"\xff\n@lab@ x\n@lab@\n" + honest.replace(b"\n\n", b"\n@lab@ 0 {}\nnoise") + honest, [HELP]).score
        == 40
    )
    twice = Heard(KEY)
    twice.hear(honest + honest)
    assert len(twice.planned) == 1, "numbers only rise"


def test_earlier_steps_are_looked_at_and_give_no_points() -> None:
    told = Teller()
    test = "tests/step01/test_exit_codes.py::test_false_fails[given]"
    told.tell(planned=test).tell(test=test, when="call", outcome="failed", seconds=1, said="it said yes")
    heard = Heard(KEY)
    heard.hear(told.lines)
    result = grade.count(2, "./mydocker", [], heard)
    assert result.broken == ["step 1, false fails\nit said yes"] and "Broken of earlier steps" in shown(result)


def test_as_long_as_no_run_gets_far_earlier_steps_are_one_line() -> None:
    said = "came out: exit code 125, errors 'my_runtime: cli.usage() is yours to write: cli.py, line 9'"
    early = "The tests of earlier steps fail too, as no run gets as far yet."
    result = Report(2, "./mydocker", [], [f"step 1, one\n{said}", f"step 1, two\n{said}", f"step 1, 3\n{report.STILL}"])
    assert early in shown(result) and "step 1, one" not in shown(result)
    result = Report(2, "./mydocker", [], [*result.broken, "step 1, three\nit said yes"])
    assert early not in shown(result) and "step 1, one" in shown(result)


@pytest.mark.parametrize("step", range(1, 10))
def test_the_choice_of_earlier_tests_is_bounded(step: int) -> None:
    chosen = grade.earlier_tests(step)
    assert len(chosen) <= grade.EARLIER and bool(chosen) == (step > 1)
    for number in range(1, step):
        assert any(test.startswith(f"tests/step{number:02}/") for test in chosen)


# ---- what is written -------------------------------------------------------------------------------------------------


@needs_root
def test_a_results_file_is_whole_on_a_full_disk(tmp_path: Path) -> None:
    place = tmp_path / "state"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", place], check=True)
    try:
        file = report.ResultsFile(place / "results.json")
        file.write(json.dumps({"score": 0}))
        with pytest.raises(OSError), open(place / "filling", "wb", buffering=0) as filling:
            while True:
                filling.write(b"x" * 4096)
        for score in (1, 2, 3):  # the longer, the more was done
            told = {"score": score, "output": "x" * 200_000 * score}
            file.write(json.dumps(told))
            assert json.loads((place / "results.json").read_text()) == told
        file.write(json.dumps({"score": 4}), last=True)
        assert (place / "results.json").read_text() == '{"score": 4}'
    finally:
        subprocess.run(["umount", place], check=True)


def test_junit_can_be_read(tmp_path: Path) -> None:
    told = Teller().ended("test_help_is_no_error", "failed", "\x1b[31m < & \ud800").ended("test_the_commands_own")
    suite = xml.fromstring(report.junit(counted(told.lines, [CODES, HELP])))
    assert [case.get("name") for case in suite] == ["Exit codes", "Help"]
    failure = suite.find("testcase/failure")
    assert failure is not None and "[31m < &" in str(failure.text)


# ---- a run -----------------------------------------------------------------------------------------------------------


def test_a_run(tmp_path: Path, tasks: list[Task]) -> None:
    """One task passes; the other fails, though the runtime prints that it has passed."""
    forged = Teller(b"guessed").ended("test_help_is_no_error").lines.decode()
    (tmp_path / "state/forged").write_text(forged)
    (tmp_path / "state/forged").chmod(0o644)
    cheat = f"cat {tmp_path}/state/forged; cat {tmp_path}/state/forged >&2; echo '{{\"score\": 100}}'"
    place = shell(tmp_path / "state" / "submission", cheat)
    seen: list[Report] = []
    result = grade.grade(1, "./mydocker", place, show=seen.append)
    assert earned(result) == {"codes": 60, "help": 0} and result.finished and not result.remark
    (said,) = result.tasks[1].failures
    assert "\ntyped: mydocker --help\ncame out: exit code 3, output " in said
    assert "make hint STEP=01 TASK=help" in shown(result)
    assert seen[0].score == 0 and not seen[0].finished, "told before anything is done"
    assert [one.score for one in seen] == sorted(one.score for one in seen)


def test_a_runtime_that_hangs(tmp_path: Path, tasks: list[Task]) -> None:
    place = shell(tmp_path / "state" / "submission")
    (place / "mydocker").write_text("#!/bin/sh\ntrap '' INT TERM HUP\nsleep 1234 & sleep 1235\n")
    file = report.ResultsFile(tmp_path / "state/results.json")
    result = grade.grade(
        1, "./mydocker", place, limit=8 * session.SLOWNESS, show=lambda told: file.write(report.as_json(told))
    )
    assert result.score == 0 and result.remark == "time is up"
    written = json.loads((tmp_path / "state/results.json").read_text())
    assert written["score"] == 0 and "time is up" in written["tests"][0]["output"]
    assert "1234" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout


def test_words_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was typed is told, whatever its bytes, and the tests after it are run."""
    odd = replace(CODES, name="odd", tests=("test_volumes.py::test_odd_names",))
    modes = replace(HELP, name="modes", tests=("test_volumes.py::test_modes_that_mean_nothing",))
    monkeypatch.setattr(grade, "load", lambda step: [odd, modes])
    monkeypatch.setattr(grade, "earlier_tests", lambda step: [])
    place = shell(tmp_path / "state" / "submission")
    (place / "mydocker").write_text(
        "#!/bin/sh\nfor word; do :; done\necho mydocker: no such option: $word >&2; exit 125\n"
    )
    result = grade.grade(5, "./mydocker", place)
    assert (result.remark, result.finished) == ("", True)
    (said,) = result.tasks[0].failures
    assert "typed: mydocker run" in said and "\\udcff" in said


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=in_full), pytest.param(signal.SIGHUP, marks=in_full)],
    ids=lambda number: number.name,
)
def test_a_run_that_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    """Nothing is left of it: no process, no folder."""
    place = shell(tmp_path / "state" / "submission")
    (place / "mydocker").write_text("#!/bin/sh\nsleep 1236\n")
    words = [sys.executable, str(session.REPOSITORY / "tools/lab.py"), "grade", "1", "--runtime", "./mydocker"]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    begun = subprocess.Popen(words, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    host.wait_until(lambda: "sleep 1236" in processes(), "a test runs it", patience=60)
    begun.send_signal(number)
    assert begun.wait(60) != 0
    assert "sleep 1236" not in processes() and os.listdir(tmp_path / "tmp") == []


def processes() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout


def test_a_run_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """By `nohup`, or `&` in a script, it ignores signals. The runtimes do not: they are to pass them on."""
    forwarded = replace(CODES, points=100, tests=("test_lifecycle.py::test_signals_are_forwarded",))
    monkeypatch.setattr(grade, "load", lambda step: [forwarded])
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        result = grade.grade(1, "python -m step01_namespaces", session.REPOSITORY)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert result.score == 100, result.tasks


def test_there_is_no_such_runtime(tmp_path: Path, tasks: list[Task]) -> None:
    with pytest.raises(grade.CannotGrade, match="no such program"):
        grade.grade(1, "./none", tmp_path)


def test_why_there_are_no_results_is_in_the_results(tmp_path: Path) -> None:
    with pytest.raises(grade.CannotGrade, match="no such program"):
        report.once(1, "./none", tmp_path, tmp_path / "state/results.json", None, "", None)
    written = json.loads((tmp_path / "state/results.json").read_text())
    assert written["score"] == 0 and "no such program" in written["output"]


# ---- hints -----------------------------------------------------------------------------------------------------------


def hinted(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    hints.hint(1, "codes", *arguments)  # type: ignore[arg-type]
    return " ".join(capsys.readouterr().out.split())


def test_three_hints(tmp_path: Path, tasks: list[Task], capsys: pytest.CaptureFixture[str]) -> None:
    """The third names the first call that the reference makes and this runtime does not."""
    place = shell(tmp_path / "state" / "submission")
    assert "hint 1 of 3" in (first := hinted(capsys, "", place)) and "the chapter" in first
    assert "hint 2 of 3" in (second := hinted(capsys, "", place)) and "sethostname" in second
    with pytest.raises(hints.NoHint, match="RUNTIME"):
        hints.hint(1, "codes", "", place)
    (place / "mydocker").write_text('#!/bin/sh\nshift 3; exec unshare --user --map-root-user --uts "$@"\n')
    third = hinted(capsys, "./mydocker", place)
    assert "the system calls of `run --hostname box hostname`" in third
    assert "the first difference: at the beginning, the reference calls clone3(" in third
    assert third.endswith("the reference: exit code 0 yours: exit code 0")


def test_a_hint_for_what_is_no_task(tasks: list[Task]) -> None:
    with pytest.raises(hints.NoHint, match="it has: codes, help"):
        hints.hint(1, "nothing", "", None)


@pytest.mark.parametrize(
    ("reference", "student", "said"),
    [
        ("a b c", "a c", "after a, the reference calls b; yours does not"),
        ("a c", "a b c", "after a, yours calls b; the reference does not"),
        ("a b", "a c", "after a, the reference calls b; yours calls c"),
        ("b", "", "at the beginning, the reference calls b; yours does not"),
    ],
)
def test_the_first_difference(reference: str, student: str, said: str) -> None:
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    hints.side_by_side(reference.split(), student.split(), console)
    assert f"the first difference: {said}\n" in console.export_text()


def test_what_differs_between_two_right_runtimes_is_no_difference() -> None:
    """What was there already, and which directory of cgroups comes first. The order within one directory counts."""

    def order(*texts: str) -> list[str]:
        return hints.outside_first([("runtime", text) for text in texts])

    base = "/sys/fs/cgroup"
    memory, cpu = f'mkdir("{base}/memory/ID", 0700) = 0', f'mkdir("{base}/cpu/ID", 0700) = 0'
    first, then = f"echo 1 > {base}/memory/ID/b", f"echo 2 > {base}/memory/ID/a"
    in_vain = f'mkdir("{base}/cpu/mydocker", 0700) = -1 EEXIST (File exists)'
    wanted = order(cpu, memory, first, then, "clone3() = PID", memory)
    assert order(in_vain, memory, first, then, cpu, "clone3() = PID", memory) == wanted
    assert order(memory, then, first, cpu, "clone3() = PID", memory) != wanted


# ---- a class ---------------------------------------------------------------------------------------------------------


def test_a_class(tmp_path: Path, tasks: list[Task], monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each; what has not changed is not graded again."""
    folder = tmp_path / "state"
    shell(folder / "ada")
    (folder / "bob/repository/my_runtime").mkdir(parents=True)
    (folder / "bob/repository/my_runtime/__main__.py").write_text("")
    (folder / "=cleo").mkdir()
    (folder / "dan").mkdir()
    (folder / "dan/.runtime").write_text("java -jar box.jar\n")
    graded: list[tuple[str, Path]] = []

    def pretend(step: int, command: str, directory: Path, sandbox: str) -> Report:
        graded.append((command, directory))
        if "jar" in command:
            raise grade.CannotGrade("no Java here")
        return counted(Teller().ended("test_the_commands_own").lines, [CODES, HELP])

    monkeypatch.setattr(classroom, "grade", pretend)
    monkeypatch.setattr(classroom, "ProcessPoolExecutor", lambda jobs, **more: ThreadPoolExecutor(jobs))
    table = classroom.grade_all(folder, 1, 2, "")
    rows = classroom.read(table)
    assert [(row["name"], row["score"], row["codes"], row["remark"]) for row in rows.values()] == [
        ("'=cleo", "0", "", "no runtime found: my_runtime/, mydocker or .runtime"),
        ("ada", "60", "60", ""),
        ("bob", "60", "60", ""),
        ("dan", "0", "", "no Java here"),
    ]
    assert sorted(graded) == [
        ("./mydocker", folder / "ada"),
        ("java -jar box.jar", folder / "dan"),
        ("python -m my_runtime", folder / "bob/repository"),
    ]
    graded.clear()
    shell(folder / "ada", "true")
    classroom.grade_all(folder, 1, 2, "")
    assert sorted(graded) == [("./mydocker", folder / "ada"), ("java -jar box.jar", folder / "dan")], "no result yet"


@in_full
@pytest.mark.timeout(900)
def test_a_class_of_real_ones(tmp_path: Path) -> None:
    """The solution, and one that hangs: each in a process of its own, side by side."""
    folder = tmp_path / "state"
    (folder / "ada").mkdir()
    subprocess.run(["cp", "-r", session.REPOSITORY / "step04_overlay", folder / "ada/my_runtime"], check=True)
    shell(folder / "bob")
    (folder / "bob/mydocker").write_text("#!/bin/sh\nwhile :; do sleep 1; done\n")
    rows = classroom.read(classroom.grade_all(folder, 4, 2, ""))
    assert rows["ada"]["score"] == "100", rows
    assert (rows["bob"]["score"], rows["bob"]["remark"]) == ("0", "time is up")


def test_a_machine_that_prints_without_end_is_ended() -> None:
    seen: list[bytes] = []
    hear = sandbox.bounded(seen.append)
    with pytest.raises(sandbox.TooMuch):
        for _ in range(sandbox.MOST_OUTPUT):
            hear(b"x" * 65536)
    assert sum(map(len, seen)) <= sandbox.MOST_OUTPUT


def test_what_the_machine_sees_of_a_submission(tmp_path: Path) -> None:
    """A copy, that everybody there can read: no link is followed, nothing odd is copied."""
    place = shell(tmp_path / "state" / "submission")
    (place / "secret").symlink_to("/etc/shadow")
    os.mkfifo(place / "pipe")
    (place / "closed").mkdir(mode=0o700)
    (place / "closed/file.py").write_text("x = 1\n")
    (place / "closed/file.py").chmod(0o600)
    with sandbox.copied(place) as copy:
        assert {path.name for path in copy.iterdir()} == {"mydocker", "secret", "closed"}
        assert (copy / "secret").is_symlink() and (copy / "closed").stat().st_mode & 0o777 == 0o755
        assert (copy / "closed/file.py").stat().st_mode & 0o777 == 0o644
        assert list((copy / "closed/__pycache__").glob("*.pyc")) and not list((place / "closed").glob("__pycache__"))
    assert not copy.exists()


# ---- hostile runtimes, in the machine --------------------------------------------------------------------------------


LOOKS_AROUND = r"""
import ctypes, os
def attempt(what, how):
    try:
        print(what, "succeeded", how(), end="; ")
    except Exception as error:
        print(what, "failed", end="; ")
def others():
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in (os.getpid(), 2)]
def memory():
    seen = 0
    for pid in others():
        try:
            first = open(f"/proc/{pid}/maps").readline().split("-")[0]
            with open(f"/proc/{pid}/mem", "rb") as file:
                file.seek(int(first, 16))
                seen += bool(file.read(16))
        except (OSError, ValueError):
            pass
    assert seen
    return seen
def traced():
    assert [pid for pid in others() if ctypes.CDLL(None).ptrace(16, pid, 0, 0) == 0]
attempt("memory", memory)
attempt("ptrace", traced)
attempt("scope", lambda: os.write(os.open("/proc/sys/kernel/yama/ptrace_scope", os.O_WRONLY), b"0"))
attempt("kcore", lambda: len(open("/proc/kcore", "rb").read(4096)))
attempt("mem", lambda: len(open("/dev/mem", "rb").read(4096)))
attempt("key", lambda: open("/run/lab-key").read())
attempt("tests", lambda: open("/grader/tests/step01/test_exit_codes.py", "w").write("def test_help(): pass"))
attempt("tools", lambda: open("/grader/tools/labs/recorder.py", "a").write("print(1)"))
attempt("remount", lambda: os.system("mount -o remount,rw /grader/tests; touch /grader/tests/x") and 1 / 0)
forged = open("/submission/forged").read()
for pid in others():
    for number in (1, 2, 4):
        try:
            os.write(os.open(f"/proc/{pid}/fd/{number}", os.O_WRONLY | os.O_NONBLOCK), forged.encode())
        except OSError:
            pass
print(forged)
"""
ATTACKS = {
    "looks_around": "exec python3 /submission/looks.py",
    "fork_bomb": "bomb() { bomb | bomb & }; bomb; sleep 1000",
    "loop": "while :; do :; done",
    "removes_all": "rm -rf --no-preserve-root / 2>/dev/null",
    "kills_all": "kill -9 -1; kill -9 $PPID",
    "reboots": "echo b > /proc/sysrq-trigger; sleep 100",
    "fills_the_disk": "cat /dev/zero > /var/lib/full 2>/dev/null; cat /dev/zero > /tmp/full 2>/dev/null",
    "prints_without_end": "for out in /dev/vport* /proc/[0-9]*/fd/1; do cat /dev/zero >$out & done; sleep 1000",
}


@in_full
@needs_root
@pytest.mark.timeout(600)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_runtime_in_the_machine(tmp_path: Path, tasks: list[Task], attack: str) -> None:
    """It has what it earned before, and nothing for the attack. Nothing happens outside."""
    place = shell(tmp_path / "state" / "submission", ATTACKS[attack])
    (place / "looks.py").write_text(LOOKS_AROUND)
    (place / "forged").write_text(Teller(b"guessed").ended("test_help_is_no_error").lines.decode())
    before = {path: path.read_bytes() for path in place.iterdir()}
    limit = 200.0 * max(1.0, session.SLOWNESS)
    result = grade.grade(1, "./mydocker", place, limit=limit, sandbox="vm")
    print(attack, result.seconds, result.remark, result.tasks)
    assert earned(result) == {"codes": 60, "help": 0}
    assert {path: path.read_bytes() for path in place.iterdir()} == before
    if attack == "looks_around":
        (said, *_) = result.tasks[1].failures
        for what in ("memory", "ptrace", "scope", "kcore", "mem", "key", "tests", "tools", "remount"):
            assert f"{what} failed" in said, said


@in_full
@needs_root
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("step", [1, 4])
def test_the_solution_in_the_machine(step: int, tmp_path: Path) -> None:
    (package,) = session.REPOSITORY.glob(f"step{step:02}_*")
    subprocess.run(["cp", "-r", package, tmp_path / "state/my_runtime"], check=True)
    result = grade.grade(step, "python -m my_runtime", tmp_path / "state", sandbox="vm")
    print(result.seconds, result.remark, result.tasks)
    assert result.score == 100 and not result.remark
