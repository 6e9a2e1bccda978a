"""Step 2 of Docker in nine steps: limits on what a container may use."""
