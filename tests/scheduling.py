"""Which process of several (pytest-xdist) runs which test."""

from pathlib import PurePath

from xdist.scheduler import LoadScopeScheduling

#: files whose fixtures take seconds, such as a trained model
TOGETHER = {
    "cli/test_eval.py",
    "cli/test_import_mace.py",
    "cli/test_main.py",
    "cli/test_report.py",
    "cli/test_scf.py",
    "density/test_jacobian.py",
    "scf/test_diagnosis.py",
    "test_variants.py",
    "train/data/test_prepared_set.py",
    "train/data/test_prepared_writer.py",
    "train/potential/test_loss_runs.py",
    "train/potential/test_partly_periodic.py",
    "train/potential/test_parts.py",
    "train/potential/test_problem.py",
    "train/potential/test_transfer.py",
    "train/test_report.py",
}


def part(nodeid: str) -> str:
    """Tests of one part run one after the other in one process.

    LAMMPS on several ranks is one part, so that there are never more ranks than those of one simulation; a file of
    `TOGETHER` is one; every other test is one of its own.
    """
    file = PurePath(nodeid.split("::")[0])
    folder, name = file.parent.name, file.name
    if folder == "lammps" and name != "test_packaging.py":
        return "LAMMPS"
    return str(file) if any(file.match(known) for known in TOGETHER) else nodeid


class Scheduler(LoadScopeScheduling):
    """Largest parts first, single tests last, so that all processes end together."""

    def _split_scope(self, nodeid: str) -> str:
        return part(nodeid)
