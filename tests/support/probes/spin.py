"""`spin.py PROCESSES`: be busy from one moment to another, read from standard input; print the CPU time; then wait."""

import os
import sys
import time


def spin(end: float) -> None:
    while time.monotonic() < end:
        pass


print("ready", flush=True)
others = int(sys.argv[1]) - 1
begin, end = map(float, sys.stdin.readline().split())
time.sleep(max(0, begin - time.monotonic()))
before = time.process_time()
for _ in range(others):
    if os.fork() == 0:
        spin(end)
        os._exit(0)
spin(end)
for _ in range(others):
    os.wait()
times = os.times()
print(time.process_time() - before + times.children_user + times.children_system, flush=True)
sys.stdin.read()
