"""Step 1 of Docker in nine steps: a process in namespaces of its own."""
