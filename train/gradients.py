"""Loss and gradient of the batches of an epoch, in one process or split over several.

With W workers a batch is split into up to W parts; the loss of the batch is Σ n_k L_k / Σ n_k over its parts with n_k
structures. Small structures keep one core busy, not two: processes with a part each use a machine better than threads
inside of every operation. The processes share the parameters; each goes through the same batches by itself and takes
its own part, so only gradients are exchanged, and they are summed in the order of the processes.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from .problem import LossResult, Problem


class BatchGradient:
    """Fills ``.grad`` of ``parameters`` with the derivative of the loss, batch by batch.

    Args:
        stages: what :meth:`Problem.loss` takes, by number.
        workers: number of processes, this one included; the others are forked by :meth:`start`, after which parameters
            may only be changed in place.
    """

    def __init__(self, problem: Problem, parameters: Sequence[Tensor], stages: Sequence[Any], workers: int) -> None:
        self.problem, self.parameters, self.stages = problem, list(parameters), list(stages)
        self.wanted = workers
        self.workers: list[Worker] = []

    def start(self) -> None:
        """Fork the workers, if there are to be any."""
        if self.wanted > 1:
            self.problem.module.share_memory()
        for rank in range(1, self.wanted):
            self.workers.append(Worker(self, rank, self.wanted, [worker.pipe for worker in self.workers]))

    def epoch(self, stage: int, seed: int) -> Iterator[LossResult]:
        """Results of the batches of an epoch; the gradient of each is in place when its result is given."""
        for worker in self.workers:
            worker.send(("epoch", stage, seed))
        for batch in self.problem.batches("train", seed=seed):
            for worker in self.workers:
                worker.send(("step",))
            yield self._together(batch, stage) if self.workers else self._alone(batch, stage)

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.close()
        self.workers = []

    def _alone(self, batch: Any, stage: int) -> LossResult:
        for parameter in self.parameters:
            parameter.grad = None
        result = self.problem.loss(batch, self.stages[stage])
        result.total.backward()
        return result._replace(total=result.total.detach())

    def _together(self, batch: Any, stage: int) -> LossResult:
        part = self.problem.parts(batch, len(self.workers) + 1)[0]
        own, gradients = part_gradient(self.problem, part, self.stages[stage], self.parameters)
        others = [worker.result() for worker in self.workers]
        results = [own, *(result for result, _ in others if result is not None)]
        pieces = [gradients, *(values for result, values in others if result is not None)]
        structures = sum(result.structures for result in results)
        shares = [result.structures / structures for result in results]
        for number, parameter in enumerate(self.parameters):
            parameter.grad = None
            for share, piece in zip(shares, pieces, strict=True):
                gradient = piece[number]
                if gradient is not None:
                    scaled = share * gradient
                    parameter.grad = scaled if parameter.grad is None else parameter.grad.add_(scaled)
        total = sum(share * float(result.total) for share, result in zip(shares, results, strict=True))
        terms = {
            name: sum(share * float(result.terms[name]) for share, result in zip(shares, results, strict=True))
            for name in own.terms
        }
        as_tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in terms.items()}
        return LossResult(torch.tensor(total, dtype=torch.float64), as_tensors, structures)


def part_gradient(
    problem: Problem, part: Any, stage: Any, parameters: Sequence[Tensor]
) -> tuple[LossResult, list[Tensor | None]]:
    """Detached loss of a part of a batch and its gradient."""
    result = problem.loss(part, stage)
    gradients = torch.autograd.grad(result.total, parameters, allow_unused=True)
    return result._replace(total=result.total.detach()), list(gradients)


class Worker:
    """A forked process that computes part ``rank`` of every batch, seen from the process that trains."""

    def __init__(self, owner: BatchGradient, rank: int, parts: int, inherited: Sequence[Connection]) -> None:
        self.rank = rank
        self.buffers = [torch.zeros_like(parameter).detach().share_memory_() for parameter in owner.parameters]
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        arguments = (owner, rank, parts, self.buffers, theirs, [*inherited, self.pipe])
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        with warnings.catch_warnings():
            # newer Pythons warn of a fork beside threads; torch has one thread here and none of its locks is held
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()

    def send(self, message: tuple[Any, ...]) -> None:
        """Tell the process what to do."""
        try:
            self.pipe.send(message)
        except OSError as error:
            raise self._ended() from error

    def result(self) -> tuple[LossResult | None, list[Tensor | None]]:
        """Loss and gradient of its part of the present batch; None if the batch has fewer parts.

        Raises:
            RuntimeError: the process failed; holds what it said.
        """
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if isinstance(answer, str):
            raise RuntimeError(f"worker {self.rank} failed:\n{answer}")
        if answer is None:
            return None, []
        total, terms, structures, unknown = answer
        values = [None if number in unknown else buffer for number, buffer in enumerate(self.buffers)]
        return LossResult(
            torch.tensor(total, dtype=torch.float64),
            {name: torch.tensor(value, dtype=torch.float64) for name, value in terms.items()},
            structures,
        ), values

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()

    def _ended(self) -> RuntimeError:
        self.process.join(timeout=1)
        return RuntimeError(
            f"worker {self.rank} ended with status {self.process.exitcode} (-9: killed, often for want of memory); "
            "use a smaller training.batch_size or training.workers: 1"
        )


def _serve(
    owner: BatchGradient, rank: int, parts: int, buffers: list[Tensor], pipe: Connection, others: Sequence[Connection]
) -> None:
    """Main loop of a worker; ends when the pipe does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    for other in others:
        other.close()
    problem, stage = owner.problem, owner.stages[0]
    batches: Iterator[Any] = iter(())
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            if message[0] == "epoch":
                stage = owner.stages[message[1]]
                batches = iter(problem.batches("train", seed=message[2]))
                continue
            own = problem.parts(next(batches), parts)
            answer = None
            if rank < len(own):
                result, gradients = part_gradient(problem, own[rank], stage, owner.parameters)
                unknown = {number for number, gradient in enumerate(gradients) if gradient is None}
                for buffer, gradient in zip(buffers, gradients, strict=True):
                    if gradient is not None:
                        buffer.copy_(gradient)
                terms = {name: float(value) for name, value in result.terms.items()}
                answer = (float(result.total), terms, result.structures, unknown)
            pipe.send(answer)
        except BrokenPipeError:
            return
        except Exception:
            pipe.send(traceback.format_exc())
