"""The arguments, each followed by a zero byte."""

import os
import sys

sys.stdout.buffer.write(b"".join(os.fsencode(word) + b"\0" for word in sys.argv[1:]))
