"""``fixedpoint eval model.pt files ...``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from fp_potential.cli.scf_options import (
    BOTH,
    add_kspace_options,
    add_scf_options,
    given_kspace,
    given_scf_options,
)

if TYPE_CHECKING:
    from fp_potential.options import SCFOptions
    from fp_potential.train.potential.evaluate import Evaluation, EvaluationSet

SCF_OPTIONS = (
    "scf_tolerance",
    "num_scf_steps",
    "mixing_parameter",
    "solver",
    "constant_charge",
    "initial_density",
    "initial_fermi_level",
    "use_autograd_forces",
)

#: frames per kind of --response
RESPONSE_FRAMES = 3
#: what happened to an SCF that did not converge, and what to do, by its status
STATUS = {
    1: "at the step limit, raise --num_scf_steps or loosen --scf_tolerance",
    2: "diverged, look at the structures (fixedpoint scf) or use --solver linear with less --mixing_parameter",
    3: "unstable, the model's charges are too soft there: retrain it",
    4: "the charge does not respond to the Fermi level: structures that the model was not made for, or retrain it",
    5: "no Fermi level, as nothing conducts: use --constant_charge true",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("model", help="model archive (fixedpoint export)")
    parser.add_argument("files", nargs="+", help="extended XYZ files, plain or .gz")
    parser.add_argument(
        "--split", metavar="NAME", help="only frames of this set, by the info key of the training's split"
    )
    parser.add_argument(
        "--by", metavar="KEY", help="info key that gives the rows of the table (default: the training's)"
    )
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="NAME=KEY",
        help="key of the files, in place of the training's: energy=REF_energy (NAME as in data.keys)",
    )
    add_scf_options(parser, SCF_OPTIONS, both=("constant_charge", "initial_density"))
    add_kspace_options(parser)
    parser.add_argument(
        "--response", action="store_true", help="charge that a field moves between fragments, of a few frames per kind"
    )
    parser.add_argument(
        "--response_frames", type=int, default=RESPONSE_FRAMES, metavar="N", help="frames per kind for --response"
    )
    parser.add_argument("--batch_size", type=int, default=16, help="frames per batch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--output", metavar="FILE", help="write the frames with the predictions (extended XYZ)")
    parser.add_argument("--table", metavar="FILE", help="write the results to a file, too: .csv, .json or text")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate; the exit status is 1 if the SCF of a frame did not converge."""
    import torch

    from fp_potential.train.potential.evaluate import evaluation_set, needed_labels, scf_title, write_predictions
    from fp_potential.train.potential.evaluate_response import response_by_kind
    from fp_potential.train.potential.evaluation_tables import evaluation_text, write_table

    if arguments.batch_size < 1:
        raise ValueError(f"--batch_size {arguments.batch_size}: expected at least 1")
    if arguments.response_frames < 1:
        raise ValueError(f"--response_frames {arguments.response_frames}: expected at least 1")
    if arguments.response_frames != RESPONSE_FRAMES and not arguments.response:
        raise ValueError("--response_frames belongs to --response: add that, or leave it out")
    if arguments.threads is not None and arguments.threads < 1:
        raise ValueError(f"--threads {arguments.threads}: expected at least 1")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    data = evaluation_set(
        arguments.model,
        arguments.files,
        arguments.split,
        arguments.key,
        arguments.by,
        arguments.device,
        given_kspace(arguments),
    )
    for note in data.notes + _idle(arguments, data):
        print(note)
    evaluations: list[Evaluation] = []
    for scf, several in _runs(arguments, data.scf):
        chosen = data.with_labels(scf) if several else data
        if len(chosen.frames) < len(data.frames):
            labels = ", ".join(needed_labels(scf).values())
            print(f"{scf_title(scf)}: {len(chosen.frames)} of {len(data.frames)} frames, those with {labels}")
        if chosen.frames:
            keep = arguments.output is not None and all(
                scf.constant_charge != earlier.scf.constant_charge for earlier in evaluations
            )
            evaluations.append(chosen.run(scf, arguments.batch_size, keep))
    if not evaluations:
        raise ValueError(
            "no frame has the labels that these runs start from or hold fixed (--key LABEL=KEY names them)"
        )
    frames = arguments.response_frames
    responses = response_by_kind(data, evaluations[0].scf, frames) if arguments.response else []
    print(evaluation_text(evaluations, data.elements, responses))
    if arguments.table:
        write_table(arguments.table, evaluations, data.elements, responses)
    if arguments.output:
        predictions = [atoms for evaluation in evaluations for atoms in evaluation.predictions]
        write_predictions(arguments.output, predictions)
        print(f"{arguments.output}: {len(predictions)} frames with predictions (keys FP_...)")
    for evaluation in evaluations:
        failed, frames = evaluation.errors.failures(), len(evaluation.frames)
        if failed:
            kinds = "; ".join(f"{number}: {STATUS.get(state, f'status {state}')}" for state, number in failed.items())
            print(
                f"{scf_title(evaluation.scf)}: the SCF of {sum(failed.values())} of {frames} frames did not converge "
                f"({kinds})",
                file=sys.stderr,
            )
    return int(any(evaluation.errors.not_converged() for evaluation in evaluations))


def _idle(arguments: argparse.Namespace, data: EvaluationSet) -> list[str]:
    """Notes on options that have no effect."""
    from fp_potential.options.kspace import KSpace

    if data.archive is None:
        return []
    module = data.archive[0]
    affine = bool(module.model.solver.density_map.affine)
    given = given_scf_options(arguments, SCF_OPTIONS)
    said = [sentence for scf, _ in _runs(arguments, data.scf) for sentence in scf.idle(given, affine)]
    said += given_kspace(arguments).idle(KSpace.of(module))
    return [f"note: {sentence}" for sentence in dict.fromkeys(said)]


def _runs(arguments: argparse.Namespace, defaults: SCFOptions) -> list[tuple[SCFOptions, bool]]:
    """Options of each run, and whether it is one of several that may leave out frames without its labels."""
    options = defaults.changed(given_scf_options(arguments, SCF_OPTIONS), "--")
    modes = [True, False] if arguments.constant_charge == BOTH else [options.constant_charge]
    starts = ["local_guess", "from_data"] if arguments.initial_density == BOTH else [options.initial_density]
    several = len(modes) * len(starts) > 1
    return [
        (options.model_copy(update={"constant_charge": mode, "initial_density": start}), several)
        for mode in modes
        for start in starts
    ]
