"""A virtual machine with cgroup v2 alone: see README.md."""
