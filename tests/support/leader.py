"""The smallest shell with job control: it takes standard error's terminal, and runs one job in the foreground.

terminal.py starts it as `leader.py REPORT COMMAND…`. It writes the job's PID, and later its exit code, to descriptor
REPORT. It runs until the terminal is closed: the terminal stays usable as long as its session leader lives.
"""

import fcntl
import os
import signal
import sys
import termios

TERMINAL, REPORT, COMMAND = 2, int(sys.argv[1]), sys.argv[2:]

os.setsid()
fcntl.ioctl(TERMINAL, termios.TIOCSCTTY, 0)
job = os.fork()
if job == 0:
    os.close(REPORT)
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # else who is in the background may not take the foreground
    os.tcsetpgrp(TERMINAL, os.getpid())
    for number in (signal.SIGTTOU, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):  # what Python changes is set back
        signal.signal(number, signal.SIG_DFL)
    os.execvp(COMMAND[0], COMMAND)
os.write(REPORT, f"{job}\n".encode())
for stream in (0, 1):  # the job's, perhaps pipes: they must end when it ends
    os.dup2(TERMINAL, stream)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
# WNOWAIT: the dead job keeps its number as long as we live, so that no signal for it can hit another process.
end = os.waitid(os.P_PID, job, os.WEXITED | os.WNOWAIT)
assert end
os.tcsetpgrp(TERMINAL, os.getpgrp())
code = end.si_status if end.si_code == os.CLD_EXITED else 128 + end.si_status
os.write(REPORT, f"{code}\n".encode())
while True:
    signal.pause()
