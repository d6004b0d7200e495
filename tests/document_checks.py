"""What must hold of the blocks and commands of the documentation: names exist, options are known, values are of their
type. Each check raises `Wrong`, which says what is not so."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import re
from functools import cache
from pathlib import Path
from typing import Any

from fp_potential.train.bands.config import BandsStage, BandsTrainConfig
from fp_potential.train.config.load import parse_override
from fp_potential.train.config.schema import validate
from fp_potential.train.potential.config import Stage, TrainConfig, load_config
from fp_potential.train.potential.config.command_line import values_of
from fp_potential.train.training_file import kind_of, load
from pydantic import BaseModel

from documents import ROOT, Block, Command
from fp_potential.calculator import published_arguments
from fp_potential.cli.main import COMMANDS, command_of
from fp_potential.options import SCFOptions

EXAMPLES = [ROOT / "examples" / name for name in ("nacl_water", "nacl_ladder", "cu_water_electrode")]
BANDS: dict[str, Any] = {
    "model": {"type": "bands", "parameters": {"In": [1.0] * 4, "As": [1.0] * 4}},
    "systems": [{"structure": "a.cif", "kpoints": "k.par", "bands": "b.par", "max_ke": 6, "n_bands": 16}],
    "train_schedule": [{"name": "one", "epochs": 1}],
}
SUFFIXES = r"\.(yaml|pt|xyz|extxyz|gz|py|fp|model|data|lammpstrj|json|png|txt|dat|out)$"
#: files that are the reader's own
OWN = (
    "data/**/*.xyz data/*.extxyz.gz data.xyz slab.xyz structure.xyz water.xyz cu_water.extxyz water_boxes.extxyz "
    "bands.dat eqp.dat bandstructure.dat "
    "slab.extxyz.gz xtb_nacl.extxyz.gz local.pt dump.lammpstrj frames.extxyz water.model config.yaml MODEL.pt model.pt"
).split()
#: options after which a command names what it writes
WRITTEN = ("--output", "--plot", "--schema", "--table", "--figures")
#: sections and labels that fragments of training files refer to without repeating them
KEYS = {
    name: f"REF_{name}"
    for name in "energy forces stress atomic_multipoles dipole fermi_level polarizability total_charge".split()
}
BASE: dict[str, Any] = {
    "data": {"files": "a.xyz", "keys": KEYS},
    "train_schedule": [
        {
            "name": "one",
            "epochs": 1,
            "loss": {"energy_per_atom": 1.0},
            "fixed_point_training_options": {
                "mode": "linearize_solve",
                "scf": {"num_scf_steps": 10, "mixing_parameter": 0.3},
            },
        }
    ],
}


class Wrong(Exception):
    """Something in the documentation is not so."""


def check_fixedpoint(command: Command) -> None:
    """The command exists and takes these words; the options of a training file are those, with values of their type."""
    name, *words = command.words[1:] or ("",)
    if name in ("", "--help", "--version"):
        return
    if name not in COMMANDS:
        raise Wrong(f"no command '{name}'")
    words = [word.split("|")[0] if re.fullmatch(r"[\w|]+", word) else word for word in words]
    known = command_of(name)
    if not command.whole and not any(re.search(SUFFIXES, word) for word in words):
        _mentioned(words, name, known.parser._option_string_actions)
        return
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            arguments = known.parsed(words)
        if name in ("train", "prepare"):
            _overrides(_positional(arguments, name), command.page)
    except SystemExit:
        raise Wrong(said.getvalue().strip().splitlines()[-1]) from None
    except ValueError as error:
        raise Wrong(str(error)) from error


def _positional(arguments: Any, name: str) -> list[str]:
    if name == "prepare":
        return list(arguments.source)
    return [word for word in [arguments.config, *arguments.overrides] if word]


def _mentioned(words: list[str], name: str, options: dict[str, Any]) -> None:
    """Options of a command that is mentioned without what it works on."""
    for word in words:
        if word.startswith("--") and word.partition("=")[0] not in options:
            if name != "train":
                raise Wrong(f"fixedpoint {name} has no option {word}")
            try:
                values_of(word[2:].partition("=")[0])
            except ValueError as error:
                raise Wrong(str(error)) from error


def _overrides(words: list[str], page: Path) -> None:
    """``name=value``: the training file (if it is the reader's own, that of the example) takes them."""
    files, words = [word for word in words if "=" not in word], [word for word in words if "=" in word]
    of_page = next((page.parent / name for name in files if (page.parent / name).exists()), None)
    if of_page is not None and kind_of(of_page) == "bands":
        load(of_page, words)
        return
    file = EXAMPLES[0] / "train.yaml"
    if files and files[0].endswith(".yaml"):
        file = next((folder / files[0] for folder in [page.parent, *EXAMPLES] if (folder / files[0]).is_file()), file)
    try:
        for word in words:
            values_of(parse_override(word)[0])
        load_config(file, ["training.workers=1", *words])
    except ValueError as error:
        raise Wrong(str(error)) from error


def check_program(command: Command) -> None:
    """Scripts, targets and paths exist, and scripts know the options."""
    program, *words = command.words
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        for word in words:
            if word not in targets:
                raise Wrong(f"the Makefile has no target '{word}'")
    elif program == "torchrun" and "-m" in words:
        module = words.index("-m")
        importlib.import_module(words[module + 1])
        check_fixedpoint(Command(command.page, command.line, ("fixedpoint", "train", *words[module + 2 :]), True))
    elif program == "python" and words and words[0].endswith(".py"):
        source = _found(words[0], command.page).read_text(encoding="utf-8")
        for word in words[1:]:
            option = word.partition("=")[0]
            if option.startswith("--") and f'"{option}"' not in source:
                raise Wrong(f"{words[0]} has no option {option}")
        if "add_subparsers" in source and words[1:] and f'"{words[1]}"' not in source:
            raise Wrong(f"{words[0]} has no command '{words[1]}'")
    elif program == "pytest":
        for word in words:
            if word.startswith("tests"):
                _found(word, command.page)


def check_files(command: Command, written: set[str]) -> None:
    """Files of a command are in the repository, written by a command of the page before, or the reader's own."""
    after = ""
    for word in command.words[1:]:
        if after in WRITTEN or (command.words[:2] == ("fixedpoint", "export") and word == command.words[-1]):
            written.add(word)
        elif command.words[:2] == ("fixedpoint", "import-mace") and after in command.words[2:3]:
            written.add(word)
        elif command.words[1:3] in (("bands", "convert"), ("bands", "primitive")) and word in command.words[4:5]:
            written.add(word)
        elif command.words[:2] == ("python", "make_data.py") and word == command.words[-1]:
            written.add(word)
        elif re.search(SUFFIXES, word) and "=" not in word and word not in OWN and word not in written:
            _found(word, command.page)
        after = word


def _found(word: str, page: Path) -> Path:
    for folder in [ROOT, page.parent, *EXAMPLES]:
        found = next(iter(folder.glob(word)), None)
        if found is not None:
            return found
    raise Wrong(f"there is no file {word}: not in the repository, nor written before, nor the reader's own")


def check_yaml(block: Block) -> None:
    """A training file, sections or a stage of one, or arguments of the calculator."""
    data = parse_override(f"block={block.text}")[1]  # YAML as training files are read
    if not isinstance(data, dict):
        raise Wrong("expected a mapping of options")
    try:
        if "bands" in block.page.name or "pseudopotentials" in str(block.page):
            _check_bands(data, block)
        elif set(data) == {"scf_options"}:
            validate_model(SCFOptions, data["scf_options"])
        elif set(data) <= set(Stage.model_fields) - {"name"}:
            validate({**BASE, "train_schedule": [BASE["train_schedule"][0] | data]}, TrainConfig, block.name)
        else:
            base = dict(BASE)
            if {"heads", "train_file", "files"} & set(data):
                base.pop("data")
                if "train_file" not in data:
                    data = {"train_file": "a.xyz", **data}
            validate({**base, **data}, TrainConfig, block.name, ROOT / "examples" / "nacl_water")
    except ValueError as error:
        raise Wrong(str(error)) from error


def _check_bands(data: dict[str, Any], block: Block) -> None:
    """A training file of a pseudopotential, sections or a stage of one."""
    if set(data) <= set(BandsStage.model_fields) - {"name"} and not set(data) & set(BandsTrainConfig.model_fields):
        data = {"train_schedule": [BANDS["train_schedule"][0] | data]}
    if isinstance(data.get("model"), dict):
        data = data | {"model": BANDS["model"] | data["model"]}
    validate({**BANDS, **data}, BandsTrainConfig, block.name)


def validate_model(model: type[BaseModel], data: dict[str, Any]) -> None:
    """``data`` are options of ``model``."""
    unknown = set(data) - set(model.model_fields)
    if unknown:
        raise Wrong(f"{model.__name__} has no {', '.join(sorted(unknown))}")
    model(**data)


def check_python(block: Block) -> None:
    """It compiles, what it imports is there, and functions of this package know the arguments."""
    try:
        tree = ast.parse(block.text)
    except SyntaxError as error:
        raise Wrong(f"not Python: {error}") from error
    names: dict[str, Any] = {"FixedPointCalculator": _imported("fp_potential.calculator", "FixedPointCalculator")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                _imported(alias.name)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = _imported(str(node.module), alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            _called(names[node.func.id], [keyword.arg for keyword in node.keywords if keyword.arg])


#: programs of others that pages show how to read, and that need not be installed here
ELSEWHERE = ("mace_scf", "tblite")


def _imported(module: str, name: str | None = None) -> Any:
    if module.partition(".")[0] in ELSEWHERE:
        return None
    try:
        found = importlib.import_module(module)
        return found if name is None else getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise Wrong(f"cannot import {name or ''} of {module}: {error}") from error


def _called(function: Any, keywords: list[str]) -> None:
    if not getattr(function, "__module__", "").startswith("fp_potential"):
        return
    parameters = inspect.signature(function).parameters
    known = set(parameters)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        known |= {*published_arguments.ARGUMENTS, *published_arguments.ASE_ARGUMENTS}
    wrong = [keyword for keyword in keywords if keyword not in known]
    if wrong:
        raise Wrong(f"{function.__name__} has no argument {', '.join(wrong)}")


@cache
def pair_keywords() -> dict[str, int]:
    """Keywords of the pair style and how many values each has, as the plugin has them."""
    source = (ROOT / "lammps_plugin" / "pair_style" / "pair_settings.cpp").read_text(encoding="utf-8")
    return {name: int(values) for name, values in re.findall(r'^ +\{"(\w+)", (\d), ', source, re.MULTILINE)}


def check_lammps(block: Block) -> None:
    """Keywords of every ``pair_style fixedpoint``, with as many values as they have."""
    for line in block.text.replace("&\n", " ").splitlines():
        words = line.partition("#")[0].split()
        if words[:2] != ["pair_style", "fixedpoint"] or words[2:] == ["keyword", "value", "..."]:
            continue
        rest = words[2:]
        while rest:
            keyword, values = rest[0], pair_keywords().get(rest[0])
            if values is None:
                raise Wrong(f"pair_style fixedpoint has no keyword '{keyword}'; it has {', '.join(pair_keywords())}")
            following = rest[1 : 1 + values]
            if len(following) < values or set(following) & set(pair_keywords()):
                raise Wrong(f"the keyword {keyword} needs {values} values")
            rest = rest[1 + values :]
