"""The descriptors that are open. An argument is the number of one more, to be opened first."""

import json
import os
import sys

for argument in sys.argv[1:]:
    os.dup2(0, int(argument))
numbers = []
for number in range(1024):
    try:
        os.fstat(number)
    except OSError:
        continue
    numbers.append(number)
print(json.dumps(numbers))
