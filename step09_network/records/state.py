"""Containers on record: what `ps` shows is read from files, as in the book, and nobody has to be asked.

    containers/<id>/   config.json    what was asked for; never changes
                       state.json     its PID, and when it began
                       end.json       when and how it ended
                       log …          what it has written (monitor.py)
                       upper …        its layer (overlay.py)
    names/<name>       a link to it: symlink(2) fails if the name is taken
    live/<id>          a link to each that somebody should be looking after, so that the dead are found quickly

(The layers of steps 4 to 6 lie in `layers`, since those steps remove what nobody holds there.)

Who looks after a container (its monitor) holds a lock on its directory. The kernel lets go of the lock when the monitor
dies, however it dies. So what is in `live` unlocked has been left alone: then the next command puts the record right.
"""

import json
import os
import random
import re
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .. import cgroups, network, overlay
from ..cgroups.limits import Limits
from ..config import Config
from ..lib import linux, store
from ..lib.errors import ContainerError, complain

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}", re.ASCII)  # as Docker
ADJECTIVES = """
    bold brave bright calm clever cosy curious eager early fair gentle glad happy honest jolly keen kind lively lucky
    merry modest noble patient plain proud quick quiet ready sharp shy silent sleepy smart steady sunny tidy warm wise
""".split()
NOUNS = """
    ant badger bear beaver bee bison camel crane crow deer dolphin duck eagle falcon ferret finch fox frog goose hare
    heron horse koala lark lion lynx mole moose otter owl panda puffin raven robin seal sparrow swan tiger turtle whale
""".split()
END = 80  # bytes that end.json has from the beginning
LOST = 255  # the exit code of which nobody learned, as in Docker
KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True)
class Container:
    """A container as it is on record."""

    directory: Path
    config: dict[str, Any]
    state: dict[str, Any]
    running: bool

    @property
    def id(self) -> str:
        """12 hexadecimal digits."""
        return self.directory.name

    @property
    def name(self) -> str:
        """The name that was given to it, or that it was given."""
        return str(self.config["name"])

    def is_one_of(self, references: list[str]) -> bool:
        """Whether one of these words means it."""
        return any(self.name == word or self.id.startswith(word) for word in references)

    def described(self) -> dict[str, Any]:
        """All that is known of it, under the names that Docker gives to these things."""
        config, facts = self.config, self.state
        return {
            "Id": self.id,
            "Name": self.name,
            "Created": rfc3339(config["created"]),
            "Path": config["command"][0],
            "Args": config["command"][1:],
            "State": {
                "Status": self.status,
                "Running": self.running,
                "Pid": facts.get("pid", 0) if self.running else 0,
                "ExitCode": facts.get("exit_code", 0),
                "StartedAt": rfc3339(facts.get("started")),
                "FinishedAt": rfc3339(facts.get("finished")),
            },
            "Image": config["image_id"],
            "LogPath": str(self.directory / "log"),
            "HostConfig": {"AutoRemove": config["remove"], **config["limits"]},
            "NetworkSettings": {
                "Ports": network.published(self.id) if self.running else [],
                "Networks": {
                    each.name: {
                        "IPAddress": each.endpoints[self.id].ip,
                        "IPPrefixLen": each.addresses.prefixlen,
                        "Gateway": each.gateway,
                        "MacAddress": each.endpoints[self.id].mac,
                    }
                    for each in network.networks_of(self.id)
                },
            },
            "Mounts": [
                {"Source": each["source"], "Destination": each["target"], "RW": not each["read_only"]}
                for each in config["volumes"]
            ],
            "Config": {
                "Hostname": config["hostname"],
                "User": config["user"],
                "Tty": config["tty"],
                "OpenStdin": config["interactive"],
                "Env": [f"{name}={value}" for name, value in config["env"].items()],
                "Cmd": config["command"],
                "Image": config["image"],
                "WorkingDir": config["workdir"],
            },
        }

    @property
    def status(self) -> str:
        """In one word, as Docker says it."""
        if "exit_code" in self.state:
            return "exited"
        return "running" if "started" in self.state else "created"


@contextmanager
def recorded(config: Config, image: str) -> Iterator[Path]:
    """Put a container on record, and look after it: its directory, locked as long as we live.

    At the end the record stays, unless the command never ran, or --rm was given.
    """
    sweep()
    directory = store.folder("containers") / config.id
    with linux.locked(directory.parent):  # nobody may sweep it before we have locked it
        name = config.name or new_name()
        link = name_link(name)
        if link.exists():
            raise ContainerError(f"--name {name}: {link.readlink().name} has it: rm that, or take another name")
        link.unlink(missing_ok=True)  # its container is gone
        try:
            live(config.id).symlink_to(f"../containers/{config.id}")
        except PermissionError as error:  # no links here, and no layers either
            raise overlay.refusal(error, directory.parent) from None
        directory.mkdir()
        held = linux.lock(directory, shared=True)
        uses = [f"image:{image}", *(f"volume:{one.source}" for one in config.volumes if one.named)]
        facts = {"name": name, "uses": uses, "created": time.time(), "image_id": image}
        store.write_json(directory / "config.json", asdict(config) | facts)
        (directory / ".end.json").write_text("{}".ljust(END))
        (directory / ".end.json").rename(directory / "end.json")
        link.symlink_to(f"../containers/{config.id}")
    try:
        yield directory
    finally:
        close(directory)
        os.close(held)


def close(directory: Path) -> None:
    """The container has ended, or has not begun. The caller holds its lock."""
    facts = read_state(directory)
    if "started" in facts and "exit_code" not in facts:  # we failed, and killed it; or its monitor was killed
        note_end(directory, KILLED if facts.get("boot") == boot_id() else LOST)
    if "started" not in facts or store.read_json(directory / "config.json")["remove"]:
        discard(directory)
    live(directory.name).unlink(missing_ok=True)


def discard(directory: Path) -> None:
    """Remove a container's record, layer and name."""
    with suppress(FileNotFoundError), linux.locked(directory / "upper"):
        pass  # no `commit` reads it any more
    with store.owned("tmp", os.urandom(6).hex()) as work, linux.locked(directory.parent):
        name = store.read_json(directory / "config.json").get("name")
        linux.rename(directory, work / directory.name)
        # Only now: a record without its name would be found in `ps`, and the name be given to another meanwhile.
        if name and name_link(name).is_symlink() and name_link(name).readlink().name == directory.name:
            name_link(name).unlink()


def note(directory: Path, **facts: Any) -> None:
    """Add to what is known of a container's state."""
    store.write_json(directory / "state.json", store.read_json(directory / "state.json") | facts)


def note_end(directory: Path, code: int) -> None:
    """Note that the container has ended: in place, as a full disk has no room for another file, perhaps because of it.

    Who waits has this one open, and can read it even if the record goes at once.
    """
    with open(directory / "end.json", "r+") as file:
        file.write(json.dumps({"exit_code": code, "finished": time.time()}).ljust(END))


def read_state(directory: Path) -> dict[str, Any]:
    """All that is known of a container's state."""
    state, end = (store.read_json(directory / f"{name}.json") for name in ("state", "end"))
    return {**state, **end}


def note_process(directory: Path, pid: int) -> None:
    """Note who the container's PID 1 is, outside; a PID alone could come to mean another process."""
    note(directory, pid=pid, ticks=start_ticks(pid), boot=boot_id())


def sweep() -> None:
    """Put right the records of those whose monitor was killed."""
    for link in store.folder("live").iterdir():
        try:
            repair(store.folder("containers") / link.name)
        except ContainerError as error:  # a record that somebody has damaged: no reason to refuse all others
            complain(str(error))


def repair(directory: Path) -> None:
    """If nobody looks after this container, then it is to be dead, and its record to say so."""
    if not os.path.lexists(live(directory.name)):
        return
    try:
        with linux.locked(directory.parent):  # while it is being put on record, it is not locked yet
            held = linux.lock(directory, wait=False)
    except BlockingIOError:
        return  # somebody does
    except FileNotFoundError:
        live(directory.name).unlink(missing_ok=True)  # killed before it was on record
        return
    try:
        kill_orphan(store.read_json(directory / "state.json"))
        network.release(directory.name)
        cgroups.remove_all(directory.name)
        close(directory)
    finally:
        os.close(held)


def kill_orphan(facts: dict[str, Any]) -> None:
    """Kill a container that has outlived its monitor: a command that changes its user is not sent PR_SET_PDEATHSIG."""
    if (process := open_process(facts)) is not None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], 10)
        os.close(process)


def open_process(facts: dict[str, Any]) -> int | None:
    """A pidfd of the container's PID 1, or None if it is dead.

    A PID is used again, at the latest after a reboot. So the boot and the time of birth are compared too, and only when
    the pidfd is open, which from then on means this process and no other.
    """
    if facts.get("boot") != boot_id():
        return None
    with suppress(ProcessLookupError):
        process = os.pidfd_open(facts["pid"])
        if start_ticks(facts["pid"]) == facts["ticks"]:
            return process
        os.close(process)
    return None


def start_ticks(pid: int) -> int:
    """When a process began, in clock ticks since boot: field 22 of /proc/PID/stat; 0 if there is none. proc(5)."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0


def boot_id() -> str:
    """A number drawn at each boot: /proc/sys/kernel/random/boot_id in random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def rfc3339(seconds: float | None) -> str | None:
    """A time as Docker writes it, in UTC."""
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


# ---- finding ----


def load(directory: Path) -> Container:
    """What is on record of one container. Raises FileNotFoundError if it is gone."""
    config, facts = store.read_json(directory / "config.json"), read_state(directory)
    if not config:
        raise FileNotFoundError(f"{directory}: no such container any more")
    config.setdefault("env", {})  # step 7 put it on record, and knew of none
    return Container(directory, config, facts, running="started" in facts and "exit_code" not in facts)


def listing(all_of_them: bool) -> list[Container]:
    """The running containers, or all, the newest first."""
    sweep()
    found = []
    for entry in os.scandir(store.folder("containers" if all_of_them else "live")):
        with suppress(FileNotFoundError):  # removed this instant
            found.append(load(store.folder("containers") / entry.name))
    chosen = [container for container in found if all_of_them or container.running]
    return sorted(chosen, key=lambda container: float(container.config["created"]), reverse=True)


def find(reference: str) -> Path:
    """The directory of the container given by its name, its id or the beginning of it, its record put right.

    Raises ContainerError if there is none.
    """
    there = os.listdir(store.folder("containers"))
    if NAME.fullmatch(reference) and (link := name_link(reference)).exists():
        reference = link.readlink().name
    if reference and (found := store.only_one(reference, there, "containers")):
        repair(store.folder("containers") / found)
        return store.folder("containers") / found
    import difflib  # not at the top: whoever typed wrong can wait for it, a start should not

    names = sorted(os.listdir(store.folder("names")))
    near = difflib.get_close_matches(reference, names) or names
    raise ContainerError(f"{reference!r}: no such container; there are: {', '.join(near[:10]) or 'none'}")


def get(reference: str) -> Container:
    """The record of the container so given."""
    try:
        return load(find(reference))
    except FileNotFoundError:
        raise ContainerError(f"{reference}: it has just been removed") from None


def name_link(name: str) -> Path:
    """Where a name leads to its container."""
    return store.folder("names") / name


def live(container: str) -> Path:
    """Where a container is listed as alive."""
    return store.folder("live") / container


def configuration(container: Container) -> Config:
    """What the container was made with, as `run` was told it."""
    values = {field.name: container.config[field.name] for field in fields(Config)}
    return Config(**values | {"limits": Limits(**values["limits"]), "volumes": [], "ports": []})


def check_name(name: str) -> str:
    """A name as Docker takes it. Raises ContainerError if it is none."""
    if not NAME.fullmatch(name):
        raise ContainerError(f"--name {name!r}: two or more letters, digits, _ . or -, the first a letter or digit")
    return name


def new_name() -> str:
    """Two words that no container is called by. The caller holds the lock of `containers`."""
    while os.path.lexists(name_link(name := f"{random.choice(ADJECTIVES)}_{random.choice(NOUNS)}")):
        if random.random() < 0.1:  # most are taken
            return f"{name}_{os.urandom(3).hex()}"
    return name


# ---- ending ----


def send_signal(container: Container, number: int) -> None:
    """Send a signal to the container's PID 1. After SIGKILL, returns when the record says that it is dead.

    Raises ContainerError if it is not running.
    """
    process = running_process(container)
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, number)
    os.close(process)
    if number == signal.SIGKILL:
        wait(container)


def running_process(container: Container) -> int:
    """A pidfd of the container's PID 1. Raises ContainerError if it is not running."""
    process = open_process(container.state) if container.running else None
    if process is None:
        raise ContainerError(f"{container.name}: it is not running")
    return process


def stop(container: Container, patience: float) -> None:
    """Ask PID 1 to end by SIGTERM; after `patience` seconds, SIGKILL. Returns when the record says so."""
    if not container.running:
        return
    process = running_process(container)
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], patience)[0]:
            signal.pidfd_send_signal(process, signal.SIGKILL)
    os.close(process)
    wait(container)


def wait(container: Container) -> int:
    """Wait until the container has ended and its monitor has cleaned up. Returns the exit code."""
    if "exit_code" in container.state:
        return int(container.state["exit_code"])
    with suppress(FileNotFoundError), open(container.directory / "end.json") as end:
        with linux.locked(container.directory):  # which the monitor lets go of last
            pass
        repair(container.directory)  # if its monitor was killed
        return int(json.load(end).get("exit_code", LOST))
    return LOST  # it was removed meanwhile


def remove(container: Container, force: bool) -> None:
    """Remove a container. Raises ContainerError if it runs, and is not to be killed first."""
    with suppress(FileNotFoundError):  # --rm was faster
        while store.is_held(container.directory):  # it runs, is just being started, or its monitor is about to finish
            container = load(container.directory)
            if container.running and not force:
                raise ContainerError(f"{container.name}: it is running: stop it first, or give -f to kill it")
            if container.running:
                with suppress(ContainerError):  # it has just ended
                    send_signal(container, signal.SIGKILL)
            time.sleep(0.01)
        repair(container.directory)  # if its monitor was killed
        with linux.locked(container.directory):  # until `commit` has read it
            discard(container.directory)
