"""Every key of the published settings files: where its value goes, or why it does not exist here.

``NN_KEYS`` are those of ``NN_config.par``, ``INPUT_KEYS`` of ``input_X.par``, ``MC_KEYS`` of ``mcOpts*.par``:
documented keys, and those that files in circulation have besides. A key has one of three kinds of answers:

* ``place``: the option it sets, dotted as in a training file (``stage.`` stands for ``train_schedule.N.``);
* ``idle``: accepted, and why it changes nothing here;
* ``refused``: why it does not exist here and what to use, except with a value that switches it off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import InputError, nearest
from .text import Word

Kind = Literal["bool", "int", "float", "ints", "floats", "text"]

_LOCAL_ENVIRONMENT = (
    "the correction of potentials by their local environment is another learned model: the pseudopotentials here "
    "depend on the species alone"
)
_PROFILE = "times, memory and cost of each epoch are in log.csv"
_POOL = "the blocks of spin-orbit and non-local terms are built at once, without a pool of processes"


@dataclass(frozen=True)
class Key:
    """A key of a settings file.

    Attributes:
        place: the option that it sets; "" if it sets none.
        needs: the mode in which it acts: "" always, "gradient", "monte_carlo" or "fit".
        idle: why it changes nothing here.
        refused: why it does not exist here, and what to use.
        off: values of a refused key that are accepted, because they switch it off.
    """

    name: str
    kind: Kind
    place: str = ""
    needs: str = ""
    idle: str = ""
    refused: str = ""
    off: tuple[Any, ...] = ()


def _table(*keys: Key) -> dict[str, Key]:
    return {key.name: key for key in keys}


NN_KEYS = _table(
    Key("PPmodel", "text", "model.local.ppmodel"),
    Key("hiddenLayers", "ints", "model.local.hidden_layers"),
    Key("nSystem", "int", "systems"),
    Key("num_cores", "int", "training.workers"),
    Key("num_threads", "int", "training.num_threads"),
    Key("SHOWPLOTS", "bool", idle="pictures are files of the run folder, and no windows"),
    Key("separateKptGrad", "bool", "training.separate_kpoints"),
    Key("checkpoint", "bool", idle="gradients are those of Hellmann and Feynman, with no graph to compute again"),
    Key("memory_flag", "bool", idle=_PROFILE),
    Key("runtime_flag", "bool", idle=_PROFILE),
    Key("printGrad", "bool", "training.print_gradients"),
    Key("SObool", "bool", "model.terms.spin_orbit"),
    Key("cacheSO", "bool", "model.terms.cache"),
    Key("pool_initSO", "int", idle=_POOL),
    Key("pool_initNL", "int", idle=_POOL),
    Key("LRgamma", "float", "model.terms.lr_gamma"),
    Key("PPmodel_decay_rate", "float", "model.local.envelope.rate"),
    Key("PPmodel_decay_center", "float", "model.local.envelope.center"),
    Key("PPmodel_gaussian_std", "float", "model.local.envelope.std"),
    Key("PPmodel_scale", "floats", "model.local.scale"),
    Key("penalize_starting", "float", "objective.large_q_start"),
    Key("penalize_lambda", "float", "objective.large_q"),
    Key("penalize_mag_threshold", "float", "objective.magnitude_threshold"),
    Key("penalize_mag_lambda", "float", "objective.magnitude"),
    Key("init_Zunger_num_epochs", "int", "training.initialise.fit.epochs"),
    Key("init_Zunger_optimizer", "text", "training.initialise.fit.optimizer", "fit"),
    Key("init_Zunger_optimizer_lr", "float", "training.initialise.fit.lr", "fit"),
    Key("init_Zunger_scheduler_gamma", "float", "training.initialise.fit.gamma", "fit"),
    Key("init_Zunger_plotEvery", "int", "training.initialise.fit.plot_every", "fit"),
    Key("init_Zunger_printGrad", "bool", "training.initialise.fit.print_gradients", "fit"),
    Key("force_retrain", "bool", refused="remove init_PPmodel.pth to start from a fit or anew", off=(False,)),
    Key("max_num_epochs", "int", "stage.epochs"),
    Key("optimizer", "text", "stage.optimizer", "gradient"),
    Key("optimizer_lr", "float", "stage.lr", "gradient"),
    Key("longRange_lr", "float", "stage.long_range_lr", "gradient"),
    Key("sgd_momentum", "float", "training.momentum", "gradient"),
    Key("adam_beta1", "float", "training.beta_one", "gradient"),
    Key("adam_beta2", "float", "training.beta_two", "gradient"),
    Key("scheduler_gamma", "float", "stage.step_factor", "gradient"),
    Key("schedulerStep", "int", "stage.step_epochs"),
    Key("plotEvery", "int", "stage.plot_every"),
    Key("patience", "int", "stage.patience", "gradient"),
    Key("perturbEvery", "int", "stage.perturb_every", "gradient"),
    Key("pre_adjust_moves", "int", "stage.pre_adjust_moves", "gradient"),
    Key("pre_adjust_stepSize", "float", "stage.pre_adjust_step", "gradient"),
    Key("mc_bool", "bool", "stage.workflow"),
    Key("mc_iter", "int", "stage.epochs", "monte_carlo"),
    Key("mc_perturb_mode", "int", "stage.monte_carlo.perturbation.kernel", "monte_carlo"),
    Key("mc_percentage", "float", "stage.monte_carlo.perturbation.magnitude", "monte_carlo"),
    Key("mc_beta", "float", "stage.monte_carlo.beta", "monte_carlo"),
    Key("mc_beta_schedule", "text", "stage.monte_carlo.beta_schedule", "monte_carlo"),
    Key("smooth_reorder", "bool", "stage.reorder"),
    Key("eigvec_reorder", "bool", "stage.reorder"),
    Key("Rmax", "float", "outputs.r_max"),
    Key("qmax", "float", "outputs.q_max"),
    Key("nQGrid", "int", "outputs.n_q"),
    Key("nRGrid", "int", "outputs.n_r"),
    Key("local_env_corr", "bool", refused=_LOCAL_ENVIRONMENT, off=(False,)),
    *(
        Key(name, "text", idle=f"{_LOCAL_ENVIRONMENT} (local_env_corr)")
        for name in (
            "LSDmodel",
            "LSDmodel_decay_rate",
            "LSDmodel_decay_center",
            "LSDmodel_gaussian_std",
            "LSDmodel_osc_alpha",
            "LSDmodel_scale",
            "LSD_hiddenLayers",
            "LSD_N_hiddenLayers",
            "LSD_optimizer_lr",
            "LSD_scheduler_gamma",
            "init_LSD_num_epochs",
            "init_LSD_optimizer_lr",
            "init_LSD_scheduler_gamma",
            "init_LSD_plot_every",
            "init_LSD_scheduler_step",
            "init_LSD_force_retrain",
            "init_LSD_device",
            "init_LSD_parallel_atoms",
            "init_LSD_dtype",
            "init_LSD_scheduler",
            "init_LSD_eta_min_frac",
            "init_LSD_normalize",
            "pre_adjust_LSD_step_size",
            "descriptor_backend",
        )
    ),
)

INPUT_KEYS = _table(
    Key("nBands", "int", "n_bands"),
    Key("maxKE", "float", "max_ke"),
    Key("idxVB", "int", "valence_band"),
    Key("idxCB", "int", "conduction_band"),
    Key("idxGap", "int", "gap_kpoint"),
    Key("BS_plot_center", "float", "plot_center"),
    Key("BS_plot_CBVB_range", "float", "plot_range"),
    Key("BS_plot_CBVB_range_zoom", "float", "plot_range_zoom"),
    Key("systemName", "text", "name"),
    Key("fit_defPot", "bool", "fit_deformation"),
    Key("fit_eph", "bool", "fit_couplings"),
    Key("fit_eff_masses", "bool", "fit_masses"),
    Key("relE_bIdx", "int", "relative_band"),
    Key("trainLR", "bool", "model.trainable"),
    Key(
        "physicalBandOrdering",
        "bool",
        refused="use smooth_reorder or eigvec_reorder of NN_config.par, or kpoints_X_orderMatrix.par",
        off=(False,),
    ),
)

MC_KEYS = _table(
    Key("betas", "floats", "stage.monte_carlo.betas"),
    Key("stepsAtTemp", "ints", "stage.monte_carlo.steps_at"),
    Key("tempStepSizeMod", "floats", "stage.monte_carlo.step_factors"),
    Key("totalIter", "int", "stage.epochs"),
    Key("fitDefPot", "bool", "stage.objective.deformation"),
    Key("fitCoupling", "bool", "stage.objective.coupling"),
    Key("fitEffMass", "bool", "stage.objective.masses"),
    Key("optGaps", "bool", "stage.objective.gaps"),
    Key("defPotWeight", "float", "stage.objective.deformation"),
    Key("writePerIter", "int", "stage.monte_carlo.moves_per_batch"),
    Key("paramSteps", "text", refused="steps of parameters are in files <atom>ParamSteps.par"),
)

TABLES = {"NN_config.par": NN_KEYS, "input_X.par": INPUT_KEYS, "mcOpts*.par": MC_KEYS}


def answer(key: Key) -> str:
    """What a key is here, in words."""
    if key.refused:
        off = " or ".join(str(int(value)) for value in key.off)
        return (f"{off}; else refused: " if key.off else "refused: ") + key.refused
    return f"accepted, changes nothing: {key.idle}" if key.idle else key.place


Settings = Mapping[str, tuple[Word, tuple[Word, ...]]]


class Values(dict[str, Any]):
    """Values of the keys of a settings file that are placed, and the words that they were given with."""

    words: Settings
    idle: list[str]  #: keys that change nothing, and why

    def wrong(self, name: str, expected: str, advice: str = "") -> InputError:
        """The error of the value of ``name``."""
        key, values = self.words[name]
        shown = Word(
            " ".join(word.text for word in (values or (key,))), key.file, key.line, (values or (key,))[0].column
        )
        return shown.wrong(f"{expected} for {name}", advice)


def values_of(settings: Settings, table: Mapping[str, Key]) -> Values:
    """The settings of a file under a table of keys.

    Raises:
        InputError: a key that does not exist (with the nearest name), is refused, or has a value of another type.
    """
    found = Values()
    found.words, found.idle = settings, []
    for name, (word, words) in settings.items():
        key = table.get(name)
        if key is None:
            raise word.wrong("a key that exists", nearest(name, table))
        value = _value(key, words)
        if key.refused and value not in key.off:
            raise word.wrong(f"no {name} = {value}" if key.off else f"no {name}", key.refused)
        if key.idle:
            found.idle.append(f"{name}: {key.idle}")
        elif not key.refused:
            found[name] = value
    return found


def _value(key: Key, words: tuple[Word, ...]) -> Any:
    if key.kind == "text":
        return " ".join(word.text for word in words)
    if key.kind in ("ints", "floats"):
        return [word.integer(f"integers for {key.name}") if key.kind == "ints" else word.number() for word in words]
    if len(words) > 1:
        raise words[1].wrong(f"one value for {key.name}", "remove what follows it, or write it behind #")
    if key.kind == "bool":
        return _truth(key, words[0])
    return words[0].integer(f"an integer for {key.name}") if key.kind == "int" else words[0].number()


def _truth(key: Key, word: Word) -> bool:
    text = word.text.lower()
    if text not in ("0", "1", "true", "false"):
        raise word.wrong(f"0 or 1 for {key.name}")
    return text in ("1", "true")


def markdown() -> str:
    """The tables of all keys, for the documentation."""
    parts = []
    for file, table in TABLES.items():
        parts.append(f"| key of `{file}` | here |\n| --- | --- |")
        same: dict[str, list[str]] = {}
        for name, key in table.items():
            switch = {"": "", "gradient": " (gradients)", "monte_carlo": " (Monte Carlo)", "fit": " (fit)"}[key.needs]
            text = f"`{key.place}`{switch}" if key.place else answer(key)
            same.setdefault(text, []).append(f"`{name}`")
        parts += [f"| {', '.join(names)} | {text} |" for text, names in same.items()]
        parts.append("")
    return "\n".join(parts)
