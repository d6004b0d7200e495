"""Commands, options, code and links of the documentation are right: a reader may type what stands there."""

import re

import pytest
from fp_potential.train.training_file import load

from document_checks import (
    Wrong,
    check_files,
    check_fixedpoint,
    check_lammps,
    check_program,
    check_python,
    check_yaml,
    pair_keywords,
)
from documents import (
    LAMMPS,
    PAGES,
    PROGRAMS,
    PYTHON,
    ROOT,
    SCRIPTS,
    YAML,
    Block,
    Command,
    anchors,
    blocks,
    commands,
    docstring,
    links,
)

BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [command for page in PAGES for command in commands(page)]
CALLS = [command for script in SCRIPTS for command in commands(script, docstring(script))]
CHECKS = {"yaml": check_yaml, "python": check_python, "lammps": check_lammps}
HERE = ROOT / "docs" / "training.md"


def named(items):
    return [pytest.param(item, id=item.name) for item in items]


@pytest.mark.parametrize("block", named(block for block in BLOCKS if block.language in CHECKS))
def test_blocks_are_what_they_are_called(block):
    CHECKS[block.language](block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_checked(page):
    """Fences name one of the languages that are checked; indented blocks hold commands, formulas and output."""
    for block in (block for block in BLOCKS if block.page == page):
        assert block.language in {"", "sh", "text", *CHECKS}, f"{block.name}: nothing checks {block.language}"
        if not block.language:
            for line in block.text.splitlines():
                hidden = next((p for p in (LAMMPS, PYTHON, YAML) if re.match(p, line)), None)
                assert hidden is None, f"{block.name}: put it between fences with its language: {line}"


@pytest.mark.parametrize("command", named([*COMMANDS, *CALLS]))
def test_commands_can_be_typed(command):
    (check_fixedpoint if command.words[0] == "fixedpoint" else check_program)(command)


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*/*.yaml")), ids=lambda file: file.name)
def test_training_files_of_the_examples_are_right(file):
    load(file)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_commands_exist(page):
    written: set[str] = set()
    for command in (command for command in COMMANDS if command.page == page):
        try:
            check_files(command, written)
        except Wrong as error:
            raise AssertionError(f"{command.name}: {error}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for line, target in links(page):
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page.name}:{line}: no {file}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page.name}:{line}: {there.name} has no title '{anchor}'"


def test_the_table_of_the_pair_style_has_its_keywords():
    text = (ROOT / "docs" / "lammps.md").read_text(encoding="utf-8")
    table = text.partition("| keyword |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(pair_keywords())


MISTAKES = {
    "yaml": [
        ("training: {batchsize: 4}", "batch_size"),
        ("loss: {energy_per_atm: 1.0}", "energy_per_atm"),
        ("scf_options: {mixing: 0.2}", "mixing"),
        ("model: {r_max: long}", "r_max"),
    ],
    "python": [
        ("from fp_potential.calculator import FixedPointCalculater", "FixedPointCalculater"),
        ('calc = FixedPointCalculator("model.pt", total_chrge=0.0)', "total_chrge"),
        ("atoms = read('water.xyz'", "not Python"),
    ],
    "lammps": [
        ("pair_style fixedpoint chrge 0", "chrge"),
        ("pair_style fixedpoint efield 0 0 &\n  charge 1", "efield needs 3"),
    ],
}


@pytest.mark.parametrize(
    ("language", "text", "part"), [(language, *case) for language, cases in MISTAKES.items() for case in cases]
)
def test_a_mistake_in_a_block_is_found(language, text, part):
    with pytest.raises(Wrong, match=part):
        CHECKS[language](Block(HERE, 1, language, text))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("    fixedpoint evaluate model.pt data.xyz", "no command"),
        ("    fixedpoint eval model.pt data.xyz --splitt test", "splitt"),
        ("    fixedpoint scf model.pt data.xyz --solver andersen", "andersen"),
        ("    fixedpoint train train.yaml training.batchsize=4", "batchsize"),
        ("    fixedpoint train train.yaml --batch_sise 4", "batch_sise"),
        ("    fixedpoint train train.yaml training.batch_size=many", "batch_size"),
        ("the command `fixedpoint eval --tabel` writes", "tabel"),
        ("    fixedpoint info model.pt && fixedpoint info", "required"),
        ("    torchrun -m fp_potential.train train.yaml training.devise=cuda", "devise"),
        ("    python benchmarks/solver.py model.pt", "solver.py"),
        ("    python benchmarks/solvers.py model.pt --evry 4", "evry"),
        ("    make demonstration", "demonstration"),
    ],
)
def test_a_mistake_in_a_command_is_found(text, part):
    found = commands(HERE, text)
    assert found
    with pytest.raises(Wrong, match=part):
        for command in found:
            (check_fixedpoint if command.words[0] == "fixedpoint" else check_program)(command)


def test_a_file_that_is_not_there_is_found():
    with pytest.raises(Wrong, match=r"modle\.pt"):
        check_files(Command(HERE, 1, ("fixedpoint", "info", "modle.pt"), whole=True), set())


def test_pages_are_read_in_pieces():
    """Fences, indented blocks, commands in sentences; what is no program is no command."""
    page = "text `make test`\n\n    fixedpoint info \\\n      model.pt   # what\n\n```yaml\na: 1\n```\n\n    x = y\n"
    assert [(b.language, b.line) for b in blocks(HERE, page)] == [("", 3), ("yaml", 7), ("", 10)]
    assert [c.words for c in commands(HERE, page)] == [("fixedpoint", "info", "model.pt"), ("make", "test")]
    assert all(program == program.lower() for program in PROGRAMS)
