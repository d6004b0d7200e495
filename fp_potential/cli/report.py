"""``fixedpoint report run/``: one HTML page of a training run."""

from __future__ import annotations

import argparse

from fp_potential.cli.scf_options import add_scf_options, given_scf_options

SCF_OPTIONS = ("scf_tolerance", "num_scf_steps", "mixing_parameter", "solver")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run", help="run folder; it may still be training")
    parser.add_argument("--output", metavar="FILE", help="page to write (default: report.html in the run folder)")
    parser.add_argument(
        "--files", nargs="+", default=[], metavar="FILE", help="evaluate these files in place of the run's sets"
    )
    parser.add_argument(
        "--split",
        nargs="+",
        default=[],
        metavar="NAME",
        help="sets to evaluate (test, valid, train; with --files values of the split key); plots and structures are "
        "of the first (default: all there are)",
    )
    parser.add_argument(
        "--checkpoint", default="latest", metavar="latest|best|stage_N", help="which checkpoint of the run"
    )
    parser.add_argument(
        "--frames",
        nargs="+",
        type=int,
        metavar="N",
        help="frames for the viewer (default: of each kind the middle and the worst)",
    )
    parser.add_argument("--max_frames", type=int, default=500, metavar="N", help="most frames evaluated of each set")
    parser.add_argument(
        "--figures", nargs="+", default=[], metavar="FILE", help="pictures of yours to show, too (.png or .svg)"
    )
    parser.add_argument(
        "--no_evaluation", action="store_true", help="curves, times and options only: no model is run, no data read"
    )
    add_scf_options(parser, SCF_OPTIONS)
    parser.add_argument("--batch_size", type=int, default=16, help="frames per batch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="threads of torch")


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    from pathlib import Path

    import torch

    from fp_potential.options import SCFOptions
    from fp_potential.train.bands.trained import is_bands_run
    from fp_potential.train.report.bands import write_bands_report
    from fp_potential.train.report.bands_ensemble import is_ensemble, write_ensemble_report
    from fp_potential.train.report.build import ReportOptions, write_report

    for name in ("batch_size", "max_frames"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name} {getattr(arguments, name)}: expected at least 1")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    folder = Path(arguments.run)
    output = Path(arguments.output) if arguments.output else folder / "report.html"
    if is_ensemble(folder):
        write_ensemble_report(folder, output)
        print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, opens in a browser without a network")
        return 0
    if is_bands_run(folder):
        write_bands_report(folder, output, arguments.checkpoint, arguments.figures)
        print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, opens in a browser without a network")
        return 0
    options = ReportOptions(
        checkpoint=arguments.checkpoint,
        files=arguments.files,
        splits=arguments.split,
        frames=arguments.frames,
        max_frames=arguments.max_frames,
        evaluate=not arguments.no_evaluation,
        figures=arguments.figures,
        batch_size=arguments.batch_size,
        device=arguments.device,
    )
    write_report(folder, output, SCFOptions(**given_scf_options(arguments, SCF_OPTIONS)), options)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, opens in a browser without a network")
    return 0
