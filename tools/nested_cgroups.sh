#!/bin/sh
# Lets containers inside a container have limits, where there is cgroup version 2: to be run as root in the outer one,
# once after each of its starts. A cgroup that has processes can hand no controller down ("No Internal Process
# Constraint" in the kernel's cgroup-v2.rst), and all processes are in the topmost one that can be seen. They move down.
set -eu
cd /sys/fs/cgroup
[ -e cgroup.controllers ] || exit 0 # version 1 has no such rule
mkdir -p init
for try in 1 2 3; do # new processes may come meanwhile
    while read -r pid; do echo "$pid" >init/cgroup.procs 2>/dev/null || true; done <cgroup.procs
    if sed -e 's/ / +/g' -e 's/^/+/' cgroup.controllers >cgroup.subtree_control 2>/dev/null; then exit 0; fi
done
echo "nested_cgroups.sh: tried $try times, nothing can be handed down: is the outer container privileged?" >&2
exit 1
