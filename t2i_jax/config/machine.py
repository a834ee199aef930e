"""Where a run is computed."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from t2i_jax import errors
from t2i_jax.config.groups import Group, knob


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine(Group, role="machine", modes=("train", "sample", "evaluate", "bench", "demo")):
  """The devices, and where training images are held."""

  devices: int = knob(0, "number of devices to use; 0: all that JAX sees", low=0)
  placement: Literal["auto", "whole", "cut", "streamed"] = knob(
    "auto",
    "the images. whole: replicated on each device; cut: sharded among the devices; streamed: read "
    "from disk; auto: the first of these that fits",
    modes=("train",),
  )
  resident_limit_mb: int = knob(
    0,
    "megabytes of images that a device may hold; 0: a quarter of its memory. A host may hold that "
    "for each of its devices, at most half of its memory",
    low=0,
    modes=("train",),
  )
  bfloat16_products: Literal["auto", "yes", "no"] = knob(
    "auto",
    "--dtype=bfloat16 on a CPU: convolutions as matrix products. auto: where the processor is "
    "measured to multiply bfloat16 at least twice as fast as float32, as with AMX; no with "
    "--multihost",
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hosts(Group, role="machine", modes=("train", "sample", "evaluate")):
  """Several processes, on one host or many."""

  multihost: bool = knob(False, "this is one of several processes, all started with the same flags")
  coordinator_address: str = knob("", "HOST:PORT of process 0; empty: as the TPU pod or Slurm says")
  process_count: int = knob(
    0, "number of processes (with --coordinator_address); 0: as the cluster says", low=0
  )
  process_index: int = knob(0, "number of this process, from 0 (with --coordinator_address)", low=0)

  def check(self) -> None:
    told = self.coordinator_address, self.process_count, self.process_index
    if any(told) and not self.multihost:
      raise errors.InputError(
        "--coordinator_address --process_count --process_index: only beside --multihost"
      )
    if any(told) and not (self.coordinator_address and self.process_count):
      raise errors.InputError(
        "--multihost: give --coordinator_address=HOST:PORT and --process_count=N together, and "
        "each process its --process_index; or none of them on a TPU pod and under Slurm"
      )
    port = re.fullmatch(r".+:(\d{1,5})", self.coordinator_address)
    if self.coordinator_address and not (port and 0 < int(port[1]) < 65536):
      raise errors.InputError(
        f"--coordinator_address={self.coordinator_address}: give the host and a port of process 0, "
        "such as 10.0.0.1:8476"
      )
    if self.process_index >= max(self.process_count, 1):
      raise errors.InputError(
        f"--process_index={self.process_index}: the {self.process_count} processes are numbered "
        f"from 0 to {self.process_count - 1}"
      )
