"""What all other modules use: system calls, --explain, errors, the store."""
