"""Measure how fast a container starts, how much memory it needs, how fast an image is imported: `make bench`.

All is measured in one run and in turn (A B C, A B C, …). So if the machine is slow, or becomes slow, it is slow for all
of them: look at the ratio. After the run only tar files in .cache/ are left: the containers have a state directory of
their own, and Podman its own storage. As root, everything with a network runs in a network namespace of its own.
"""

import ctypes
import io
import itertools
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

PROJECT = Path(__file__).resolve().parent.parent
CACHE = PROJECT / ".cache" / "bench"
ROOT = os.geteuid() == 0
MB = 1_000_000

# The aims. They are shown, but not enforced: most machines reach them, not all.
ABOVE_TYPER_FIRST, ABOVE_TYPER = 0.015, 0.030  # seconds that `run true` may take beyond Typer: in step 1, in the others
OF_PODMAN = 0.6  # of the time of `podman run --rm --network none`
OF_PODMAN_CONNECTED = 0.7  # … of the time of `podman run --rm`, both with a network
OF_TAR = 2  # times: importing compared with `tar -x`, committing compared with `tar -c` or `cp -a`
LISTED = 0.5  # seconds for `ps -a` with a thousand containers
KEEPER = 8  # MiB of memory for the process that stays with a container
INDEPENDENT = 1.1  # times: starting from a large image, or from one of many, compared with a small, single one

# runc and cgroupfs work without systemd. A root without CAP_SYS_RESOURCE may set these limits: containers.conf(5).
CONTAINERS_CONF = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
"""


@dataclass(frozen=True)
class Effort:
    """How often each thing is measured."""

    runs: int = 50  # start-ups, one after another
    crowd: int = 20  # start-ups at once
    crowds: int = 3
    imports: int = 5
    images: int = 200  # in the store
    records: int = 1000  # containers that have ended and are on record
    detached: int = 200  # containers that run in the background


numbers = itertools.count()
notes: list[str] = []  # what could not be measured, and why
terminal = Console(stderr=True)


class Failed(Exception):
    """A command did not exit with 0. The message names the command and its error."""


@dataclass(eq=False)
class Contender:
    """One line of the table: a command, and what was measured of it."""

    name: str
    argv: Callable[[Sequence[str]], list[str]]  # what to run, given the command that is to run inside
    env: dict[str, str]
    alone: list[float] = field(default_factory=list)  # seconds, one run after another
    crowd: list[float] = field(default_factory=list)  # seconds until the last of several started together is done
    largest: int = 0  # KiB: the peak of its largest process, VmHWM of proc_pid_status(5)
    together: int = 0  # KiB: the peak of all its processes together, the sum of Pss of proc_pid_smaps(5)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        argv = self.argv(command or ["true"])
        # Errors go to a file, not a pipe: a process that is left behind would hold a pipe open.
        return subprocess.Popen(
            argv, cwd=PROJECT, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        if process.wait():
            raise Failed(f"{self.name}: exit {process.returncode}: {last_error()}")

    def once(self) -> float:
        began = time.perf_counter()
        self.finish(self.start())
        return time.perf_counter() - began

    def at_once(self, how_many: int) -> float:
        began = time.perf_counter()
        for process in [self.start() for _ in range(how_many)]:
            self.finish(process)
        return time.perf_counter() - began

    def weigh(self) -> None:
        """Run `sleep`, and watch the memory of all processes that belong to it.

        getrusage(2) would not do: its ru_maxrss also counts our own memory, which the child shares until its exec.
        """
        others = set(descendants())
        process = self.start("sleep", "0.5")
        while process.poll() is None:
            own = [pid for pid in descendants() if pid not in others]
            self.largest = max(self.largest, *(kib(pid, "status", "VmHWM:") for pid in own), 0)
            self.together = max(self.together, sum(kib(pid, "smaps_rollup", "Pss:") for pid in own))
            time.sleep(0.01)
        self.finish(process)


errors = tempfile.TemporaryFile()  # noqa: SIM115  what the measured commands say on standard error


def last_error() -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "without a word"


def descendants() -> Iterator[int]:
    """Every process below this one."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = children.get(os.getpid(), [])
    while found:
        yield from found
        found = [child for pid in found for child in children.get(pid, [])]


def kib(pid: int, file: str, name: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0


def adopt_orphans() -> None:
    """Become the parent of Podman's conmon, which leaves its own parent, to see its memory: a subreaper, prctl(2)."""
    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def bury_orphans() -> None:
    """Wait until all orphans have ended: when a container ends, conmon calls a program that writes to the storage."""
    give_up = time.monotonic() + 10
    with suppress(ChildProcessError):
        while time.monotonic() < give_up:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.05)


# ------------------------------------------------------------------------------------------------- what is compared


def environment(state: Path) -> dict[str, str]:
    """Return the environment, without the caller's PYTHON… variables: they would change how fast Python starts."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "USER", "XDG_RUNTIME_DIR") if name in os.environ}
    return kept | {"MYDOCKER_ROOT": str(state), "CONTAINERS_CONF": str(state / "containers.conf")}


def has_images(step: str) -> bool:
    return step >= "step03"


def start_up(step: str, state: Path) -> Contender:
    run = [step, "run", "busybox"] if has_images(step) else [step, "run"]  # steps 1 and 2 run on the host's files
    if step >= "step07":
        run.insert(2, "--rm")  # the other containers leave nothing either
    run[2:2] = no_network(step)
    return Contender(" ".join([*run, "true"]), before(sys.executable, "-m", *run), environment(state))


def has_networks(step: str) -> bool:
    return step >= "step09"


def no_network(step: str) -> list[str]:
    """Return the options for no network. By default there would be one on this machine itself."""
    return ["--network", "none"] if has_networks(step) else []


def connected(step: str, state: Path, namespaces: list[str]) -> Contender:
    run = [step, "run", "--rm", "busybox"]
    return Contender(" ".join([*run, "true"]), before(*namespaces, sys.executable, "-m", *run), environment(state))


def hold_namespaces(cleanup: ExitStack) -> list[str]:
    """Return the words before a command of root. Its bridge, rules and mounts then disappear with this process."""
    script = "ip link set lo up; echo ready; exec sleep infinity"
    holder = cleanup.enter_context(
        subprocess.Popen(["unshare", "--net", "--mount", "sh", "-c", script], stdout=subprocess.PIPE)
    )
    cleanup.callback(holder.kill)
    assert holder.stdout
    holder.stdout.readline()
    return ["nsenter", f"--target={holder.pid}", "--net"]


def call(step: str, state: Path, *words: str) -> None:
    """Call a command of the runtime other than `run`. Raises Failed."""
    Contender(" ".join([step, *words]), always(sys.executable, "-m", step, *words), environment(state)).once()


def before(*words: str) -> Callable[[Sequence[str]], list[str]]:
    return lambda command: [*words, *command]


def always(*words: str) -> Callable[[Sequence[str]], list[str]]:
    return lambda _: [*words]


def just_typer(command: Sequence[str]) -> list[str]:
    then = f"; import time; time.sleep({command[1]})" if command[0] == "sleep" else ""
    return [sys.executable, "-c", "import typer" + then]


def peers(scratch: Path, rootfs: Path | None, namespaces: list[str], cleanup: ExitStack) -> Iterator[Contender]:
    env = environment(scratch)
    yield Contender('python -c "import typer"', just_typer, env)
    unshare = ["unshare", "-fmpuin" if ROOT else "-rfmpuin", "--mount-proc"]
    yield Contender(" ".join([*unshare, "true"]), before(*unshare), env)
    if not rootfs:
        notes.append("runc, podman: there is no step with images yet, so nothing for them to run")
        return
    yield runc(scratch, rootfs, env)
    try:
        podman = podman_with_image(scratch, rootfs, env, namespaces, cleanup)
    except (Failed, FileNotFoundError) as error:
        notes.append(f"podman: {error}")
        return
    for options in ("--rm --network none", "--rm"):
        yield Contender(f"podman run {options}", before(*podman, "run", *options.split(), "busybox"), env)


def runc(scratch: Path, rootfs: Path, env: dict[str, str]) -> Contender:
    """Docker and Podman call runc. Each command has a bundle: https://github.com/opencontainers/runtime-spec"""

    def argv(command: Sequence[str]) -> list[str]:
        bundle = scratch / f"bundle-{command[0]}"
        if not bundle.exists():
            bundle.mkdir()
            subprocess.run(["runc", "spec", *([] if ROOT else ["--rootless"]), "-b", bundle], check=True)
            config = json.loads((bundle / "config.json").read_text())
            config["process"] |= {"args": list(command), "terminal": False}
            config["root"] = {"path": str(rootfs)}
            (bundle / "config.json").write_text(json.dumps(config))
        return ["runc", "--root", str(scratch / "runc"), "run", "-b", str(bundle), f"bench{next(numbers)}"]

    return Contender("runc run", argv, env)


def podman_with_image(
    scratch: Path, rootfs: Path, env: dict[str, str], namespaces: list[str], cleanup: ExitStack
) -> list[str]:
    """Return the words that call a Podman with `rootfs` as its image busybox. Raises Failed."""
    (scratch / "containers.conf").write_text(CONTAINERS_CONF)
    podman = ["podman", *(f"--{name}={scratch / 'podman' / name}" for name in ("root", "runroot", "tmpdir"))]
    if ROOT:
        podman = [*namespaces, "--mount", *podman]
    else:
        # The process that keeps rootless Podman's user namespace open.
        cleanup.callback(subprocess.run, [*podman, "system", "migrate"], env=env, capture_output=True)
    archive = scratch / "busybox.tar"
    subprocess.run(["tar", "-C", rootfs, "-cf", archive, "."], check=True)
    Contender("podman import", always(*podman, "import", str(archive), "busybox"), env).once()
    return podman


def tree(rootfs: Path, size: int) -> Path:
    """Make, once, a tar file of `rootfs` with about `size` bytes of this machine's /usr in /opt, 30 kB a file."""
    archive = CACHE / f"image-{size // MB}MB.tar"
    if archive.exists():
        return archive
    CACHE.mkdir(parents=True, exist_ok=True)
    half = archive.with_suffix(".half")
    with terminal.status(f"making {archive}"), tarfile.open(half, "w") as tar:
        tar.add(rootfs, ".")
        taken = files = 0
        for copy in itertools.count():  # if /usr is small, it is added more than once
            for folder, folders, names in os.walk("/usr"):
                folders.sort()
                inside = f"opt/{copy}/{Path(folder).relative_to('/usr')}"
                tar.add(folder, inside, recursive=False)
                for path in (Path(folder, name) for name in sorted(names)):
                    length = path.lstat().st_size
                    # Take a large file only when there are enough small ones to keep the mean at 30 kB.
                    if taken + length > 30_000 * (files + 300) or not (path.is_symlink() or os.access(path, os.R_OK)):
                        continue
                    tar.add(path, f"{inside}/{path.name}")
                    taken, files = taken + length, files + 1
                    if taken >= size:
                        half.rename(archive)
                        return archive
    raise AssertionError("count() never ends")


def debian(rootfs: Path) -> Path:
    """Make, once, a tar file of a Debian of 300 MB from its packages. Where this fails, `tree` makes one instead."""
    archive = CACHE / "debian-300MB.tar"
    if archive.exists():
        return archive
    lists = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    sources = [str(each) for each in lists if each.suffix in (".list", ".sources") and each.is_file()]
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")
    packages = "python3,perl,curl,ca-certificates"
    half = archive.with_suffix(".half.tar")
    make = always("mmdebstrap", "--quiet", "--variant=important", f"--include={packages}", release, str(half), *sources)
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        with terminal.status(f"making {archive}"):
            Contender("mmdebstrap", make, dict(os.environ)).once()
    except (Failed, FileNotFoundError) as error:
        notes.append(f"a Debian; instead of it, a part of this machine's /usr: {error}")
        return tree(rootfs, 300 * MB)
    half.rename(archive)
    return archive


def import_large(step: str, store: Path, rootfs: Path, size: int) -> None:
    """Import `rootfs` with `size` bytes in /opt, in files of 30 kB that are all alike. Raises Failed.

    The archive goes through a pipe, so it is not stored and nothing is written twice.
    """
    data = b"all alike\n" * 3_000
    argv = [sys.executable, "-m", step, "import", "-", "busybox"]
    process = subprocess.Popen(
        argv, cwd=PROJECT, env=environment(store), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors
    )
    with suppress(BrokenPipeError), process, tarfile.open(fileobj=process.stdin, mode="w|") as tar:
        tar.add(rootfs, ".")
        for number in range(size // len(data)):
            member = tarfile.TarInfo(f"opt/{number // 100}/{number}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    if process.returncode:
        raise Failed(f"{step} import: exit {process.returncode}: {last_error()}")


# ----------------------------------------------------------------------------------------------------- the measuring


def in_turn(what: str, rounds: int, contenders: list[Contender], measure: Callable[[Contender], object]) -> None:
    """Measure each one `rounds` times, in turn. If one fails, note this and leave it out; if the first fails, stop."""
    base = contenders[0]
    with terminal.status("") as status:
        for turn in range(rounds):
            status.update(f"{what}: {turn + 1} of {rounds}")
            for contender in list(contenders):
                try:
                    measure(contender)
                except (Failed, FileNotFoundError) as error:
                    if contender is base:
                        raise
                    notes.append(str(error))
                    contenders.remove(contender)


def try_out(contender: Contender) -> None:
    """Run each once, unmeasured. This fills the caches, and finds what is not installed or does not work here."""
    contender.once()


def run_alone(contender: Contender) -> None:
    contender.alone.append(contender.once())


def measure_start_up(contenders: list[Contender], effort: Effort) -> None:
    def at_once(contender: Contender) -> None:
        contender.crowd.append(contender.at_once(effort.crowd))

    in_turn("warming up", 1, contenders, try_out)
    in_turn("start-up", effort.runs, contenders, run_alone)
    in_turn("at once", effort.crowds, contenders, at_once)
    adopt_orphans()
    in_turn("memory", 1, contenders, Contender.weigh)


def measure_joining(effort: Effort) -> Iterator[list[Contender]]:
    """Measure a child that starts and ends, put into a cgroup in two ways: by its parent, and as our steps do it."""
    from step02_cgroups.cgroups import created
    from step02_cgroups.cgroups.limits import Limits
    from step02_cgroups.lib import linux
    from step02_cgroups.lib.linux import CLONE

    with created(f"bench-{os.getpid()}", Limits()) as cgroup:
        for version, ours in ((1, "init writes 0 to tasks"), (2, "born in it by CLONE_INTO_CGROUP")):
            places = [tree.base / cgroup.name for tree in cgroup.trees if tree.version == version]
            if not places:
                notes.append(f"cgroup v{version}: none here with controllers")
                continue
            moved, joined = (
                Contender(f"cgroup v{version} ({len(places)}): {how}", always(), {})
                for how in ("the parent writes a PID to cgroup.procs", ours)
            )
            for _ in range(effort.runs):
                for contender in (moved, joined):
                    began = time.perf_counter()
                    asked, ask = os.pipe()
                    pid = linux.clone(CLONE(0), cgroup.birthplace if contender is joined else None)
                    if pid == 0:
                        os.close(ask)
                        if contender is moved:
                            os.read(asked, 1)
                        else:
                            cgroup.enter()
                        os._exit(0)
                    if contender is moved:
                        for place in places:
                            (place / "cgroup.procs").write_text(str(pid))
                    os.close(ask)
                    os.close(asked)
                    os.waitpid(pid, 0)
                    contender.alone.append(time.perf_counter() - began)
            yield [moved, joined]


def measure_import(steps: Sequence[str], archive: Path, scratch: Path, effort: Effort) -> list[Contender]:
    """Measure `tar -x` and `import` of each step: the same archive, each into a new folder on the same file system."""
    unpack = ["tar", "-xf", str(archive), "-C"]
    tar = Contender(f"tar -x of {archive.stat().st_size // MB} MB", lambda _: [*unpack, tar.env["MYDOCKER_ROOT"]], {})
    contenders = [tar]
    for step in steps:
        importing = always(sys.executable, "-m", step, "import", str(archive), "large")
        contenders.append(Contender(f"{step} import", importing, {}))

    def afresh(measure: Callable[[Contender], None]) -> Callable[[Contender], None]:
        def measured(contender: Contender) -> None:
            with tempfile.TemporaryDirectory(dir=scratch) as target:
                contender.env = environment(Path(target))
                os.sync()  # not to wait for what the one before has left to write
                measure(contender)

        return measured

    in_turn("import", effort.imports, contenders, afresh(run_alone))
    in_turn("memory of import", 1, contenders, afresh(Contender.weigh))
    return contenders


def measure_commit(step: str, podman: list[str], archive: Path, scratch: Path, effort: Effort) -> list[Contender]:
    """Measure `tar -c` and `cp -a` of a root file system, and `commit` of a container of it, by the step and by Podman.

    tar and cp have to keep extended attributes, as `commit` does: file capabilities are extended attributes.
    """
    store, copy = scratch / "commit", scratch / "copy"
    ours, theirs = environment(store), environment(scratch)
    call(step, store, "import", str(archive), "large")
    call(step, store, "run", "-d", "--name", "box", *no_network(step), "large", "sleep", "1000")
    [rootfs] = store.glob("images/*/rootfs")
    python = [sys.executable, "-m", step]
    tars = [str(scratch / name) for name in ("theirs.tar", "ours.tar")]
    contenders = [
        Contender(
            f"tar -c --xattrs of {archive.stem}",
            always("tar", "-C", str(rootfs), "--xattrs", "-cf", tars[0], "."),
            theirs,
        ),
        Contender(f"{step} commit -o", always(*python, "commit", "box", "-o", tars[1]), ours),
        Contender("cp -a of the same", always("cp", "-a", str(rootfs), str(copy)), theirs),
        Contender(f"{step} commit", always(*python, "commit", "box", "made"), ours),
    ]
    afterwards = [
        Contender("rm", always("rm", "-rf", *tars, str(copy)), theirs),
        Contender(f"{step} rmi", always(*python, "rmi", "made"), ours),
    ]
    if podman:
        Contender("podman import", always(*podman, "import", "-q", str(archive), "large"), theirs).once()
        run = ["run", "-d", "--network", "none", "--name", "box", "large", "sleep", "1000"]
        Contender("podman run -d", always(*podman, *run), theirs).once()
        contenders.append(Contender("podman commit", always(*podman, "commit", "-q", "box", "made"), theirs))
        afterwards.append(Contender("podman rmi", always(*podman, "rmi", "made"), theirs))

    def measured(contender: Contender) -> None:
        os.sync()  # not to wait for what the one before has left to write
        run_alone(contender)

    try:
        for _ in range(effort.imports):
            in_turn("commit", 1, contenders, measured)
            # Only now: ext4 without a journal searches long for an inode when many have just been removed.
            in_turn("commit: cleaning up", 1, afterwards, Contender.once)
    finally:
        call(step, store, "rm", "-f", "box")
        if podman:
            Contender("podman rm", always(*podman, "rm", "-f", "box"), theirs).once()
    return contenders


def measure_images(step: str, rootfs: Path, scratch: Path, effort: Effort) -> list[Contender]:
    """Measure the start from an image of 10 MB, from one of 1 GB, and from the small one among many."""
    contenders = []
    for which in ("of 10 MB", "of 1 GB", f"of 10 MB, among {effort.images}"):
        store = scratch / which.replace(" ", "-")
        with terminal.status(f"importing an image {which}"):
            if which == "of 1 GB":
                import_large(step, store, rootfs, 1000 * MB)
            else:
                call(step, store, "import", str(tree(rootfs, 10 * MB)), "busybox")
        contenders.append(start_up(step, store))
        contenders[-1].name = f"{step} run true, image {which}"
    with terminal.status(f"importing {effort.images} images"), ThreadPoolExecutor(os.cpu_count()) as pool:
        small = scratch / "small-image"
        small.mkdir()
        (small / "file").write_text("a small image")
        done = [pool.submit(call, step, store, "import", str(small), f"image{n}") for n in range(effort.images - 1)]
    for each in done:
        each.result()
    in_turn("warming up", 1, contenders, try_out)
    in_turn("images", effort.runs, contenders, run_alone)
    return contenders


RECEIVE = """
import socket, sys, time
buffer = bytearray(1 << 20)
while True:
    try:
        connected = socket.create_connection(("127.0.0.1", 8080))
        began = time.perf_counter()
        received = sum(iter(lambda: connected.recv_into(buffer), 0))
    except OSError:
        received = 0
    if received:
        sys.exit(print(received / (time.perf_counter() - began)))
"""


def throughput(contender: Contender, namespaces: list[str]) -> float:
    """Measure how fast data comes through a published port: GB/s, the best of three."""
    *run, image = contender.argv([])
    serve = "head -c 200000000 /dev/zero | timeout 20 nc -l -p 80"
    best = 0.0
    for _ in range(3):
        words = [*run, "-p", "8080:80", image, "sh", "-c", serve]
        server = subprocess.Popen(words, env=contender.env, cwd=PROJECT, stderr=errors)
        receive = [*namespaces, sys.executable, "-c", RECEIVE]
        with suppress(subprocess.TimeoutExpired):  # a connection from before the server was ready has ended it
            told = subprocess.run(receive, capture_output=True, text=True, check=True, timeout=30).stdout
            best = max(best, float(told) / 1e9)
        server.wait()
    return best


def add_records(step: str, store: Path, count: int) -> None:
    """Add records of ended containers: copies of one record, as only two small files of each are read."""
    call(step, store, "run", *no_network(step), "--name", "record-0", "busybox", "true")
    [model] = (store / "containers").iterdir()
    config = json.loads((model / "config.json").read_text())
    for number in range(1, count):
        copy = model.with_name(f"{number:012x}")
        copy.mkdir()
        (copy / "config.json").write_text(json.dumps(config | {"id": copy.name, "name": f"record-{number}"}))
        (copy / "state.json").write_text((model / "state.json").read_text())


def podman_words(contenders: Sequence[Contender]) -> list[str]:
    """Return the words that call Podman, if it works here."""
    for contender in contenders:
        if contender.name == "podman run --rm --network none":
            return contender.argv([])[: -len(("run", "--rm", "--network", "none", "busybox"))]
    return []


def measure_detached(step: str, podman: list[str], scratch: Path, effort: Effort) -> dict[str, list[Contender]]:
    """Measure `run -d` and `ps -a` with no other container on record and with many, and the memory of the monitors."""
    few, many, many_of_podman = scratch / step, scratch / f"{step}-records", environment(scratch)
    add_records(step, many, effort.records)
    ours = [sys.executable, "-m", step]
    run = ["run", *no_network(step), "-d", "--rm", "busybox", "true"]
    start = [
        Contender(f"{step} run -d", always(*ours, *run), environment(few)),
        Contender(f"{step} run -d, {effort.records} on record", always(*ours, *run), environment(many)),
    ]
    listing = [Contender(f"{step} ps -a of {effort.records}", always(*ours, "ps", "-a"), environment(many))]
    keepers = [
        Contender(
            f"{step}: monitor, mean of {effort.detached}",
            before(*ours, "run", *no_network(step), "-d", "busybox"),
            start[0].env,
        )
    ]
    if podman:
        run = ["run", "--network", "none", "-d", "--rm", "busybox", "true"]
        start.append(Contender("podman run -d", always(*podman, *run), many_of_podman))
        create = Contender("podman create", always(*podman, "create", "busybox", "true"), many_of_podman)
        with terminal.status(f"podman create, {effort.records} times"):
            for _ in range(effort.records):
                create.once()
        listing.append(Contender(f"podman ps -a of {effort.records}", always(*podman, "ps", "-a"), many_of_podman))
        words = before(*podman, "run", "-d", "--network", "none", "busybox")
        keepers.append(Contender(f"podman: conmon, mean of {effort.detached}", words, many_of_podman))
    for what, contenders in (("run -d", start), ("ps -a", listing)):
        in_turn("warming up", 1, contenders, try_out)
        in_turn(what, effort.runs, contenders, run_alone)
    adopt_orphans()
    for contender in keepers:
        weigh_keepers(contender, effort.detached)
    running = subprocess.run([*ours, "ps", "-q"], env=start[0].env, capture_output=True, text=True).stdout.split()
    call(step, few, "rm", "-f", *running)
    if podman:
        Contender("podman rm", always(*podman, "rm", "-f", "-a", "-t", "0"), many_of_podman).once()
    return {"run -d": start, "ps -a": listing, "memory": keepers}


def weigh_keepers(contender: Contender, count: int) -> None:
    """Measure the memory of the processes that stay with containers in the background: the largest, and the mean."""
    with terminal.status(contender.name):
        others = set(descendants())
        for _ in range(count):
            contender.finish(contender.start("sleep", "1000"))
        time.sleep(1)  # until the last one has become its monitor
        new = set(descendants()) - others
        sizes = [kib(pid, "smaps_rollup", "Pss:") for pid in new if name_of(pid) != "sleep"]
        sizes = [size for size in sizes if size]  # a zombie has none
        contender.largest, contender.together = max(sizes), sum(sizes) // len(sizes)


def name_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


# ------------------------------------------------------------------------------------------------------- the table


def verdict(text: str, met: bool) -> str:
    return f"{text}: " + ("[green]met[/]" if met else "[yellow]missed[/]")


def ratio(contender: Contender, base: Contender) -> float:
    return median(contender.alone) / median(base.alone)


def start_up_aims(contender: Contender, contenders: list[Contender]) -> str:
    if contender.name.endswith(" run --rm busybox true") and has_networks(contender.name):
        parts = [ratio(contender, each) for each in contenders if each.name == "podman run --rm"]
        return "".join(
            verdict(f"{part:.2f} of {OF_PODMAN_CONNECTED} podman", part <= OF_PODMAN_CONNECTED) for part in parts
        )
    above = median(contender.alone) - median(contenders[0].alone)
    most = ABOVE_TYPER_FIRST if contender.name.startswith("step01") else ABOVE_TYPER
    aims = [verdict(f"{1000 * above:+.0f} of {1000 * most:.0f} ms above typer", above <= most)]
    for podman in contenders:
        if podman.name == "podman run --rm --network none":
            part = ratio(contender, podman)
            aims.append(verdict(f"{part:.2f} of {OF_PODMAN} podman", part < OF_PODMAN))
    return ", ".join(aims)


def detached_aim(what: str, contender: Contender, group: list[Contender]) -> str:
    if what == "memory":
        return verdict(f"{contender.together / 1024:.1f} of {KEEPER} MiB", contender.together <= KEEPER * 1024)
    if what == "ps -a":
        return verdict(f"{median(contender.alone):.2f} of {LISTED} s", median(contender.alone) <= LISTED)
    if contender is group[0]:
        return ""
    part = ratio(contender, group[0])
    return verdict(f"{part:.2f} of {INDEPENDENT}", part <= INDEPENDENT)


def add_row(table: Table, contender: Contender, base: Contender, aim: str = "") -> None:
    def times(values: list[float], base_values: list[float]) -> list[str]:
        if not values:
            return ["", "", ""]
        least, middle = (f"{1000 * value:.0f}" for value in (min(values), median(values)))
        return [least, middle, f"{median(values) / median(base_values):.2f}"]

    crowd = times(contender.crowd, base.crowd)[1:]
    memory = [f"{kib / 1024:.1f}" if kib else "" for kib in (contender.largest, contender.together)]
    table.add_row(escape(contender.name), *times(contender.alone, base.alone), *crowd, *memory, aim)


def new_table(effort: Effort) -> Table:
    pipe = not sys.stdout.isatty()
    table = Table(box=None if pipe else box.SIMPLE_HEAD, pad_edge=False, header_style="" if pipe else "bold")
    table.add_column("")
    times = ["min\nms", f"median\nof {effort.runs}", "ratio", f"{effort.crowd} at\nonce, ms", "ratio"]
    for heading in (*times, "peak\nMiB", "all\nMiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("aim")
    return table


def main(
    step: Annotated[int, typer.Option(help="Measure this step alone, not all.")] = 0,
    quick: Annotated[bool, typer.Option(help="Fewer runs: a glance, no measurement.")] = False,
) -> None:
    """Compare every step's containers with unshare, runc and Podman, and its import with tar."""
    steps = sorted(path.parent.name for path in PROJECT.glob("step[0-9][0-9]_*/__main__.py"))
    chosen = [name for name in steps if not step or name.startswith(f"step{step:02}_")]
    effort = Effort(runs=5, crowd=10, crowds=1, imports=3, images=20, records=100, detached=20) if quick else Effort()
    table = new_table(effort)

    with ExitStack() as cleanup:
        scratch = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="mydocker-bench-")))
        cleanup.callback(bury_orphans)
        rootfs = None
        if has_images(steps[-1]):
            start_up(steps[-1], scratch / "rootfs").once()  # makes itself the image busybox
            [rootfs] = scratch.glob("rootfs/images/*/rootfs")

        ours = [start_up(name, scratch / name) for name in chosen]
        namespaces = hold_namespaces(cleanup) if ROOT else []
        if ROOT:
            ours += [connected(name, scratch / name, namespaces) for name in filter(has_networks, chosen)]
        contenders = [*peers(scratch, rootfs, namespaces, cleanup), *ours]
        measure_start_up(contenders, effort)
        for contender in contenders:
            aim = start_up_aims(contender, contenders) if contender in ours else ""
            add_row(table, contender, contenders[0], aim)

        if ROOT and any(map(has_networks, chosen)):
            for contender in contenders:
                if contender in ours[-1:] or contender.name == "podman run --rm":
                    speed = f"{throughput(contender, namespaces):.2f} GB/s"
                    table.add_row(escape(f"{contender.name.removesuffix(' true')} -p …"), *[""] * 7, speed)

        if ROOT:
            for group in measure_joining(effort):
                for contender in group:
                    add_row(table, contender, group[0])

        with_images = [name for name in chosen if name >= "step06"]
        if rootfs and with_images:
            tar, *imports = measure_import(with_images, tree(rootfs, 300 * MB), scratch, effort)
            add_row(table, tar, tar)
            for contender in imports:
                part = ratio(contender, tar)
                add_row(table, contender, tar, verdict(f"{part:.2f} of {OF_TAR} tar", part <= OF_TAR))
            if with_images[-1] >= "step07":
                words = podman_words(contenders)
                commits = measure_commit(with_images[-1], words, debian(rootfs), scratch, effort)
                peers_of = dict(itertools.pairwise(reversed(commits)))  # each of ours follows its peer
                for contender in commits:
                    aim = ""
                    if with_images[-1] in contender.name:
                        part = ratio(contender, peers_of[contender])
                        program = peers_of[contender].name.partition(" ")[0]
                        aim = verdict(f"{part:.2f} of {OF_TAR} {program}", part <= OF_TAR)
                    add_row(table, contender, commits[0], aim)
            small, *others = measure_images(with_images[-1], rootfs, scratch, effort)
            add_row(table, small, small)
            for contender in others:
                part = ratio(contender, small)
                add_row(table, contender, small, verdict(f"{part:.2f} of {INDEPENDENT}", part <= INDEPENDENT))

        if rootfs and chosen and chosen[-1] >= "step07":
            groups = measure_detached(chosen[-1], podman_words(contenders), scratch, effort)
            for what, group in groups.items():
                for contender in group:
                    aim = detached_aim(what, contender, group) if chosen[-1] in contender.name else ""
                    add_row(table, contender, group[0], aim)

    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    who = "root" if ROOT else "an ordinary user"
    console.print(f"Linux {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}, {who}")
    console.print(table)
    console.print("ratio: of medians, to the first line; from tar on, to that of its group. peak: the largest process.")
    console.print("all: all processes together, with `sleep` inside. MiB; aims are shown, not enforced.")
    for note in notes:
        console.print(f"not measured: {note}", markup=False)
    if any(contender not in contenders for contender in ours):
        sys.exit(1)


if __name__ == "__main__":
    try:
        typer.run(main)
    except Failed as error:
        sys.exit(f"bench: {error}")
