"""Step 3 of Docker in nine steps: a root file system of its own."""
