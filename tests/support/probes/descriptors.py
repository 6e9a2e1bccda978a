"""The descriptors that are open."""

import json
import os

numbers = []
for number in range(1024):
    try:
        os.fstat(number)
    except OSError:
        continue
    numbers.append(number)
print(json.dumps(numbers))
