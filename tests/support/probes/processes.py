"""Start `processes` or `threads` (at most 100) until the kernel refuses; print how many there were, and the refusal."""

import errno
import json
import os
import sys
import threading

number, refusal = 1, ""  # with ourselves
end_read, end_write = os.pipe()
try:
    for _ in range(100):
        if sys.argv[1] == "threads":
            threading.Thread(target=lambda: os.read(end_read, 1), daemon=True).start()
        elif os.fork() == 0:
            os.close(end_write)
            os.read(end_read, 1)
            os._exit(0)
        number += 1
except OSError as error:
    refusal = errno.errorcode[error.errno or 0]
except RuntimeError as error:
    refusal = str(error)
print(json.dumps([number, refusal]), flush=True)
os._exit(0)
