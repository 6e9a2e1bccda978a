"""Step 9 of Docker in nine steps: a network."""
