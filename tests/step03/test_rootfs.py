"""Step 3: a root file system of its own, from which no way leads to the host's."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support import host, image, strace
from tests.support.fresh import Fresh
from tests.support.image import Member, file, folder, link
from tests.support.runtime import PROBES, Runtime
from tests.support.store import imported, shell, sheltered

# ---- the host's root cannot be reached -------------------------------------------------------------------------------


def test_the_root_is_the_images(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    name = fresh.word()
    own = imported(runtime, tmp_path, [*shell(), file(name, b"")])
    found = {*own.output("ls", "-a", "/").split()} - {".", ".."}
    found -= {"etc"} if runtime.step >= 9 else set()  # for the files that a network brings
    found -= {"run"} if runtime.podman else set()
    assert found == {"bin", name, "dev", "proc", "sys"}


WAYS = [
    "",
    "/..",
    "/../../../..",
    "/proc/1/root",
    "/proc/self/root/..",
    "/proc/self/cwd/../..",
    "/proc/1/cwd/..",
    "/dev/..",
]
WAYS += ["/proc/thread-self/root", "/proc/1/task/1/cwd", "/sys/../..", "/proc/../..", "/tmp/../.."]


def test_no_path_leads_to_the_host(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """All lead to the container's own root, and to a file that it has made there."""
    secret, word = tmp_path / "secret", fresh.word()
    secret.write_text("secret of the host")
    script = f'echo {word} > /dev/shm/own; for way in "$@"; do '
    script += f'stat -L -c %i "$way/"; cat "$way/dev/shm/own" "$way{secret}"; done 2>/dev/null; true'
    seen = runtime.output("sh", "-c", script, "sh", *WAYS).splitlines()
    assert len(seen) == 2 * len(WAYS) and len({*seen[::2]}) == 1, "all lead to the same directory"
    assert {*seen[1::2]} == {word}


def test_the_way_out_of_a_chroot_does_not_lead_out(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "mark").touch()
    assert runtime.probe("root_escape", "/dev/shm/cell", str(tmp_path / "mark")) is False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may chroot")
def test_the_way_out_leads_out_of_a_chroot(tmp_path: Path) -> None:
    """That the same program does get out shows that the test above can fail."""
    (tmp_path / "mark").touch()
    (tmp_path / "prison").mkdir()
    enter = "import json, os, sys; os.chroot(sys.argv.pop(1)); os.chdir('/')\n"
    program = enter + (PROBES / "root_escape.py").read_text()
    words = [image.PYTHON, "-I", "-S", "-c", program, f"{tmp_path}/prison", "/cell", f"{tmp_path}/mark"]
    assert subprocess.run(words, capture_output=True, check=True).stdout == b"true\n"


@pytest.mark.parametrize("options", [[], ["-t"]], ids=["", "-t"])
def test_nothing_of_the_hosts_is_mounted(runtime: Runtime, options: list[str]) -> None:
    mounts = runtime.output("cat", "/proc/self/mountinfo", options=options).splitlines()
    points = [line.split()[4] for line in mounts]
    own = ["/etc/hosts", "/etc/hostname", *(["/etc/resolv.conf"] if runtime.step >= 9 else [])]
    own += ["/run"] if runtime.podman else []
    assert [point for point in points if not point.startswith(("/proc", "/sys", "/dev", *own))] == ["/"]
    assert len({*points}) == len(points), "nothing lies above another"


@pytest.mark.ours_alone("Podman mounts its layers on the host")
def test_the_host_sees_no_mount_of_a_container(runtime: Runtime) -> None:
    """They are made inside: whatever ends the container takes them away."""
    before = {*host.mounts()}
    started = runtime.start("sh", "-c", "echo ready; cat", options=["-i"], stdin=subprocess.PIPE)
    assert started.line() == "ready"
    assert {*host.mounts()} == before
    inside = Path(f"/proc/{host.init().pid}/mountinfo").read_text()
    assert any(line.split()[4] == "/proc" for line in inside.splitlines()), "where the container has them"
    assert started.end(b"").code == 0


@pytest.mark.ours_alone("its conmon wants to know where it is")
def test_a_caller_who_stands_in_the_image(runtime: Runtime, tmp_path: Path) -> None:
    """Whoever stands in a directory that becomes a mount point, or in another mount namespace's, is not confused."""
    own = imported(runtime, tmp_path, shell())
    rootfs = Path(str(own.image)) if own.step < 6 else next(tmp_path.glob("state/images/*/rootfs"))
    assert own.output("pwd", cwd=rootfs / "bin") == "/"
    assert own.output("ls", "/bin/sh", under=("sh", "-c", f'cd {rootfs}; exec "$@"', "sh")) == "/bin/sh"


# ---- /dev ------------------------------------------------------------------------------------------------------------

DEVICES = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
LINKS = {
    "fd": "/proc/self/fd",
    "ptmx": "pts/ptmx",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}


@pytest.mark.parametrize("options", [[], ["-t"]], ids=["", "-t"])
def test_dev_holds_what_docker_puts_there(runtime: Runtime, options: list[str]) -> None:
    expected = {*DEVICES, *LINKS, "pts", "shm", "mqueue", *(["console"] if options else [])}
    found = {*runtime.output("ls", "/dev", options=options).split()}
    assert found - {"core"} == expected  # Podman links it to /proc/kcore, where there is one


def test_devices_are_what_they_are_called_and_for_all(runtime: Runtime) -> None:
    paths = [f"/dev/{name}" for name in DEVICES]
    lines = runtime.output("stat", "-c", "%n %F %t:%T %a", *paths).splitlines()
    assert lines == [f"/dev/{name} character special file {numbers} 666" for name, numbers in DEVICES.items()]
    links = runtime.output("stat", "-c", "%N", *(f"/dev/{name}" for name in LINKS)).splitlines()
    assert links == [f"'/dev/{name}' -> '{target}'" for name, target in LINKS.items()]


def test_devices_work(runtime: Runtime, fresh: Fresh) -> None:
    typed = fresh.word()
    assert runtime.probe("root_devices", typed) == OUTCOMES | {"ptmx": f"/dev/pts/{typed}"}


@pytest.mark.step(8)
@pytest.mark.as_root("-u is root's")
def test_devices_work_for_any_user(runtime: Runtime, fresh: Fresh) -> None:
    typed = fresh.word()
    found = runtime.probe("root_devices", typed, options=["-u", "alice"])
    assert found == OUTCOMES | {"ptmx": f"/dev/pts/{typed}"}


OUTCOMES = {
    "null": [0, 16],
    "zero": [True, 16],
    "full": [True, "ENOSPC"],
    "random": 16,
    "urandom": 16,
    "tty": "ENXIO",  # without -t there is none
}


def test_memory_and_queues_are_for_all(runtime: Runtime) -> None:
    assert runtime.output("stat", "-c", "%a %u", "/dev/shm", "/dev/mqueue").splitlines() == ["1777 0", "1777 0"]
    mounts = runtime.output("grep", "-E", " /dev/(shm|mqueue) ", "/proc/self/mountinfo")
    assert all({"nosuid", "nodev", "noexec"} <= {*line.split()[5].split(",")} for line in mounts.splitlines())


def test_standard_streams_have_names(runtime: Runtime, fresh: Fresh) -> None:
    typed, out, err = fresh.word(), fresh.word(), fresh.word()
    script = f"cat /dev/stdin; echo {out} > /dev/stdout; echo {err} > /dev/stderr; ls /dev/fd/ | grep -c '^[012]$'"
    under = ("sh", "-c", f'printf "{typed} " | "$@" 2>&1 | cat', "sh")  # pipes of the caller's own
    assert runtime.output("sh", "-c", script, options=["-i"], under=under) == f"{typed} {out}\n{err}\n3"


@pytest.mark.parametrize("kind", ["b 254 0", "c 1 1"], ids=["the host's disk", "its memory"])
def test_no_other_device_can_be_made(runtime: Runtime, kind: str) -> None:
    """We have no device cgroup that would forbid to open it."""
    options = ["--cap-drop", "MKNOD"] if runtime.podman else []
    result = runtime.run("mknod", "/dev/shm/device", *kind.split(), options=options)
    assert result.code != 0 and b"not permitted" in result.err


def test_the_hosts_devices_are_not_the_containers(runtime: Runtime) -> None:
    before = os.stat("/dev/null")
    runtime.run("chmod", "600", "/dev/null")
    after = os.stat("/dev/null")
    os.chmod("/dev/null", stat.S_IMODE(before.st_mode))
    assert after.st_mode == before.st_mode and after.st_uid == before.st_uid


# ---- /proc and /sys --------------------------------------------------------------------------------------------------

MASKED = """
    /proc/acpi /proc/asound /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi /proc/timer_list
    /proc/timer_stats /sys/firmware
""".split()
MASKED_LATELY = "/proc/interrupts /sys/devices/virtual/powercap".split()  # by Docker, not yet by an old Podman
READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()


def test_masked_paths_show_nothing(runtime: Runtime, fresh: Fresh) -> None:
    masked = [path for path in (*MASKED, *([] if runtime.podman else MASKED_LATELY)) if os.path.exists(path)]
    assert masked, "this kernel has some of them"
    script = 'for path in "$@"; do if test -d $path; then ls -A $path; else cat $path; fi; done; echo $0'
    word = fresh.word()
    assert runtime.output("sh", "-c", script, word, *masked) == word


def test_what_is_the_machines_is_read_only(runtime: Runtime) -> None:
    paths = [path for path in (*READ_ONLY, "/sys", *MASKED) if os.path.isdir(path)]
    writable = runtime.probe("root_writable", *paths)
    assert [path for path in writable if not (runtime.podman and path.startswith("/sys/fs/cgroup/"))] == []
    if os.path.exists("/proc/sysrq-trigger"):
        assert runtime.run("sh", "-c", "echo h > /proc/sysrq-trigger").code != 0


def test_what_is_ones_own_is_not(runtime: Runtime, fresh: Fresh) -> None:
    score, name = fresh.number(500, 1000), fresh.word()
    script = f"cd /proc/$$; echo {score} > oom_score_adj; echo {name} > comm; cat oom_score_adj comm; :"
    assert runtime.output("sh", "-c", script) == f"{score}\n{name}"


def test_masks_cannot_be_taken_off(runtime: Runtime) -> None:
    """Neither as the container's root, nor as root of a user namespace made inside."""
    assert runtime.probe("root_climb", " ".join(MASKED), " ".join(READ_ONLY)) == []


def test_etc_hosts_and_hostname_are_the_containers_own(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    """Whatever the image has there; what is written to them is gone with the container."""
    name = fresh.word()
    members = [*shell(), folder("etc"), file("etc/hosts", b"6.6.6.6 localhost\n"), file("etc/hostname", b"image\n")]
    own = imported(runtime, tmp_path, members)
    script = (
        "echo $(cat /etc/hostname); grep -c 6.6.6.6 /etc/hosts; grep -q '127.0.0.1.*localhost' /etc/hosts && echo fine"
    )
    assert own.run("sh", "-c", script, options=["--hostname", name]).text == f"{name}\n0\nfine"
    own.output("sh", "-c", "echo 7.7.7.7 other >> /etc/hosts")
    assert own.run("grep", "-c", "7.7.7.7", "/etc/hosts").text == "0"


# ---- images that are traps -------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.ours_alone("Podman has other mounts")
@pytest.mark.parametrize("name", ["proc", "sys", "dev", "etc"])
def test_directories_that_lead_elsewhere(runtime: Runtime, tmp_path: Path, name: str, fresh: Fresh) -> None:
    """An image whose /sys is a link to `/`, to the host, or a file: it works, or one line says why not; and no more."""
    outside, word = tmp_path / "outside", fresh.word()
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_text("secret of the host")
    if runtime.user is not None:
        os.chown(outside, runtime.user, runtime.user)
    targets = ["/", str(outside), *([] if name == "etc" else ["/proc/self/cwd", f"/proc/self/cwd{outside}"])]
    traps: list[list[Member]] = [[link(name, target)] for target in targets]
    traps += [[file(name, b"")], [folder(name), link(f"{name}/shm", "/"), link(f"{name}/fd", str(outside))]]
    script = (
        f"for way in / /.. /{name} /{name}/..; do ls $way; cat $way{outside}/file; done 2>/dev/null;"
        f" echo {word}; echo >/{name}/new"
    )
    before = {*host.mounts()}
    for number, trap in enumerate(traps):
        own = imported(runtime, tmp_path, [*shell(), *trap])
        result = own.run("sh", "-c", script, under=sheltered(runtime, tmp_path))
        if result.code == 125:
            assert f"/{name}" in own.refusal(result)
        else:
            assert word.encode() in result.out, f"trap {number}"
        assert b"secret" not in result.out and b"boot" not in result.out, f"trap {number}"
        assert sorted(path.name for path in outside.iterdir()) == ["file", "folder"], f"trap {number}"
    assert {*host.mounts()} == before


@pytest.mark.ours_alone("Podman has other mounts")
def test_an_image_that_feigns_proc(runtime: Runtime, tmp_path: Path) -> None:
    """What the runtime needs to know may not be read from the image: it would say that there is nothing to drop."""
    feigned = [
        *(link("proc", "/"), link("sys", "/dev/fd/kernels"), folder("dev/fd/kernels")),
        *(file("self/fd/kernels/kernel/cap_last_cap", b"-1\n"), file("self/status", b"CapPrm:\t000001ffffffffff\n")),
    ]
    own = imported(runtime, tmp_path, [*shell(), *feigned])
    under = sheltered(runtime, tmp_path)
    result = own.run("sh", "-c", "ls /..; mount -t proc proc /bin && cat /bin/self/status", under=under)
    assert b"CapEff" not in result.out and b"boot" not in result.out
    if result.code == 125:
        own.refusal(result)


TRAP = "/proc/sys/kernel/core_pattern"  # who writes to it has the host execute what he likes, at the next crash


def test_cve_2025_31133_masks_are_not_of_the_images_dev_null(runtime: Runtime, tmp_path: Path) -> None:
    """runc masked a file with whatever stood at /dev/null: with a link to core_pattern there, the mask was that file,
    open for writing; with nothing there, no mask. Ours is a null device, made a moment before in a /dev that is new and
    in memory, and what cannot be masked ends the run. Neither the image nor another container of it has a say."""
    own = imported(runtime, tmp_path, [*shell(), folder("dev"), link("dev/null", TRAP), link("dev/zero", TRAP)])
    replace = f"rm -f /dev/null /dev/zero; ln -s {TRAP} /dev/null; echo ready; sleep 60"
    other = own.start("/bin/busybox", "sh", "-c", replace)
    assert other.line() == "ready"
    look = 'for path in "$@"; do test -d $path || stat -L -c "%t:%T %n" $path; done; echo end; : >>' + TRAP
    masked = [path for path in MASKED if os.path.exists(path)]
    result = own.run("sh", "-c", look, "sh", "/dev/null", *masked)
    *seen, end = result.text.splitlines()
    assert end == "end" and len(seen) > 1, "this kernel has files that are masked"
    assert [line for line in seen if not line.startswith("1:3 ")] == []
    assert result.code != 0 and b"core_pattern" in result.err, "it cannot be opened for writing"


def test_cve_2025_52565_the_console_is_the_terminal(runtime: Runtime, tmp_path: Path) -> None:
    """runc bound /dev/pts/0 on /dev/console, wherever a link at either led: to core_pattern, open for writing.

    Ours are in a devpts and a memory that have just been mounted, and hold nothing but what we have put there."""
    names = ("dev/console", "dev/ptmx", "dev/pts/0", "dev/pts/ptmx")
    own = imported(runtime, tmp_path, [*shell(), folder("dev/pts"), *(link(name, TRAP) for name in names)])
    ask = 'tty; test -h /dev/console || stat -c "%F %t" /dev/console; echo typed > /dev/console; : >>' + TRAP
    result = own.run("/bin/busybox", "sh", "-c", ask, options=["-t"])
    tty, kind, typed, refusal = (line.strip() for line in result.out.decode().splitlines())
    assert (tty, kind, typed) == ("/dev/pts/0", "character special file 88", "typed")
    assert "core_pattern" in refusal and result.code != 0


@pytest.mark.ours_alone("another program, and no way to look into it")
def test_cve_2025_52881_nothing_is_written_to_proc(runtime: Runtime, trace: Path) -> None:
    """runc wrote labels and settings to files of the container's /proc; where another container could redirect a path,
    they went to core_pattern or sysrq-trigger instead. From pivot_root on, ours writes to no file of /proc or /sys."""
    assert runtime.run("true", options=["-t"], under=strace.recording(trace)).code == 0
    opened = list(strace.opened_to_write(trace, "pivot_root"))
    assert "/dev/pts/ptmx" in opened
    assert [path for path in opened if path.startswith(("/proc", "/sys"))] == []


@pytest.mark.ours_alone("runc before 1.3.6 falls for it, and Podman does not keep it from that")
def test_cve_2026_41579_dev_is_a_link_to_the_host(runtime: Runtime, tmp_path: Path) -> None:
    """runc put its links into /dev by a path below the image before pivot_root, and removed `ptmx` there: with a /dev
    that is a link, in a directory of the host's. Ours begins after pivot_root, when each path ends in the container,
    and mounts nothing on a link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "ptmx").write_text("of the host")
    if runtime.user is not None:
        for path in (outside, outside / "ptmx"):
            os.chown(path, runtime.user, runtime.user)
    targets = [str(outside), f"../../../../../../../..{outside}", f"proc/self/cwd{outside}"]
    for target in targets:
        own = imported(runtime, tmp_path, [*shell(), link("dev", target)])
        result = own.run("true", under=sheltered(runtime, tmp_path))
        assert [*outside.iterdir()] == [outside / "ptmx"] and not (outside / "ptmx").is_symlink()
        assert "/dev is not a directory" in own.refusal(result)


# ---- as in the book, a container writes into its image: until step 4 -------------------------------------------------


@pytest.mark.step(3, until=3)
def test_what_a_container_writes_is_in_the_image(runtime: Runtime, tmp_path: Path, fresh: Fresh) -> None:
    own, word = imported(runtime, tmp_path, shell()), fresh.word()
    own.output("sh", "-c", f"echo {word} > /left-behind")
    assert own.output("cat", "/left-behind") == word
    assert Path(str(own.image), "left-behind").read_text() == f"{word}\n"


@pytest.mark.step(4)
def test_what_a_container_writes_is_not_in_the_image(runtime: Runtime, tmp_path: Path) -> None:
    own = imported(runtime, tmp_path, shell())
    own.output("sh", "-c", "echo mine > /left-behind")
    assert own.run("cat", "/left-behind").code == 1


@pytest.mark.step(3, until=3)
def test_two_containers_of_an_image_see_each_others_files(runtime: Runtime, tmp_path: Path) -> None:
    own = imported(runtime, tmp_path, shell())
    script = "echo ready; read _; echo mine > $0; read _; ls -d /one /other"
    one, other = (own.start("sh", "-c", script, name, options=["-i"], stdin=-1) for name in ("/one", "/other"))
    assert (one.line(), other.line()) == ("ready", "ready")
    assert one.stdin and other.stdin
    for each in (one, other):
        assert each.stdin
        each.stdin.write(b"\n")
        each.stdin.flush()
    rootfs = Path(str(own.image))
    host.wait_until(lambda: (rootfs / "one").exists() and (rootfs / "other").exists(), "both have written")
    assert one.end(b"\n").text == other.end(b"\n").text == "/one\n/other"


@pytest.mark.step(4)
def test_two_containers_of_an_image_do_not_see_each_others_files(runtime: Runtime, tmp_path: Path) -> None:
    own = imported(runtime, tmp_path, shell())
    script = "echo mine > $0; echo ready; read _; ls -d /one /other"
    one, other = (own.start("sh", "-c", script, name, options=["-i"], stdin=-1) for name in ("/one", "/other"))
    assert (one.line(), other.line()) == ("ready", "ready")
    assert (one.end(b"\n").text, other.end(b"\n").text) == ("/one", "/other")


@pytest.mark.step(8)
@pytest.mark.ours_alone("runc runs from a copy of itself, and lets it happen")
def test_cve_2019_5736_a_program_that_leads_back_to_the_runtime(runtime: Runtime, tmp_path: Path) -> None:
    """A script, a script's script or a link that names /proc/self/exe is the host's own interpreter; who executes it
    can open it, and write to it later. We look where a program leads before we execute it."""
    members = [
        *shell(),
        file("script", b"#!/proc/self/exe -c pass\n", 0o755),
        file("second", b"#! /script\n", 0o711),
        link("link", "/proc/self/exe"),
        file("fine", b"#!/bin/sh\necho fine\n", 0o755),
    ]
    own = imported(runtime, tmp_path, members)
    for program in ("/script", "/second", "/link", "/proc/self/exe"):
        assert "the runtime itself" in own.refusal(own.run(program), 126)
    assert own.output("/fine") == "fine"
