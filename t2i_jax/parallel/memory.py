"""Large pages for the memory that XLA's CPU backend allocates anew at every step; memory sizes.

By default glibc returns such blocks at once, and the system clears them again in pages of 4 KB:
copies then run at a fifth of their speed (docs/performance.md). glibc reads its settings when a
program starts, so the program is restarted with them.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys

_OWN_GROUP, _GROUPS = pathlib.Path("/proc/self/cgroup"), pathlib.Path("/sys/fs/cgroup")
_VARIABLE = "GLIBC_TUNABLES"
_SETTINGS = {
  "hugetlb": 1,  # ask for large pages
  "mmap_max": 0,  # one heap for all blocks
  "trim_threshold": 1 << 62,  # which never shrinks
  "top_pad": 256 << 20,  # and grows by this many bytes
}


def restart_with_large_pages() -> None:
  """Restarts this process with glibc's allocator set. No-op if already restarted, if GLIBC_TUNABLES
  sets the allocator, or not on Linux."""
  before = os.environ.get(_VARIABLE, "")
  if not sys.platform.startswith("linux") or "glibc.malloc" in before:
    return
  settings = [f"glibc.malloc.{name}={value}" for name, value in _SETTINGS.items()]
  environment = {**os.environ, _VARIABLE: ":".join(filter(None, [before, *settings]))}
  os.execve(sys.executable, sys.orig_argv, environment)


def device_bytes() -> int:
  """Memory of the first device if it reports it, as accelerators do, else of this machine."""
  import jax  # here, so that the restart above comes first

  stats = jax.local_devices()[0].memory_stats()
  if stats and "bytes_limit" in stats:
    return stats["bytes_limit"]
  return host_bytes()


def host_bytes() -> int:
  """Memory of this machine, or the smaller limit that a container or a job of it has."""
  return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_limits_bytes()])


def _limits_bytes() -> list[int]:
  """Limits of this process's control groups, of version 2 or 1, and of those around them. A
  container sees its own group as the root of all."""
  try:
    lines = _OWN_GROUP.read_text().splitlines()  # NUMBER:CONTROLLERS:/GROUP
  except OSError:  # not on Linux
    return []
  found = []
  for line in lines:
    controllers, _, own = line.partition(":")[2].partition(":/")
    if controllers and "memory" not in controllers.split(","):
      continue
    root, name = (_GROUPS / "memory", "limit_in_bytes") if controllers else (_GROUPS, "max")
    for folder in (root / own, *(root / own).parents):
      with contextlib.suppress(OSError, ValueError):  # It has no limit, or "max".
        found.append(int((folder / f"memory.{name}").read_text()))
  return found
