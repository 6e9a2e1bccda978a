"""Change nftables rules as nft(8) does: by its library, libnftables(3). Rules are text.

The library translates the text into netlink messages and sends them all at once. The kernel accepts all of them or, if
one is wrong, none: it is a transaction.
"""

import ctypes
import errno
import json
from typing import Any

from ..lib import explain, linux
from ..lib.errors import ContainerError, sentence

HANDLES, JSON = 1 << 3, 1 << 4  # nftables/libnftables.h: NFT_CTX_OUTPUT_…
CAP_NET_ADMIN = 12  # linux/capability.h
Place = tuple[str, str, str]  # the family, the table and the chain


try:
    LIBRARY = ctypes.CDLL("libnftables.so.1")
except OSError:
    raise ContainerError(
        "networks need libnftables: apt-get install libnftables1 (Fedora, Arch: the package nftables)"
    ) from None
LIBRARY.nft_ctx_new.restype = ctypes.c_void_p
LIBRARY.nft_ctx_get_output_buffer.restype = LIBRARY.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
CONTEXT = ctypes.c_void_p(LIBRARY.nft_ctx_new(0))  # the library's state between calls; output goes to buffers
LIBRARY.nft_ctx_buffer_output(CONTEXT)
LIBRARY.nft_ctx_buffer_error(CONTEXT)
LIBRARY.nft_ctx_output_set_flags(CONTEXT, HANDLES | JSON)


def call(text: str) -> str:
    """Run commands. Returns what they print, as JSON. Raises ContainerError if one is refused; then none is done."""
    if CAP_NET_ADMIN not in linux.capget():  # the library would write to standard error, too
        raise ContainerError(sentence(PermissionError(errno.EPERM, "nftables: Operation not permitted")))
    if LIBRARY.nft_run_cmd_from_buffer(CONTEXT, text.encode()) != 0:
        said = LIBRARY.nft_ctx_get_error_buffer(CONTEXT).decode().splitlines()
        raise ContainerError(f"nftables: {said[0] if said else 'refused'}: has this kernel no nf_tables?")
    return str(LIBRARY.nft_ctx_get_output_buffer(CONTEXT).decode())


def run(text: str) -> None:
    """Change rules. --explain shows this as a shell command; several lines are a here-document."""
    lines = text.strip().splitlines()
    for line in ["nft -f - <<'END'", *lines, "END"] if len(lines) > 1 else [f"nft '{line}'" for line in lines]:
        explain.line(line)
    call(text)


def listed(what: str, kind: str) -> list[dict[str, Any]]:
    """Return what `nft list WHAT` shows of one kind: the chains, or the rules."""
    return [each[kind] for each in json.loads(call(f"list {what}"))["nftables"] if kind in each]


def rules(place: Place) -> list[dict[str, Any]]:
    """Return the rules of a chain."""
    return listed(f"chain {' '.join(place)}", "rule")


def forward_chains() -> dict[Place, str]:
    """Return the chains that the kernel calls for forwarded packets, with their policies."""
    chains = listed("chains", "chain")
    return {
        (chain["family"], chain["table"], chain["name"]): chain["policy"]
        for chain in chains
        if chain.get("hook") == "forward" and chain["family"] in ("ip", "inet")
    }


def refuses_all(rule: dict[str, Any]) -> bool:
    """Return whether a rule drops or rejects every packet that reaches it."""
    statements = [name for statement in rule["expr"] for name in statement]
    return statements[-1:] in (["drop"], ["reject"]) and {*statements[:-1]} <= {"counter", "log"}
