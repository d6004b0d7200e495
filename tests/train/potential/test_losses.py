"""The terms of the loss: values against their formulas written out, gradients, weights, and labels that are missing."""

import itertools

import numpy as np
import pytest
import torch
from fp_potential.train.data.frame import LABELS
from fp_potential.train.data.read import read_frames
from fp_potential.train.potential.config import Keys, LossWeights
from fp_potential.train.potential.config.loss import LABELS_OF, unavailable
from fp_potential.train.potential.losses import LOSSES, NEEDS_PROPERTIES, needs, weighted_loss
from fp_potential.train.potential.modes.predict import MODES, predict
from fp_potential.train.potential.modes.properties import OF_STATE, RESPONSES
from fp_potential.train.potential.samples import batch_samples, make_samples

from fp_potential.options import SCFOptions, UpdateOptions
from structures import ELEMENTS, UPDATES, make_model, salt_water_box, water_cluster
from training_data import write_frames

SIZES = np.array([6, 20, 3])
ATOMS = SIZES.sum()
STARTS = np.concatenate([[0], np.cumsum(SIZES)])
KEYS = {name: f"REF_{name}" for name in LABELS} | {"total_charge": "charge"}
#: terms that compare with no label, and those of them that compare with the total charge
WITHOUT_LABEL = [name for name, labels in LABELS_OF.items() if not labels]
OF_STRUCTURE = {"total_charge", "total_charge_per_atom"}


def labelled(content: list) -> list:
    """Frames with random labels."""
    rng = np.random.default_rng(4)
    for number, atoms in enumerate(content):
        n = len(atoms)
        for name, (shape, per_atom) in LABELS.items():
            drawn = rng.normal(size=(n, *shape) if per_atom else shape)
            drawn = np.arange(n) // 3 if name == "molecules" else drawn
            drawn = np.arange(n) // 2 if name == "fragments" else drawn
            drawn = drawn.reshape(n, 9) if name == "born_charges" else drawn
            (atoms.arrays if per_atom else atoms.info)[f"REF_{name}"] = drawn
        atoms.info["charge"] = 0.2 * number
        if not atoms.pbc.any():
            del atoms.info["REF_stress"]
    return content


def make_batch(folder, change=None, keys=KEYS):
    content = labelled([water_cluster(2), salt_water_box(), water_cluster(1, seed=3)])
    if change is not None:
        for atoms in content:
            change(atoms)
    read = read_frames([str(write_frames(folder / "a.xyz", content))], Keys(**keys), demanded=[])
    return batch_samples(make_samples(read, ELEMENTS, 4.0, torch.float64), [0, 1, 2]), read


@pytest.fixture
def output():
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "energy": draw(3),
        "forces": draw(ATOMS, 3),
        "stress": draw(3, 3, 3),
        "density": draw(ATOMS, 4),
        "dipole": draw(3, 3),
        "fermi_level": draw(3),
        "esps": draw(ATOMS),
        "coulomb_features": draw(ATOMS, 2, 4),
        "reference_coulomb_features": draw(ATOMS, 2, 4),
        "polarizability": draw(3, 3, 3),
        "born_charges": draw(ATOMS, 3, 3),
        "energy_by_charge": draw(3),
        "charge_response": draw(ATOMS),
        "charges_by_field": draw(ATOMS, 3),
        "conducts": torch.tensor([True, True, False]),
        "metallic_softness": draw(ATOMS).square(),
        "dipole_softness": draw(ATOMS).square(),
        "spectrum": draw(3, 2),
        "final_change": draw(ATOMS, 4),
    }


def term_of(name, **options):
    return getattr(LossWeights(**{name: {"weight": 1.0, **options}}), name)


def value(name, output, batch, **options):
    return LOSSES[name](output, batch, term_of(name, **options)).item()


def test_every_term_has_options_and_what_it_needs_exists():
    assert set(LOSSES) == set(LossWeights.model_fields)
    assert {prop for props in NEEDS_PROPERTIES.values() for prop in props} <= {*OF_STATE, *RESPONSES}
    wanted = needs(["forces", "field_features", "esps"], potentials_mapped=False)
    assert wanted.forces and not wanted.stress
    assert wanted.properties == {"coulomb_features", "reference_coulomb_features", "esps", "reference_esps"}
    assert needs(["esps", "stress"]) == (False, True, {"esps"})


def test_formulas(tmp_path, output):
    batch, read = make_batch(tmp_path)
    got = {name: part.numpy() for name, part in output.items()}

    def stacked(name):
        return np.concatenate([frame.labels[name] for frame in read])

    def label(name):
        return np.array([frame.labels[name] for frame in read])

    charge = np.array([got["density"][a:b, 0].sum() for a, b in itertools.pairwise(STARTS)]) - [0.0, 0.2, 0.4]
    open_ = np.array([1.0, 0.0, 1.0])
    dipole = (got["dipole"] - label("dipole")) * open_[:, None]
    level = (got["fermi_level"] - label("fermi_level")) * got["conducts"]
    charges = got["density"][:, 0] - stacked("atomic_multipoles")[:, 0]
    moved = [np.add.reduceat(got["charges_by_field"][a:b], range(0, b - a, 2)) for a, b in itertools.pairwise(STARTS)]
    fragment = [np.add.reduceat(charges[a:b], range(0, b - a, 2)) for a, b in itertools.pairwise(STARTS)]
    force = got["forces"] - stacked("forces")
    box = force[6:26]
    molecule = np.concatenate(
        [force[:6].reshape(2, 3, 3).sum(1), [box[k : k + 3].sum(0) for k in range(0, 20, 3)], [force[26:].sum(0)]]
    )
    centres = [frame.atoms.positions.reshape(-1, 3, 3).mean(1) for frame in (read[0], read[2])]
    virial = np.array([(centres[0] * molecule[:2]).sum(), 0.0, (centres[1] * molecule[-1:]).sum()])
    open_atoms = np.repeat(open_, SIZES)[:, None, None]
    legendre = (got["fermi_level"] + got["energy_by_charge"]) / SIZES * got["conducts"]
    expected = {
        "energy_per_atom": np.mean(((got["energy"] - label("energy")) / SIZES) ** 2),
        "forces": np.mean(force**2),
        "stress": np.sum((got["stress"][1] - read[1].labels["stress"]) ** 2) / 27,
        "atomic_multipoles": np.mean((got["density"] - stacked("atomic_multipoles")) ** 2),
        "total_charge": np.mean(charge**2),
        "total_charge_per_atom": np.mean((charge / SIZES) ** 2),
        "dipole": np.mean(dipole**2),
        "dipole_per_atom": np.mean((dipole / SIZES[:, None]) ** 2),
        "fermi_level": np.mean(level**2),
        "fermi_level_per_atom": np.mean((level / SIZES) ** 2),
        "esps": np.mean((got["esps"] - stacked("electrostatic_potentials")) ** 2),
        "field_features": np.mean((got["coulomb_features"] - got["reference_coulomb_features"]) ** 2),
        "polarizability": np.mean(
            open_[:, None, None] * ((got["polarizability"] - label("polarizability")) / SIZES[:, None, None]) ** 2
        ),
        "born_charges": np.mean(open_atoms * (got["born_charges"] - stacked("born_charges")) ** 2),
        "fragment_charges": np.mean([np.mean(part**2) for part in map(np.array, fragment)]),
        "fragment_response": np.mean([np.mean(part**2) * is_open for part, is_open in zip(moved, open_, strict=True)]),
        "metallic_softness": np.mean(got["metallic_softness"]),
        "dipole_softness": np.mean(got["dipole_softness"]),
        "molecular_forces": np.mean([np.mean(part**2) for part in np.split(molecule, [2, len(molecule) - 1])]),
        "cluster_virial": np.mean(virial**2),
        "cluster_virial_per_atom": np.mean((virial / SIZES) ** 2),
        "legendre": np.mean(legendre**2),
        "fermi_level_gradient": np.mean(np.maximum(got["charge_response"], 0)),
        "fixedpoint_scf_stability": np.mean(np.log1p(np.exp(10 * (got["spectrum"][:, 0] - 0.9))) / 10),
        "final_terms_fixedpoint_scf_stability": np.mean(np.abs(got["final_change"])),
    }
    assert set(expected) == set(LOSSES)
    for name, number in expected.items():
        assert value(name, output, batch) == pytest.approx(number, rel=1e-12), name
    weights = LossWeights(forces=2.0, dipole={"weight": 3.0}).terms()
    total, terms = weighted_loss(output, batch, weights)
    assert total.item() == pytest.approx(2 * expected["forces"] + 3 * expected["dipole"])
    assert terms["forces"].item() == pytest.approx(expected["forces"])


def test_options_of_the_spectrum(tmp_path, output):
    batch, _ = make_batch(tmp_path)
    largest, smallest = output["spectrum"].numpy().T
    expected = np.log1p(np.exp(4 * (largest - 0.5))) / 4 + np.log1p(np.exp(4 * (-0.3 - smallest))) / 4
    found = value("fixedpoint_scf_stability", output, batch, beta=4.0, upper=0.5, lower=-0.3)
    assert found == pytest.approx(expected.mean())


def test_huber(tmp_path, output):
    batch, read = make_batch(tmp_path)
    error = np.abs(output["forces"].numpy() - np.concatenate([frame.labels["forces"] for frame in read]))
    expected = np.where(error <= 0.7, error**2, 0.7 * (2 * error - 0.7))
    assert (error > 0.7).any() and (error < 0.7).any()
    assert value("forces", output, batch, huber=0.7) == pytest.approx(expected.mean())
    assert value("forces", output, batch, huber=1e6) == pytest.approx((error**2).mean())


def test_potentials_of_the_reference_multipoles_where_none_are_mapped(tmp_path, output):
    keys = {name: key for name, key in KEYS.items() if name != "electrostatic_potentials"}

    def remove(atoms):
        if len(atoms) == 20:
            del atoms.arrays["REF_atomic_multipoles"]

    batch, _ = make_batch(tmp_path, remove, keys)
    reference = torch.linspace(-1, 1, ATOMS, dtype=torch.float64)
    known = np.repeat([1.0, 0.0, 1.0], SIZES)
    expected = np.mean(known * (output["esps"] - reference).numpy() ** 2)
    assert value("esps", output | {"reference_esps": reference}, batch) == pytest.approx(expected)
    # without them, the labels: there are none
    assert value("esps", output, batch) == 0.0


def test_missing_labels_give_no_loss_and_no_gradient(tmp_path, output):
    def remove(atoms):
        for name in LABELS:
            atoms.info.pop(f"REF_{name}", None)
            atoms.arrays.pop(f"REF_{name}", None)

    batch, _ = make_batch(tmp_path, remove)
    output["reference_esps"] = output["esps"] * float("nan")
    variables = {name: part if part.dtype == torch.bool else part.requires_grad_() for name, part in output.items()}
    names = [name for name in LOSSES if name not in WITHOUT_LABEL]
    total, _ = weighted_loss(variables, batch, LossWeights(**dict.fromkeys(names, 1.0)).terms())
    total.backward()
    assert total.item() == 0.0
    assert all(part.grad is None or not part.grad.any() for part in variables.values())


def test_weights_of_frames_and_labels(tmp_path, output):
    plain, _ = make_batch(tmp_path)
    weighted, _ = make_batch(tmp_path, lambda atoms: atoms.info.update(config_weight=4.0))
    for name in LOSSES:
        assert value(name, output, weighted) == pytest.approx(4 * value(name, output, plain)), name
    for label in LABELS:
        other, _ = make_batch(tmp_path, lambda atoms, label=label: atoms.info.update({f"config_{label}_weight": 3.0}))
        for name in LOSSES:
            own = LABELS_OF.get(name, (name,))
            counts = label == "molecules" if "molecules" in own else any(label in entry.split("|") for entry in own)
            # the potentials are labelled here, not the reference multipoles
            counts = label == "electrostatic_potentials" if name == "esps" else counts
            counts |= label == "fragments" and name in ("fragment_charges", "fragment_response")
            factor = 3.0 if counts else 1.0
            assert value(name, output, other) == pytest.approx(factor * value(name, output, plain)), (name, label)


def test_weights_given_for_each_axis_of_a_dipole_include_periodic_ones(tmp_path, output):
    def weigh(atoms):
        atoms.info["config_dipole_weight"] = np.array([1.0, 0.0, 2.0])

    batch, read = make_batch(tmp_path, weigh)
    error = output["dipole"].numpy() - np.array([frame.labels["dipole"] for frame in read])
    assert value("dipole", output, batch) == pytest.approx(np.mean(np.array([1.0, 0.0, 2.0]) * error**2))


# ---- gradients by the parameters, through the model ----------------------------------------------------------------

TIGHT = SCFOptions(num_scf_steps=100, scf_tolerance=1e-13, mixing_parameter=0.3)
LOOPS = {
    "direct": (None, "skip path"),
    "unroll_scf": (SCFOptions(num_scf_steps=3, mixing_parameter=0.4), "skip path"),
    "implicit": (TIGHT, "one-body MLP"),
    "linearize_solve": (TIGHT, "symmetric"),
}
OPTIONS = {"forces": {"huber": 0.5}, "fixedpoint_scf_stability": {"upper": 0.05, "lower": 0.0}}


def model_type(update):
    return UpdateOptions(**UPDATES[update]).type


def step_along(parameters, directions, length):
    with torch.no_grad():
        for p, d in zip(parameters, directions, strict=True):
            p.add_(length * d)


@pytest.mark.parametrize(("mode", "split_charges"), [*((mode, False) for mode in MODES), ("linearize_solve", True)])
def test_gradient_of_every_term(mode, split_charges, tmp_path, monkeypatch):
    """Along a random direction of all parameters, against central differences."""
    monkeypatch.setattr("fp_potential.scf.arnoldi.ACCURACY", 1e-11)
    content = labelled([water_cluster(2)[:5], salt_water_box()[:5]])
    read = read_frames([str(write_frames(tmp_path / "a.xyz", content))], Keys(**KEYS), demanded=[])
    batch = batch_samples(make_samples(read, ELEMENTS, 3.5, torch.float64), [0, 1])

    scf, update = LOOPS[mode]
    update = "split charge" if split_charges else update
    model = make_model(num_channels=4, radial_MLP=[8], r_max=3.5, fixedpoint_update_config=UPDATES[update])
    positive = update in ("symmetric", "split charge")
    if not positive:
        with torch.no_grad():  # some charges follow the level the wrong way
            model.solver.density_map.response.scalars.skip_bias[0, :2].mul_(-0.5)
    names = [name for name in LOSSES if unavailable(name, mode, True, model_type(update)) is None]
    terms = LossWeights(**{name: {"weight": 1.0, **OPTIONS.get(name, {})} for name in names}).terms()
    # a density at known levels has a charge of its own; at all other times the charge is exact
    levels = batch.labels.fermi_level if mode == "direct" else None
    zero = set() if mode == "direct" else set(OF_STRUCTURE)
    zero |= {"fermi_level_gradient"} if positive else set()

    wanted = needs(names)
    arguments = (scf, batch.labels.multipoles, levels, *wanted[:2], True, {*wanted.properties, "reference_esps"})

    def values():
        output = predict(model, batch.graph, mode, *arguments)
        of_multipoles = LOSSES["esps"](output, batch, terms["esps"])
        del output["reference_esps"]
        every = {name: LOSSES[name](output, batch, term) for name, term in terms.items()}
        return every | {"esps of multipoles": of_multipoles}

    parameters = [p for p in model.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    found = values()
    slopes = {}
    for name, loss in found.items():
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
        parts = [(g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None]
        slopes[name] = sum(parts).item()
    numeric = dict.fromkeys(found, 0.0)
    step = 1e-5
    for factor, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
        step_along(parameters, directions, factor * step)
        for name, loss in values().items():
            numeric[name] += weight * loss.item() / (12 * step)
        step_along(parameters, directions, -factor * step)
    for name, slope in slopes.items():
        if name in zero:
            assert abs(found[name].item()) < 1e-20
            continue
        assert slope != 0.0, name
        # differences of a value are good to its rounding over the step
        rounding = 1e-13 * abs(found[name].item()) / step
        assert slope == pytest.approx(numeric[name], rel=1e-6, abs=rounding), name
