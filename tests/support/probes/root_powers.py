"""What root may do that others may not: the names of what succeeded."""

import json
import os
import signal
import socket


def low_port() -> None:
    socket.create_server(("127.0.0.1", 80))


def raw_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def file_of_another() -> None:
    os.close(os.open("/dev/shm/file", os.O_CREAT, 0))
    os.chown("/dev/shm/file", 1000, 1000)
    with open("/dev/shm/file", "w") as file:
        file.write("x")
    os.chmod("/dev/shm/file", 0o644)


def process_of_another() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(1000, 1000, 1000)
            os.setresuid(1000, 1000, 1000)
            os.write(writing, b"!")
            signal.pause()
        finally:
            os._exit(0)
    os.close(writing)
    if not os.read(reading, 1):
        raise PermissionError
    os.kill(child, signal.SIGKILL)


def chroot() -> None:
    os.chroot("/")


def hostname() -> None:
    socket.sethostname("another")


def priority() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -5)


succeeded = []
for action in (low_port, raw_socket, file_of_another, process_of_another, chroot, hostname, priority):
    try:
        action()
        succeeded.append(action.__name__)
    except OSError:
        pass
print(json.dumps(succeeded))
