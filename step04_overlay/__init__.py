"""Step 4 of Docker in nine steps: a writable layer over a read-only image."""
