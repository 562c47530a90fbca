"""``python -m hookloop``: the command line, where its program is not on the path."""

from hookloop.cli import main

raise SystemExit(main())
