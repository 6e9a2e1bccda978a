"""What root in the container may still do: capabilities(7).

The kernel splits root's power into some forty pieces. We keep the same as Docker, except CAP_MKNOD: whoever can make
device files can open the host's disk. Docker keeps it, as its device cgroup forbids opening them; we have none.
"""

from .lib import linux
from .lib.linux import PR

# Their numbers are 0, 1, 2 …, as in linux/capability.h.
NAMES = """
    CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP
    CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER
    CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE
    CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP
    CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF
    CAP_CHECKPOINT_RESTORE
""".split()
KEPT = """
    CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_NET_BIND_SERVICE
    CAP_NET_RAW CAP_SYS_CHROOT CAP_AUDIT_WRITE CAP_SETFCAP
""".split()


def drop() -> None:
    """Give up all capabilities that are not in KEPT, for ever: even a setuid program cannot get them back.

    exec gives root every capability of the bounding set again, so we remove them there, too. That comes first, as it
    needs CAP_SETPCAP.
    """
    for number in linux.bounding_set():
        name = NAMES[number] if number < len(NAMES) else str(number)
        if name not in KEPT:
            linux.prctl(PR.PR_CAPBSET_DROP, number, name)
    permitted = linux.capget()  # inside another container, we may lack some
    linux.capset({NAMES.index(name): name for name in KEPT if NAMES.index(name) in permitted})
