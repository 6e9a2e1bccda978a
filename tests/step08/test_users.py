"""Step 3: who the command runs as (-u) and where it begins (-w): names are the image's, not the host's."""

import os
import pwd
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.support.fresh import Fresh
from tests.support.image import Member, file, folder, link
from tests.support.runtime import Runtime
from tests.support.store import imported, shell

ROOTS = pytest.mark.as_root("-u is root's")
OURS = pytest.mark.ours_alone("Podman words it differently, or does not mind")


def identity(runtime: Runtime, user: str | None) -> tuple[int, int, set[int], str]:
    """User, group, all groups, home."""
    options = [] if user is None else ["-u", user]
    lines = runtime.output("sh", "-c", "id -u; id -g; id -G; echo $HOME", options=options).split("\n")
    return int(lines[0]), int(lines[1]), {int(group) for group in lines[2].split()}, lines[3]


# ---- -u --------------------------------------------------------------------------------------------------------------

WHO = {
    None: (0, 0, {0}, "/root"),
    "root": (0, 0, {0}, "/root"),
    "0": (0, 0, {0}, "/root"),
    "": (0, 0, {0}, "/root"),
    "alice": (1000, 1000, {1000, 50}, "/home/alice"),
    "1000": (1000, 1000, {1000, 50}, "/home/alice"),
    "alice:": (1000, 1000, {1000, 50}, "/home/alice"),
    "bob": (1001, 1001, {1001}, "/home/bob"),
    "alice:1000": (1000, 1000, {1000}, "/home/alice"),
    "alice:bob": (1000, 1001, {1001}, "/home/alice"),
    "alice:1001": (1000, 1001, {1001}, "/home/alice"),
    "1000:staff": (1000, 50, {50}, "/home/alice"),
    "root:staff": (0, 50, {50}, "/root"),
    ":staff": (0, 50, {50}, "/root"),
    "4242": (4242, 0, {0}, "/"),
    "4242:staff": (4242, 50, {50}, "/"),
    "4242:4343": (4242, 4343, {4343}, "/"),
    "2147483647:2147483647": (2147483647, 2147483647, {2147483647}, "/"),
}


@ROOTS
def test_who(runtime: Runtime) -> None:
    who = WHO | ({"alice:": WHO["alice:1000"]} if runtime.podman else {})
    assert {user: identity(runtime, user) for user in who} == who


NOBODY = ["nobody-here", "alice:no-group", "ALICE", "ali ce", "alice\n", "/etc", "-1", "1000.0", "1e3", "٣"]
NOBODY += ["4294967295", "4294967296", "1000:4294967295", "0:-1", "9" * 5000, "x" * 5000]


@ROOTS
def test_whatever_the_names_and_numbers(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """They are those of the image's own /etc/passwd and /etc/group."""
    user, group, number, other = fresh.word(), fresh.word(), fresh.number(2000, 60000), fresh.number(2000, 60000)
    passwd, groups = f"{user}:x:{number}:{other}::/home/{user}:/bin/sh\n", f"{group}:x:{other + 1}:{user}\n"
    own = imported(runtime, tmp_path, passwd_and_group(passwd, groups))
    assert identity(own, user) == (number, other, {other, other + 1}, f"/home/{user}")
    assert identity(own, f"{number}:{group}") == (number, other + 1, {other + 1}, f"/home/{user}")


@ROOTS
def test_nobody(runtime: Runtime, fresh: Fresh) -> None:
    for user in [fresh.word(), *NOBODY][: 3 if runtime.podman else None]:
        result = runtime.run("true", options=["-u", user])
        if runtime.podman:
            assert result.code == 126
        else:
            wrong = user.rpartition(":")[2].strip()
            assert wrong[:20] in runtime.refusal(result)


@ROOTS
def test_a_user_of_the_host_is_nobody(runtime: Runtime) -> None:
    name = next(entry.pw_name for entry in pwd.getpwall() if entry.pw_name not in ("root", "alice", "bob"))
    runtime.refusal(runtime.run("true", options=["-u", name]), 126 if runtime.podman else 125)


ODD_PASSWD = b"""\

# not a comment to anybody who reads this file
short:x:1004
letters:x:abc:0::/:/bin/sh
seventh::1007:1007::/home/seventh
+::::::
:x:1008:1008:no name:/:
ghost:x:1000:1000:a form feed\x0cintruder:x:0:0::/root:/bin/sh
return:x:1010:1010::/home/return\rtrick:x:0:0::/:/bin/sh
colons:x:1011:1011:a:b:/wrong:/bin/sh
\xff\xfe:x:1012:1012::/home/bytes:/bin/sh
homeless:x:1013:1013:::/bin/sh
twice:x:1014:1014::/home/first:/bin/sh
twice:x:1015:1015::/home/second:/bin/sh
last:x:1016:1016::/home/last:/bin/sh"""
ODD_GROUP = b"""\

short:x
letters:x:abc:other
many:x:60:last,someone,last
empty:x:61:
many-commas:x:62:,,last,,
no-colon-at-the-end:x:63
members:x:64:lasting,at-last,last
last:x:1016:"""


@pytest.fixture
def odd(runtime: Runtime, tmp_path: Path) -> Runtime:
    return imported(runtime, tmp_path, [*shell(), file("etc/passwd", ODD_PASSWD), file("etc/group", ODD_GROUP)])


@ROOTS
def test_malformed_lines_do_not_matter_to_others(odd: Runtime) -> None:
    assert identity(odd, "last") == (1016, 1016, {1016, 60, 62, 64}, "/home/last")
    assert identity(odd, "last:many") == (1016, 60, {60}, "/home/last")
    assert identity(odd, "twice")[::3] == (1014, "/home/first")
    assert odd.podman or identity(odd, "homeless")[::3] == (1013, "/")
    assert odd.output("id", "-u", options=["-u", "0"]) == "0"


@ROOTS
@OURS
def test_malformed_lines_make_nobody(odd: Runtime) -> None:
    """Least of all root."""
    for user in ("letters", "short", "intruder", "trick", "", "+", "last:letters", "last:short"):
        result = odd.run("id", options=["-u", user])
        if user:
            assert user.rpartition(":")[2] in odd.refusal(result)


def passwd_and_group(passwd: str, group: str = "") -> list[Member]:
    return [*shell(), file("etc/passwd", passwd.encode()), file("etc/group", group.encode())]


TOO_LARGE = passwd_and_group(
    "minus-one:x:4294967295:1::/:/bin/sh\nlarge:x:99999999999:1::/:/bin/sh\n"
    f"huge:x:{'9' * 5000}:1::/:/bin/sh\nin-minus-one:x:1000:4294967295::/:/bin/sh\n",
    "group-minus-one:x:4294967295:\n",
)


@ROOTS
@OURS
def test_numbers_that_are_no_users(runtime: Runtime, tmp_path: Path) -> None:
    """To the kernel, 4294967295 is -1 and means: stay who you are. That is root."""
    own = imported(runtime, tmp_path, TOO_LARGE)
    for user in ("minus-one", "large", "huge", "in-minus-one", "1:group-minus-one"):
        own.refusal(own.run("id", options=["-u", user]))


@ROOTS
def test_an_image_without_users(runtime: Runtime, tmp_path: Path) -> None:
    """Numbers will do. Podman writes the files that are missing."""
    own = imported(runtime, tmp_path, shell())
    assert identity(own, None)[:3] == (0, 0, {0})
    assert identity(own, "1234")[:3] == (1234, 0, {0})
    assert identity(own, "1234:55")[:3] == (1234, 55, {55})
    own.refusal(own.run("id", options=["-u", "alice"]), 126 if runtime.podman else 125)
    own.refusal(own.run("id", options=["-u", "0:staff"]), 126 if runtime.podman else 125)


@pytest.mark.long
@OURS
@pytest.mark.parametrize("name", ["passwd", "group"])
def test_files_of_users_that_are_traps(runtime: Runtime, tmp_path: Path, name: str) -> None:
    """Neither waits for a writer that never comes, nor reads without end, nor takes the caller's input for it."""
    fifo = tarfile.TarInfo(f"etc/{name}")
    fifo.type = tarfile.FIFOTYPE
    sparse = tarfile.TarInfo(f"etc/{name}")
    sparse.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**40)}
    traps: dict[str, Member] = {
        "a fifo": (fifo, b""),
        "a terabyte": (sparse, b""),
        "endless": link(f"etc/{name}", "/dev/zero"),
        "the caller's input": link(f"etc/{name}", "/dev/stdin"),
        "a directory": folder(f"etc/{name}"),
        "a loop": link(f"etc/{name}", name),
        "nothing": link(f"etc/{name}", "/no/where"),
        "the host's": link(f"etc/{name}", f"../../../../../..{tmp_path}/of-the-host"),
    }
    (tmp_path / "of-the-host").write_text("alice:x:0:alice\n" if name == "group" else "alice:x:0:0::/:/bin/sh\n")
    wanted = "0" if runtime.rootless else ("1000:alice" if name == "group" else "alice")
    for what, trap in traps.items():
        own = imported(runtime, tmp_path, [*shell(), trap])
        typed = b"alice:x:0:0::/:\nalice:x:0:\n"
        result = own.run("cat", options=["-i", "-u", wanted], input=typed, under=("prlimit", f"--as={2**30}"))
        if result.code == 0:
            assert result.out == typed, what
            assert runtime.rootless, what
        else:
            assert "alice" in own.refusal(result) or name in own.refusal(result), what


@ROOTS
def test_standard_streams_belong_to_the_user(runtime: Runtime, fresh: Fresh) -> None:
    """Programs open them by name: a web server logs to /dev/stdout."""
    typed, out, err = fresh.word(), fresh.word(), fresh.word()
    script = f"cat /dev/stdin; echo {out} > /dev/stdout; echo {err} > /dev/stderr"
    result = runtime.run("sh", "-c", script, options=["-i", "-u", "alice"], input=typed.encode())
    assert (result.out.decode(), result.err.decode()) == (f"{typed}{out}\n", f"{err}\n")


@ROOTS
@OURS
def test_files_of_the_caller_do_not_become_the_users(runtime: Runtime, tmp_path: Path) -> None:
    """Podman stands between with pipes. A pipe may be given away, a file may not."""
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        started = runtime.popen(runtime.words(["sh", "-c", "echo hi"], ["-u", "alice"]), stdout=out, stderr=err)
        assert started.end().code == 0
    assert (tmp_path / "out").read_text() == "hi\n"
    assert {(tmp_path / name).stat().st_uid for name in ("out", "err")} == {0}
    assert os.stat("/dev/null").st_uid == 0
    with (tmp_path / "out").open() as typed:
        started = runtime.popen(runtime.words(["cat"], ["-i", "-u", "alice"]), stdin=typed)
        assert started.end().text == "hi"
    assert (tmp_path / "out").stat().st_uid == 0


@ROOTS
def test_a_program_that_its_user_may_not_read(runtime: Runtime, tmp_path: Path) -> None:
    """To execute it is enough, execve(2)."""
    program = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    own = imported(runtime, tmp_path, [*shell(), file("opt/true", program, 0o711)])
    assert own.run("/opt/true", options=["-u", "1000"]).code == 0


@ROOTS
def test_the_terminal_belongs_to_the_user(runtime: Runtime) -> None:
    screen = runtime.terminal(
        "sh", "-c", "stat -c %u $(tty); echo hi > $(tty); mesg n; stat -c %a $(tty)", options=["-it", "-u", "alice"]
    )
    screen.expect("1000\r\nhi\r\n")
    assert screen.end() == 0


@pytest.mark.as_user("root may")
@OURS
def test_without_root_there_is_no_other_user(runtime: Runtime, fresh: Fresh) -> None:
    for user in ("alice", "1000", "4242:4242", "0:50", ":staff"):
        assert "without root" in runtime.refusal(runtime.run("true", options=["-u", user]))
    for user in ("root", "0", "0:0", "root:root"):
        word = fresh.word()
        assert runtime.output("echo", word, options=["-u", user]) == word


# ---- -w --------------------------------------------------------------------------------------------------------------


WHERE = {
    "/": "/",
    "/etc": "/etc",
    "/home/alice/": "/home/alice",
    "/usr/../etc": "/etc",
    "/etc//.": "/etc",
    "/proc/self": "/proc/1",
    "": "/",
}


def test_where(runtime: Runtime) -> None:
    assert {place: runtime.output("pwd", options=["-w", place]) for place in WHERE} == WHERE


@OURS
def test_a_place_that_is_missing_is_made(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """As Docker does; Podman wants it to be there."""
    own, place = imported(runtime, tmp_path, shell()), f"/{fresh.word()}/for/{fresh.word()}"
    assert own.output("sh", "-c", "pwd; stat -c '%a %u' . ..", options=["-w", place], umask=0o077).split("\n") == [
        place,
        "755 0",
        "755 0",
    ]


@ROOTS
@OURS
def test_a_place_closed_to_the_user(runtime: Runtime) -> None:
    """Docker goes there as root, before it becomes the user."""
    assert runtime.output("pwd", options=["-u", "alice", "-w", "/root"]) == "/root"


def test_a_place_that_cannot_be(runtime: Runtime) -> None:
    for place in ("/etc/passwd", "/etc/passwd/below", "/dev/null", "/proc/nothing", "/sys/new"):
        result = runtime.run("true", options=["-w", place])
        assert place in runtime.refusal(result, 127 if runtime.podman and result.code == 127 else 126)


def test_a_relative_place(runtime: Runtime) -> None:
    for place in ("etc", "./", "../etc", "~", "x" * 5000):
        said = runtime.refusal(runtime.run("true", options=["-w", place]), 126 if runtime.podman else 125)
        assert place in said or runtime.podman


@pytest.mark.ours_alone("runc before 1.1.12 has CVE-2024-21626, and Podman does not hand descriptors on")
def test_cve_2024_21626_an_inherited_directory_is_no_way_out(runtime: Runtime, tmp_path: Path) -> None:
    """Leaky Vessels: `-w /proc/self/fd/7`, where 7 is a directory of the host's that runc or its caller has open.

    When ours goes to the working directory, no such descriptor is open any more."""
    (tmp_path / "secret").write_text("secret of the host")
    here = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    descriptors = [here, os.dup2(here, 200)]
    try:
        for place in (
            *(f"/proc/self/fd/{number}" for number in (3, 4, 5, 6, 7, 8, *descriptors)),
            "/proc/self/fd/200/..",
        ):
            result = runtime.run("sh", "-c", "cat secret; pwd", options=["-w", place], pass_fds=descriptors)
            assert b"secret of" not in result.out
            runtime.refusal(result, 126)
    finally:
        for number in descriptors:
            os.close(number)


def test_cve_2026_55686_links_in_the_image(runtime: Runtime, tmp_path: Path) -> None:
    """Podman made the working directory from outside, by a path below the image: a link in it led to the host.

    Ours is made after pivot_root, where links lead to places in the image, whatever they say."""
    (tmp_path / "outside").mkdir()
    members = [link("work", "/etc"), link("up", "../../../etc"), link("host", str(tmp_path)), file("etc/passwd", b"")]
    own = imported(runtime, tmp_path, [*shell(), *members])
    for place in ("/work", "/up"):
        assert own.output("pwd", options=["-w", place]) == "/etc"
    if not runtime.podman:  # made there, Podman refuses
        result = own.run("sh", "-c", "pwd", options=["-w", "/host/outside/new"])
        assert result.code == 0 or own.refusal(result, 126)
    assert [*(tmp_path / "outside").iterdir()] == []
