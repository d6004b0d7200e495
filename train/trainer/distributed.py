"""Several processes that train one model: the communication the trainer needs, trivial in one process.

The processes are those of ``torchrun``, or forked on this machine (``training.workers``). Each goes through the whole
training by itself; only the gradients and losses of its parts of the batches are summed, so all hold the same
parameters at every step. Process 0 writes.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import InputError

Item = TypeVar("Item")

#: how long a process waits for the others; one that ends is noticed at once
TIMEOUT = timedelta(hours=2)


def rank() -> int:
    """Number of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes."""
    return rank() == 0


def own(items: Sequence[Item]) -> Sequence[Item]:
    """The block of ``items`` that this process works on; in the order of the processes they are all."""
    n, r = ranks(), rank()
    return items[len(items) * r // n : len(items) * (r + 1) // n]


def sum_ranks(values: Tensor) -> Tensor:
    """``values`` summed over the processes, in place."""
    if ranks() > 1:
        dist.all_reduce(values)
    return values


def gather(value: Item) -> list[Item]:
    """``value`` of every process, in their order, on every process."""
    if ranks() == 1:
        return [value]
    found: list[Any] = [None] * ranks()
    dist.all_gather_object(found, value)
    return found


def from_main(value: Item) -> Item:
    """``value`` of process 0, on every process."""
    if ranks() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def same_start(module: nn.Module) -> None:
    """Parameters and buffers of process 0, on every process."""
    if ranks() > 1:
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.numel():
                dist.broadcast(tensor.data, src=0)


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Within the block this process is one of those that ``torchrun`` started, if it did; gives the device to use.

    Args:
        device: that of the options; ``cuda`` becomes the GPU of this process.

    Raises:
        InputError: fewer GPUs than processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ or dist.is_initialized():
        yield device
        return
    cuda = torch.device(device).type == "cuda"
    if cuda:
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise InputError(
                f"torchrun started process {local} of this machine, which has {torch.cuda.device_count()} GPUs; "
                "use --nproc-per-node with their number"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT)
    yield device
    # after an error the others may wait in a collective: torchrun ends them when this process ends
    dist.destroy_process_group()


def run_together(processes: int, function: Callable[[], Item]) -> Item:
    """``function()`` in this process and in ``processes - 1`` forked ones; the result of this one.

    Args:
        processes: their number, this one included.
        function: the same in all of them.

    Raises:
        RuntimeError: one of the others failed; holds what it said (an `InputError` remains one).
    """
    if processes == 1:
        return function()
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        workers: list[_Worker] = []
        try:
            # what this process holds of an earlier group must not be collected in a fork: its threads are not there
            gc.collect()
            gc.freeze()
            for number in range(1, processes):
                workers.append(_Worker(number, processes, meeting, function, [w.pipe for w in workers]))
            gc.unfreeze()
            _meet(0, processes, meeting)
            result = function()
            dist.destroy_process_group()
            return result
        except RuntimeError as error:
            # what a process sees of another one that ends is a broken connection
            failures = [failure for worker in workers if (failure := worker.failure()) is not None]
            own_failures = [failure for failure in failures if not _broken_connection(failure)]
            if failures:
                raise (own_failures or failures)[0] from error
            raise
        finally:
            for worker in workers:
                worker.close()
            if dist.is_initialized():
                dist.destroy_process_group()


def _broken_connection(error: Exception) -> bool:
    return "gloo/transport" in str(error)


def _meet(number: int, processes: int, meeting: str) -> None:
    # one machine: the loop-back interface is there whatever the name of the machine resolves to
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform.startswith("linux") else "lo0")
    store = dist.FileStore(meeting, processes)
    dist.init_process_group("gloo", store=store, rank=number, world_size=processes, timeout=TIMEOUT)


class _Worker:
    """A forked process, seen from the one that forked it."""

    def __init__(
        self,
        number: int,
        processes: int,
        meeting: str,
        function: Callable[[], Any],
        inherited: Sequence[Connection],
    ) -> None:
        self.number = number
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        arguments = (number, processes, meeting, function, theirs, [*inherited, self.pipe])
        self.process = context.Process(target=_work, args=arguments, daemon=True)
        with warnings.catch_warnings():
            # newer Pythons warn of a fork beside threads; torch has one thread here and none of its locks is held
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()

    def failure(self) -> Exception | None:
        """Why the process ended, if it did by an error."""
        try:
            if self.pipe.poll(1.0):
                wrong_input, text = self.pipe.recv()
                return InputError(text) if wrong_input else RuntimeError(f"worker {self.number} failed:\n{text}")
        except (EOFError, OSError):
            pass
        self.process.join(timeout=1)
        if self.process.exitcode:
            return RuntimeError(
                f"worker {self.number} ended with status {self.process.exitcode} (-9: killed, often for want of "
                "memory); use a smaller training.batch_size or training.workers: 1"
            )
        return None

    def close(self) -> None:
        """End the process, if it is not about to end by itself."""
        self.process.join(timeout=1)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()
        self.pipe.close()


def _work(
    number: int,
    processes: int,
    meeting: str,
    function: Callable[[], Any],
    pipe: Connection,
    others: Sequence[Connection],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    for other in others:
        other.close()
    try:
        _meet(number, processes, meeting)
        function()
        dist.destroy_process_group()
    except Exception as error:
        wrong_input = isinstance(error, InputError)
        try:
            pipe.send((wrong_input, str(error) if wrong_input else traceback.format_exc()))
        except OSError:
            pass
        os._exit(1)
