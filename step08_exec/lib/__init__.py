"""What every part of the runtime stands on: system calls, --explain, errors, the store."""
