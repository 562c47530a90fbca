"""Processes that are forks of this one, so that torch is imported once for all of them."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn


def forked(act: Callable[[], Any]) -> int:
    """Do something in a process of its own; gives its exit status, negative for a signal."""
    child = os.fork()
    if not child:
        leave_after(act)
    return status_of(child)


def leave_after(act: Callable[[], Any]) -> NoReturn:
    """Do something in a fork, and end it there: none of its parent's own clean-up is its to do."""
    status = 1
    try:
        act()
        status = 0
    except SystemExit as left:
        status = int(left.code or 0)
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def status_of(child: int) -> int:
    """Wait for a fork; gives its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
