"""A real PostgreSQL and a real Valkey from Python wheels, for `make run`, `make test` and `manage.py`.

Plain Python: no Django. `home()` says where the data lives; `servers(home)` runs the two servers as long as any
process on this machine is inside that context, and yields the addresses for the environment.
"""

from casestore.embedded.context import Servers, revive, servers
from casestore.embedded.errors import EmbeddedError
from casestore.embedded.places import home

__all__ = ["EmbeddedError", "Servers", "home", "revive", "servers"]
