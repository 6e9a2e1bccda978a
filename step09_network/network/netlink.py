"""pyroute2, which speaks netlink(7) for us: links, addresses and routes, and nf_tables.

`import pyroute2` loads all that there is of it, half of it of no use here, and that is most of what a network adds to
a start. So here its package is one that only knows where its modules are, and we load those that we need.
"""

import sys
from importlib.util import find_spec, module_from_spec

if "pyroute2" not in sys.modules:
    spec = find_spec("pyroute2")
    assert spec  # pyproject.toml asks for it
    sys.modules["pyroute2"] = module_from_spec(spec)  # made, but not executed

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.nftables.main import NFTables

__all__ = ["IPRoute", "NFTables", "NetlinkError"]
