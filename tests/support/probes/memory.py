"""`memory.py MEGABYTES PROCESSES`: children hold so much each, all at the same time; prints how many were killed."""

import os
import sys

megabytes, processes = map(int, sys.argv[1:])
have_read, have_write = os.pipe()
go_read, go_write = os.pipe()
for _ in range(processes):
    if os.fork() == 0:
        os.close(go_write)
        os.close(have_read)
        memory = bytearray(b"x") * (megabytes << 20)
        os.close(have_write)  # a dead one's is closed as well
        os.read(go_read, 1)
        os._exit(0)
os.close(have_write)
os.read(have_read, 1)  # end of file: each has all it wants, or is dead
os.close(go_write)
print(sum(os.WIFSIGNALED(os.wait()[1]) for _ in range(processes)))
