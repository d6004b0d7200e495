"""Published bundles of the examples, and copies of them that are changed."""

import shutil
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
III_V, CDSE = EXAMPLES / "iii_v_pseudopotentials" / "data", EXAMPLES / "cdse_pseudopotentials" / "data"

#: settings of a newer bundle, every documented kind of key among them
NEWER = """# the newer generation
nSystem = 1
PPmodel = Net_celu_HeInit_decayGaussian   # a network
PPmodel_gaussian_std = 2.0
hiddenLayers = 20 20
SObool = 0
num_cores = 0
separateKptGrad = 1
init_Zunger_num_epochs = 10
init_Zunger_optimizer_lr = 0.1
init_Zunger_scheduler_gamma = 0.9
max_num_epochs = 5
optimizer = adamw
optimizer_lr = 0.01
scheduler_gamma = 0.95
schedulerStep = 2
perturbEvery = 3
penalize_starting = 4.5
penalize_lambda = 50.0
"""


def copy(source: Path, folder: Path) -> Path:
    """A copy of a bundle without its licence."""
    shutil.copytree(source, folder)
    (folder / "LICENSE").unlink(missing_ok=True)
    return folder


def change(path: Path, old: str, new: str) -> None:
    """Replace the first ``old`` in a file; "" puts ``new`` at its end, or makes the file."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1) if old else text + new, encoding="utf-8")
