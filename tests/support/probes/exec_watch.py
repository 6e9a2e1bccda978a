"""Lie in wait for processes that are placed into the container, until /stop exists: what of the host's do they show?

Prints how many have been seen while they were not yet the container's program, and what could be reached through them.
"""

import json
import os

allowed = {(os.stat(path).st_dev, os.stat(path).st_ino) for path in ("/bin/busybox", "/usr/bin/python3")}
root = (os.stat("/").st_dev, os.stat("/").st_ino)
refused, reached = set(), set()
print("ready", flush=True)
while not os.path.exists("/stop"):
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            exe = os.open(f"/proc/{pid}/exe", os.O_RDONLY)  # the first step; a host whose guard fails is not harmed
            if (os.fstat(exe).st_dev, os.fstat(exe).st_ino) not in allowed:
                reached.add(os.readlink(f"/proc/{pid}/exe"))
            os.close(exe)
        except PermissionError:
            refused.add(pid)
        except OSError:
            pass
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if b"SECRET" in file.read():
                    reached.add("its environment")
            for link in ("cwd", "root"):
                found = os.stat(f"/proc/{pid}/{link}")
                if (found.st_dev, found.st_ino) != root:
                    reached.add(link)
        except OSError:
            pass
print(json.dumps([len(refused), sorted(reached)]))
