"""Archives: scripted = eager, metadata, and what is refused."""

import json
import zipfile
from pathlib import Path

import pytest
import torch

import fp_potential
from fp_potential.export import FORMAT_VERSION, METADATA_FILE, OUTPUTS, export_model, load_model, run_model
from fp_potential.graph import collate
from fp_potential.options import SCFOptions
from structures import evaluate, make_model, salt_water_box, to_graph, water_cluster

#: no initial density and no initial level
FROM_LOCAL_GUESS = (torch.zeros(0, 4, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))


@pytest.fixture(scope="module")
def archive(archive_of):
    return archive_of(scf=SCFOptions(num_scf_steps=70), training={"epochs": 3})


@pytest.mark.parametrize("solver", ["anderson", "linear"])
@pytest.mark.parametrize("constant_charge", [True, False])
def test_scripted_saved_and_loaded_equals_eager(archive, model, constant_charge: bool, solver: str) -> None:
    module, _ = load_model(archive)
    graph = collate(
        [to_graph(a, model, total_charge=0.2, fermi_level=-2.2) for a in (salt_water_box(), water_cluster())]
    )
    settings = {"num_scf_steps": 60, "scf_tolerance": 1e-9, "mixing_parameter": 0.3, "solver": solver}
    out = module(*graph, *settings.values(), constant_charge, True, *FROM_LOCAL_GUESS)
    eager = evaluate(model, graph, **settings, constant_charge=constant_charge)
    assert set(out) == set(eager) == set(OUTPUTS)
    for key, value in eager.items():
        assert torch.allclose(out[key].double(), value.double(), rtol=1e-12, atol=1e-12), key


def test_calls_leave_nothing_behind(archive, model) -> None:
    """Batches of other sizes one after the other, with and without the optimising executor."""
    module, _ = load_model(archive)
    loop = (60, 1e-9, 0.3, "anderson", True)
    for sizes in ((1, 2, 3), (2, 1), (1,), (3, 1)):
        graph = collate([to_graph(water_cluster(n), model) for n in sizes])
        out = run_model(module, *graph, *loop, True, *FROM_LOCAL_GUESS)
        again = module(*graph, *loop, True, *FROM_LOCAL_GUESS)
        assert out["history"].shape == again["history"].shape == (int(out["scf_steps"].max()), len(sizes))
        assert module.responses(*graph, *loop, *FROM_LOCAL_GUESS)["status"].tolist() == [0] * len(sizes)


def test_ranks_of_a_single_process_change_nothing(archive, model) -> None:
    """`distributed` calls the communication operators, which are trivial here."""
    module, _ = load_model(archive)
    graph = to_graph(salt_water_box(), model)
    arguments = (60, 1e-10, 0.3, "anderson", True, True, *FROM_LOCAL_GUESS)
    a, b = module(*graph, *arguments), module(*graph._replace(distributed=True), *arguments)
    for key in a:
        assert torch.allclose(a[key].double(), b[key].double(), rtol=1e-12, atol=1e-12), key


def test_metadata(archive) -> None:
    _, metadata = load_model(archive)
    assert metadata["elements"] == ["H", "O", "Na", "Cl"]
    assert metadata["cutoff"] == 4.0
    assert metadata["comm_width"] == 6 * 4
    assert metadata["scf"]["num_scf_steps"] == 70
    assert metadata["training"] == {"epochs": 3}
    assert metadata["dtype"] == "float64"


def test_metadata_that_json_cannot_hold_are_refused(tmp_path) -> None:
    """NaN is no JSON: LAMMPS would not read the archive. What stood there before stays."""
    path = tmp_path / "model.pt"
    path.write_text("before")
    with pytest.raises(ValueError, match="is not finite"):
        export_model(make_model(), path, training={"loss": float("nan")})
    assert path.read_text() == "before" and [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_an_archive_holds_no_paths_of_its_maker(archive) -> None:
    here = str(Path(fp_potential.__file__).parent).encode()
    with zipfile.ZipFile(archive) as content:
        assert not [name for name in content.namelist() if here in content.read(name)]


def test_refused_files(archive, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no model file"):
        load_model(tmp_path / "none.pt")
    noise = tmp_path / "noise.pt"
    noise.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="not a TorchScript model"):
        load_model(noise)
    other = tmp_path / "other.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(other))
    with pytest.raises(ValueError, match="not a model of fp_potential"):
        load_model(other)
    newer = tmp_path / "newer.pt"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(newer, "w", zipfile.ZIP_STORED) as target:
        for item in source.infolist():
            content = source.read(item)
            if item.filename.endswith(METADATA_FILE):
                content = json.dumps(json.loads(content) | {"format_version": FORMAT_VERSION + 1}).encode()
            target.writestr(item.filename, content)
    with pytest.raises(ValueError, match="format version"):
        load_model(newer)
