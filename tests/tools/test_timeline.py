"""tools/timeline.py: what it makes of the lines of --explain."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools import timeline

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = REPOSITORY / "tools" / "timeline.py"
SVG = "{http://www.w3.org/2000/svg}"
RUN = """\
[runtime] clone3({flags=CLONE_NEWNS|CLONE_NEWPID, exit_signal=SIGCHLD, stack=NULL, stack_size=0}, 88) = 41
[runtime] echo 0 0 1 > /proc/41/uid_map
[init] mount("proc", "/proc", "proc", MS_NOSUID, NULL) = 0
hello from the container <&>
[init] sethostname("box", 3) = -1 EPERM (Operation not permitted)
[runtime] ip link add veth0 type veth peer name eth0 netns 41
[init] execve("/bin/sh", ["sh", "-c", "echo <&>"], ["HOME=/root"])
"""


def drawn(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(timeline.draw(timeline.read(text.splitlines())))


def rows(picture: ElementTree.Element) -> list[tuple[str, float, float]]:
    """Each line of --explain with the place of its box: how far to the right, how far down."""
    found = []
    for group in picture.iter():
        title, box = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        if title is not None and box is not None:
            found.append((title.text or "", float(box.get("x", "")), float(box.get("y", ""))))
    return found


def notes(picture: ElementTree.Element) -> list[str]:
    return [node.text or "" for node in picture.iter(f"{SVG}text") if node.get("class") == "note"]


def test_each_line_in_its_place() -> None:
    """All lines, whole, in order from top to bottom; a column for each process; nothing of the container's output."""
    found = rows(drawn(RUN))
    assert [text for text, _, _ in found] == [line.split("] ", 1)[1] for line in RUN.splitlines() if line[0] == "["]
    down = [y for _, _, y in found]
    assert down == sorted(set(down))
    columns = [x for _, x, _ in found]
    assert columns[0] == columns[1] == columns[4]
    assert columns[2] == columns[3] == columns[5] > columns[0]


def test_messages() -> None:
    """The child is started, told to go before its first line, and becomes the command."""
    assert notes(drawn(RUN)) == ["starts it", "go", "sh runs"]
    lines = timeline.draw(timeline.read(RUN.splitlines()))
    assert lines.index("uid_map") < lines.index(">go<") < lines.index("mount(&quot;proc")


def test_who_starts_whom() -> None:
    clone = "clone3({flags=0}, 88) = 7"
    run = read_names(f"[runtime] {clone}", f"[monitor] {clone}", "[runtime] chdir(1) = 0", "[init] chdir(2) = 0")
    assert run == [("runtime", "monitor"), ("monitor", "init"), ("runtime", ""), ("init", "")]
    run = read_names(f"[runtime] {clone}", "[helper] chdir(1) = 0", f"[runtime] {clone}", "[helper] chdir(2) = 0")
    assert run == [("runtime", "helper"), ("helper", ""), ("runtime", "helper"), ("helper", "")]
    assert read_names(
        "[runtime] clone3({flags=0}, 88) = -1 EPERM (Operation not permitted)", "[init] chdir(1) = 0"
    ) == [
        ("runtime", ""),
        ("init", ""),
    ]


def read_names(*lines: str) -> list[tuple[str, str]]:
    return [(event.who, event.child) for event in timeline.read(lines)]


def test_one_process_alone() -> None:
    assert len(rows(drawn("[runtime] clone3({flags=0}, 88) = 7\n"))) == 1


def test_failure_is_seen() -> None:
    boxes = [node.get("class") for node in drawn(RUN).iter(f"{SVG}rect") if "box" in (node.get("class") or "")]
    assert boxes.index("failed box") == 3
    assert boxes.count("failed box") == 1
    long = f'mount("{"x" * 99}", "{"y" * 99}", "{"z" * 99}", MS_BIND, NULL) = -1 EPERM (Operation not permitted)'
    assert timeline.shorten(long)[-1].endswith(" = -1 EPERM")


@pytest.mark.parametrize("length", [1, 30, 60, 200, 2000])
def test_a_line_fits(length: int) -> None:
    for piece in ("x", "ab, ", "/folder", "CLONE_NEWNS|"):
        lines = timeline.shorten(f'mount("{(piece * length)[:length]}", 0) = 0')
        assert len(lines) <= timeline.TALLEST
        assert max(map(len, lines)) <= timeline.COLUMN


def test_both_ends_of_a_path() -> None:
    (line, _) = timeline.shorten(f'mkdir("/sys/fs/cgroup/cpu/{"x" * 40}/0123456789ab", 0700) = 0')
    assert line.startswith('mkdir("/sys/f')
    assert "…" in line
    assert line.endswith('/0123456789ab",')


@pytest.mark.parametrize(
    ("line", "page"),
    [
        ("clone3({flags=0}, 88) = 7", "man2/clone3.2"),
        ("ip link set lo up", "man8/ip-link.8"),
        ("nsenter --net=/proc/9/ns/net ip addr replace 10.0.0.2/16 dev eth0", "man8/ip-address.8"),
        ("nft add table inet mydocker", "man8/nft.8"),
        ("echo 100 > /sys/fs/cgroup/mydocker/a/pids.max", "man7/cgroups.7"),
        ("echo 0 0 1 > /proc/41/uid_map", "man7/user_namespaces.7"),
        ("echo 1 > /proc/sys/net/ipv4/ip_forward", "man5/proc.5"),
    ],
)
def test_man_page(line: str, page: str) -> None:
    assert timeline.manual(line) == f"https://man7.org/linux/man-pages/{page}.html"
    picture = drawn(f"[runtime] {line}")
    assert [link.get("href") for link in picture.iter(f"{SVG}a")] == [timeline.manual(line)]


def test_command_line(tmp_path: Path) -> None:
    """From a file or standard input; a page or the picture; nothing is loaded from elsewhere."""
    (tmp_path / "run.txt").write_text(RUN)
    page = subprocess.run(
        [sys.executable, PROGRAM, tmp_path / "run.txt"], capture_output=True, text=True, check=True
    ).stdout
    assert page.startswith("<!doctype html>")
    assert "<title>run.txt</title>" in page
    for loads in ("src=", "@import", "url(http", "<link", "<script"):
        assert loads not in page
    done = subprocess.run(
        [sys.executable, PROGRAM, "--svg"],
        input=RUN.encode() + b"[init] chdir(\x1b\xff) = 0\n",
        capture_output=True,
        check=True,
    )
    assert len(rows(ElementTree.fromstring(done.stdout))) == 7


def test_no_line_of_explain(tmp_path: Path) -> None:
    for arguments, said in [([], "no line of --explain"), ([str(tmp_path / "none")], "No such file")]:
        done = subprocess.run([sys.executable, PROGRAM, *arguments], input="hello\n", capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert said in done.stderr


def test_a_real_run() -> None:
    """What step 1 tells can be drawn, and nothing of it is lost."""
    words = [sys.executable, "-m", "step01_namespaces", "run", "--explain", "true"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    found = rows(drawn(done.stderr))
    assert [text for text, _, _ in found] == [line.split("] ", 1)[1] for line in done.stderr.splitlines()]
    assert notes(drawn(done.stderr)) == ["starts it", "go", "true runs"]
