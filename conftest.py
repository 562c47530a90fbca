"""Leaves out the tests of bridges whose framework is not installed: make test-bridges has them."""

from frameworks import missing

collect_ignore_glob = [f"plugins/{bridge}/*" for bridge in missing()]
