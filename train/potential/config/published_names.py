"""Names that users of the published method know and that are not options of the training file under the same name.

The published names of options that exist here are those options, and may stand at the top level of the file as well as
in their section (`translation`). This table has the others: names that mean something here under another name, and
names that are refused, each with the reason and what to use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ....options.base import from_text
from ...data.options import Keys

Places = dict[str, Any]  #: dotted option -> value


@dataclass(frozen=True)
class PublishedName:
    """A name, where it stands (besides the top level), what it means or why it is refused.

    ``place`` gives the options that a value sets here, which are in ``sets``; without it, only values in ``idle`` are
    accepted, which ask for nothing that is not so anyway.
    """

    name: str
    section: str
    values: Any  #: type of the accepted values
    meaning: str
    place: Callable[[Any], Places] | None = None
    sets: tuple[str, ...] = ()  #: dotted options; those of ``heads`` depend on the head
    idle: tuple[Any, ...] = ()
    note: str = ""  #: what is said where the name is accepted and changes nothing

    def placed(self, value: Any) -> Places:
        """Options that ``value`` sets.

        Raises:
            ValueError: the value is refused; says why.
        """
        if any(value == idle and isinstance(value, bool) == isinstance(idle, bool) for idle in self.idle):
            return {}
        if self.place is None:
            raise ValueError(self.meaning)
        return self.place(value)


def hidden_irreps(value: Any) -> Places:
    """``128x0e + 128x1o`` -> num_channels and max_L.

    Raises:
        ValueError: other irreps than these, or no vectors.
    """
    channels, l_max = _uniform(value, "hidden_irreps")
    if l_max < 1:
        raise ValueError(f"hidden_irreps '{value}': vectors are needed, as in '{channels}x0e + {channels}x1o'")
    return {"model.num_channels": channels, "model.max_L": l_max}


def mlp_irreps(value: Any) -> Places:
    """``16x0e`` -> readout_channels.

    Raises:
        ValueError: other irreps than these.
    """
    return {"model.readout_channels": _uniform(value, "MLP_irreps")[0]}


def _uniform(value: Any, name: str) -> tuple[int, int]:
    """Multiplicity and largest l of irreps with the same multiplicity for l = 0 … l_max and natural parity."""
    terms = [re.fullmatch(r"(\d+)x(\d+)([eo])", term.strip()) for term in str(value).split("+")]
    example = "as in '128x0e + 128x1o'"
    if None in terms:
        raise ValueError(f"{name}: expected terms like 128x0e joined by +, {example}, got '{value}'")
    found = [(int(term[1]), int(term[2]), term[3]) for term in terms if term]
    if [ell for _, ell, _ in found] != list(range(len(found))):
        raise ValueError(f"{name}: expected l = 0, 1, … once each and in this order, {example}, got '{value}'")
    if any(parity != "eo"[ell % 2] for _, ell, parity in found):
        raise ValueError(f"{name}: features have the parity of spherical harmonics (0e, 1o, 2e), got '{value}'")
    if len({channels for channels, _, _ in found}) != 1 or found[0][0] < 1:
        raise ValueError(f"{name}: the number of channels must be the same for every l, {example}, got '{value}'")
    return found[0][0], len(found) - 1


def heads(value: Any) -> Places:
    """``{<one head>: {info_keys: {...}, arrays_keys: {...}}}`` -> data.keys, and files and E0s that the head names.

    Raises:
        ValueError: several heads, or something in one that has no place here.
    """
    value = from_text(value)
    if not isinstance(value, Mapping) or len(value) != 1:
        names = f"got {sorted(map(str, value))}" if isinstance(value, Mapping) else f"got {value!r}"
        raise ValueError(f"expected one head, {{name: {{info_keys: {{...}}, arrays_keys: {{...}}}}}}; {names}")
    (head, content), places = next(iter(value.items())), {}
    if not isinstance(content, Mapping):
        raise ValueError(f"{head}: expected {{info_keys: {{...}}, arrays_keys: {{...}}}}, got {content!r}")
    for part, inner in content.items():
        if part in ("info_keys", "arrays_keys") and isinstance(inner, Mapping):
            for name, key in inner.items():
                name = _KEYS.get(name, name)
                if name not in Keys.model_fields:
                    known = ", ".join(Keys.model_fields)
                    raise ValueError(f"{head}.{part}.{name}: no such label here; data.keys knows {known}")
                places[f"data.keys.{name}"] = key
        elif part in _HEAD_OPTIONS:
            places[_HEAD_OPTIONS[part]] = inner
        else:
            raise ValueError(
                f"{head}.{part}: a head has info_keys and arrays_keys (mappings) and {', '.join(_HEAD_OPTIONS)}"
            )
    return places


#: labels with another name in ``data.keys``
_KEYS = {"molID": "molecules", "virials": "virial"}
_HEAD_OPTIONS = {
    "train_file": "data.files",
    "valid_file": "data.valid_files",
    "test_file": "data.test_files",
    "E0s": "statistics.E0s",
}


def _renamed(name: str, section: str, values: Any, place: str) -> PublishedName:
    return PublishedName(name, section, values, f"{place}, under another name", lambda v: {place: v}, (place,))


def ema(value: Any) -> Places:
    """Without an average of the weights there is no decay of it.

    Raises:
        ValueError: neither true nor false.
    """
    if value is False:
        return {"training.ema_decay": None}
    raise ValueError(f"expected true or false, got {value!r}")


#: label in names of weights of the loss -> term of the loss
_LOSS_TERMS = {
    "energy": "energy_per_atom",
    "forces": "forces",
    "stress": "stress",
    "virials": "stress",
    "dipole": "dipole",
    "charges": "atomic_multipoles",
}
_RUN_FOLDER = "a run writes everything into one folder: use run_dir"
_IN_STAGES = "each stage of train_schedule says it"
_NO_EARLY_STOP = (
    "each stage of train_schedule runs its epochs, and later stages have losses and rates of their own; the checkpoint "
    "`best` has the smallest validation loss of the last one"
)

NAMES: dict[str, PublishedName] = {
    entry.name: entry
    for entry in (
        # model
        PublishedName(
            "model",
            "",
            str,
            "FixedPoint is what this package trains; of the others, local charges without a response to the field are "
            "not built, QEq and induced dipoles exist as reference models (docs/reference_models.md), and plain MACE "
            "models are trained with mace-torch",
            idle=("FixedPoint",),
        ),
        PublishedName(
            "hidden_irreps",
            "model",
            str,
            "'128x0e + 128x1o' is num_channels: 128 and max_L: 1",
            hidden_irreps,
            ("model.num_channels", "model.max_L"),
        ),
        PublishedName(
            "MLP_irreps",
            "model",
            str,
            "'16x0e' is readout_channels: 16. The hidden layers of the density read-out have vectors here whatever is "
            "written; where the published method has none (16x0e), its local dipoles are zero",
            mlp_irreps,
            ("model.readout_channels",),
        ),
        PublishedName(
            "quadrupole_feature_corrections",
            "model",
            bool,
            "there are no quadrupoles, and in the published code it has no effect: leave it out",
            idle=(False,),
        ),
        PublishedName(
            "field_norm_factor",
            "model",
            float,
            "in the published code it has no effect: leave it out; field_feature_norms scale the field features",
            idle=(1.0,),
        ),
        PublishedName(
            "return_electrostatic_potentials",
            "model",
            bool,
            "potentials at the atoms are always among the results",
            idle=(True, False),
            note="potentials at the atoms are always among the results",
        ),
        PublishedName(
            "scaling",
            "model",
            str,
            "the energy has no scale and shift: the read-outs learn both beside the E0s; leave it out",
            idle=("no_scaling",),
        ),
        PublishedName(
            "pair_repulsion",
            "model",
            bool,
            "there is no ZBL term; core_repulsion keeps atoms apart where there are no data",
            idle=(False,),
        ),
        # data
        PublishedName(
            "heads",
            "",
            dict,
            "one head: its info_keys and arrays_keys are data.keys, its train_file, valid_file, test_file and E0s the "
            "options below",
            heads,
        ),
        _renamed("train_file", "data", str | list[str], "data.files"),
        _renamed("valid_file", "data", str | list[str], "data.valid_files"),
        _renamed("test_file", "data", str | list[str], "data.test_files"),
        _renamed("valid_set_seed", "data", int, "data.valid_seed"),
        # training
        _renamed("eval_interval", "training", int, "training.eval_every"),
        _renamed("beta", "training", float, "training.beta_one"),
        PublishedName(
            "ema",
            "training",
            bool,
            "true: the default, training.ema_decay; false: training.ema_decay: null",
            ema,
            idle=(True,),
        ),
        _renamed("name", "", str, "run_dir"),
        PublishedName("max_num_epochs", "training", int, f"{_IN_STAGES}: epochs, or start and end"),
        PublishedName("lr", "training", float, f"{_IN_STAGES}: lr, and lr_final for a decay"),
        PublishedName("loss", "training", dict, f"{_IN_STAGES}: loss, a mapping of terms to weights"),
        PublishedName(
            "restart_latest",
            "training",
            bool,
            "a run always continues from its latest checkpoint; --restart on the command line starts anew",
            idle=(True,),
        ),
        PublishedName(
            "scf_convergence_summary",
            "training",
            bool,
            "the table of the test set always says how many loops converged, and in how many applications",
            idle=(True,),
        ),
        PublishedName(
            "skip_scf_convergence_summary",
            "training",
            bool,
            "the table of the test set always says how many loops converged, and in how many applications",
            idle=(False,),
        ),
        PublishedName(
            "error_table",
            "training",
            str,
            "tables show the root mean square and mean absolute errors of everything that is labelled",
            lambda _: {},
            note="tables show the root mean square and mean absolute errors of everything that is labelled",
        ),
        PublishedName(
            "save_cpu",
            "training",
            bool,
            "checkpoints and archives are read on any device",
            idle=(True, False),
        ),
        *(
            PublishedName(f"{label}_weight", "training", float, f"{_IN_STAGES}: loss: {{{term}: WEIGHT}}")
            for label, term in _LOSS_TERMS.items()
        ),
        PublishedName("scheduler", "training", str, f"{_IN_STAGES}: lr_decay: exponential, cosine or plateau"),
        PublishedName("lr_factor", "training", float, f"{_IN_STAGES}: plateau_factor, with lr_decay: plateau"),
        PublishedName("scheduler_patience", "training", int, f"{_IN_STAGES}: plateau_patience, with lr_decay: plateau"),
        PublishedName("lr_scheduler_gamma", "training", float, f"{_IN_STAGES}: lr_final, with lr_decay: exponential"),
        PublishedName(
            "num_workers",
            "training",
            int,
            "the process that trains makes its batches; training.workers are processes that share each batch",
        ),
        PublishedName("patience", "training", int, f"{_IN_STAGES}: patience, its early stop"),
        *(
            PublishedName(name, "training", str, "a further stage of train_schedule, with a loss and lr of its own")
            for name in ("swa", "start_swa", "stage_two", "start_stage_two")
        ),
        *(
            PublishedName(name, "training", str, _RUN_FOLDER)
            for name in ("work_dir", "model_dir", "log_dir", "checkpoints_dir", "results_dir")
        ),
    )
}


#: labels of the published data format, for ``<label>_key``; what is read here is in ``data.keys``
PUBLISHED_LABELS = frozenset(Keys.model_fields) | {"charges", "electrostatic_potentials", "polarizability", "virials"}


def of_key(name: str) -> PublishedName | None:
    """``energy_key`` and its like, which are refused."""
    label = name.removesuffix("_key")
    if label == name or label not in PUBLISHED_LABELS:
        return None
    return PublishedName(name, "data", str, f"keys of the files are named in one place: data.keys, {{{label}: KEY}}")


def of_weight(name: str) -> PublishedName | None:
    """``forces_weight`` and its like, which are refused."""
    term = name.removesuffix("_weight")
    if term == name or term not in {*PUBLISHED_LABELS, "dipole", "charges"}:
        return None
    return PublishedName(name, "training", float, f"{_IN_STAGES}: train_schedule.N.loss, {{{term}: WEIGHT}}")


def published(name: str, section: str, options: type[BaseModel] | None) -> PublishedName | None:
    """The entry for a name in a section ("": at the top level), unless it is an option there."""
    if options is not None and name in options.model_fields:
        return None
    entry = NAMES.get(name) or of_key(name) or of_weight(name)
    return entry if entry is not None and section in ("", entry.section) else None
