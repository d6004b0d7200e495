"""What `SplitChargeUpdate` promises: insulators insulate, metals conduct, and nothing runs away."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from figures import at_most
from fp_potential.density.jacobian import jacobian_spectrum
from fp_potential.options import ModelOptions
from fp_potential.scf.status import CONVERGED, NO_FERMI_LEVEL
from structures import dense_jacobian, evaluate, make_model, salt_water, salt_water_box, solved, to_graph, water_cluster

FIELD = 0.02  # V/Å


def soft_model(seed: int, metallic="none", **options):
    """A model with large random weights in its response: bonds far softer than those of any molecule."""
    update = {"type": "SplitChargeUpdate", "metallic": metallic}
    model = make_model(seed, fixedpoint_update_config=update, **options)
    response = model.solver.density_map.response
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        response.output.element_readout.mul_(20.0)
        response.bond_weight.normal_(generator=generator)
        response.bond_bias.normal_(generator=generator)
        response.dipole_weight.normal_(generator=generator)
        response.share_weight.normal_(generator=generator)
        if metallic != "none":
            response.metallic_weight.normal_(generator=generator)
    return model


def chain(n: int, distance: float = 3.2) -> Atoms:
    """Waters in a line along x."""
    atoms = Atoms()
    for k in range(n):
        water = molecule("H2O")
        water.translate([distance * k, 0, 0])
        atoms += water
    return atoms


def fragments(out: dict[str, torch.Tensor]) -> torch.Tensor:
    """Charges of waters, atoms in their order."""
    return out["density"][:, 0].reshape(-1, 3).sum(1)


@pytest.mark.parametrize("constant_charge", [True, False])
@pytest.mark.parametrize("l_max", [0, 1])
@pytest.mark.parametrize("pbc", [True, False])
@pytest.mark.parametrize("metallic", ["none", ["Na", "O"]])
def test_eigenvalues_are_real_and_not_positive(metallic, pbc: bool, l_max: int, constant_charge: bool) -> None:
    """Atoms much nearer to each other than those of any data, random weights."""
    model = soft_model(1, metallic, atomic_multipoles_max_l=l_max)
    if metallic != "none":
        with torch.no_grad():
            model.solver.density_map.response.metallic_bias.add_(2.0)
    atoms = salt_water_box(edge=4.0) if pbc else water_cluster(3)
    if not pbc:
        atoms.positions *= 0.6
    graph = to_graph(atoms, model, total_charge=1.0, fermi_level=-2.1)
    problem, density, level = solved(model, graph, constant_charge, converges=False)
    eigenvalues = np.linalg.eigvals(dense_jacobian(model, problem, density, level))
    largest = np.abs(eigenvalues).max()
    assert largest > 0.5  # the test would be empty if the response were small
    at_most("split charges: imaginary part of eigenvalues, relative", np.abs(eigenvalues.imag).max() / largest, 1e-5)
    at_most("split charges: largest eigenvalue", eigenvalues.real.max(), 1e-6)


def test_fragments_keep_their_charge_in_any_field() -> None:
    """Also charged ones, whose charge has its place by the weights f, and waters 40 Å apart."""
    model = soft_model(2)
    far = chain(2, 40.0)
    for atoms, charge in ((chain(6), 0.0), (far, 0.0), (chain(6), -1.0)):
        ends = []
        for field in ([0.0, 0.0, 0.0], [0.1, -0.03, 0.05]):
            out = evaluate(model, to_graph(atoms, model, total_charge=charge, external_field=field))
            assert out["status"].tolist() == [CONVERGED] and out["conducts"].tolist() == [False]
            assert out["total_charge"].item() == pytest.approx(charge, abs=1e-10)
            ends.append(out)
        assert (ends[1]["density"] - ends[0]["density"])[:, 0].abs().max() > 1e-3
        flow = (fragments(ends[1]) - fragments(ends[0])).abs().max().item()
        at_most("split charges: charge between fragments in a field of 0.1 V/Å, e", flow, 1e-12)


def polarizability(model, n: int) -> float:
    """Along a chain of waters, per molecule, e Å²/V."""
    dipoles = []
    for field in (-FIELD, FIELD):
        graph = to_graph(chain(n), model, external_field=[field, 0.0, 0.0])
        out = evaluate(model, graph, compute_forces=False, num_scf_steps=200)
        assert out["status"].tolist() == [CONVERGED]
        dipoles.append(out["dipole"][0, 0].item())
    return (dipoles[0] - dipoles[1]) / (2 * FIELD) / n


@pytest.mark.parametrize("metallic", ["none", ["O"]])
def test_polarizability_of_a_chain(metallic) -> None:
    """Tends to a limit where nothing conducts, and grows with the square of the length where something does."""
    model = make_model(4, fixedpoint_update_config={"type": "SplitChargeUpdate", "metallic": metallic})
    found = [polarizability(model, n) for n in (4, 8, 16, 32)]
    if metallic == "none":
        assert found[0] > 1e-3
        at_most(
            "split charges: chain's polarizability against n = 4", np.abs(np.array(found) / found[0] - 1).max(), 0.1
        )
    else:
        assert found[3] > 20 * found[0]


def test_the_spectrum_of_an_insulator_does_not_grow_with_the_box() -> None:
    """And that of a metal does."""
    ends = {}
    for metallic in ("none", ["O"]):
        model = make_model(2, fixedpoint_update_config={"type": "SplitChargeUpdate", "metallic": metallic})
        for repeats in (4, 12):
            atoms = salt_water_box(triclinic=False).repeat((1, 1, repeats))
            problem, _, _ = solved(model, to_graph(atoms, model))
            ends[str(metallic), repeats] = jacobian_spectrum(model.solver.density_map, problem).smallest
    assert ends["none", 12] > -2.0
    at_most("split charges: growth of the spectrum from 26 to 77 Å", ends["none", 12] / ends["none", 4] - 1.0, 0.25)
    assert ends["['O']", 12] < 3 * ends["['O']", 4]


def test_a_level_where_nothing_conducts_means_nothing() -> None:
    model = soft_model(3)
    graph = to_graph(water_cluster(2), model, fermi_level=-2.1, total_charge=1.0)
    out = evaluate(model, graph, constant_charge=False)
    assert out["status"].tolist() == [NO_FERMI_LEVEL] and out["conducts"].tolist() == [False]
    held = evaluate(model, graph)
    assert held["status"].tolist() == [CONVERGED] and held["fermi_level"].item() == model.fermi_level_offset
    metal = soft_model(3, ["O"])
    at_charge = evaluate(metal, graph)
    assert at_charge["conducts"].tolist() == [True]
    level = at_charge["fermi_level"].item()
    at_level = evaluate(metal, to_graph(water_cluster(2), metal, fermi_level=level), constant_charge=False)
    assert at_level["total_charge"].item() == pytest.approx(1.0, abs=1e-9)


def test_without_bonds_it_is_the_symmetric_update() -> None:
    """The same response, for weights chosen accordingly: t² in the place of the softness of the charge."""
    changes = []
    for kind in ("SymmetricUpdate", "SplitChargeUpdate"):
        model = make_model(5, include_field_si=True, fixedpoint_update_config={"type": kind})
        response = model.solver.density_map.response
        with torch.no_grad():
            if kind == "SymmetricUpdate":
                symmetric = response
                softness = torch.nn.functional.softplus(symmetric.scalar_bias[0])
            else:
                amplitude = softness.sqrt()
                response.bond_bias.zero_()
                response.bond_weight.zero_()
                response.metallic_bias.copy_(amplitude / response.metallic_scale)
                response.dipole_bias.copy_(symmetric.scalar_bias[1])
                response.output.mixing_weight.copy_(symmetric.output.mixing_weight)
                response.output.element_readout.copy_(symmetric.output.element_readout)
                response.output.element_readout[0].div_(amplitude.unsqueeze(1))
                response.shared_softness = 0.0
        graph = to_graph(salt_water_box(), model, total_charge=0.4, fermi_level=-1.9)
        with torch.no_grad():
            features = torch.randn(len(graph.species), 4, 6, generator=torch.Generator().manual_seed(1)).double()
            changes.append(response.softness(features, graph.species))
    assert changes[0].abs().max() > 0.05
    assert torch.allclose(changes[0], changes[1], rtol=0, atol=1e-12)


def test_metals_that_are_named_have_no_bonds_with_each_other_unless_a_reach_is_given() -> None:
    """Sodium and chlorine at the distance of a bond: named both, or one, or left to the data."""
    pair = water_cluster(1) + Atoms("NaCl", [[-3.0, 0, 0], [-3.0, 2.3, 0]])

    def bonded(metallic, **reach: float) -> set[tuple[str, str]]:
        update = {"type": "SplitChargeUpdate", "metallic": metallic}
        if reach:
            update["bond_reach"] = {pair.replace("_", "-"): end for pair, end in reach.items()}
        model = make_model(fixedpoint_update_config=update)
        bonds = solved(model, to_graph(pair, model))[0].state.bonds
        return {(pair.symbols[int(i)], pair.symbols[int(j)]) for i, j in zip(bonds.atom, bonds.partner, strict=True)}

    assert ("Na", "Cl") in bonded(["Na"]) and ("Na", "Cl") in bonded("auto")
    assert ("Na", "Cl") not in bonded(["Na", "Cl"]) and ("O", "H") in bonded(["Na", "Cl"])
    # reaches that are given stand above all that
    assert ("Na", "Cl") in bonded(["Na", "Cl"], Cl_Na=2.4) and ("Na", "Cl") not in bonded("none", Na_Cl=2.2)
    assert ("O", "H") not in bonded("none", O_H=0) and ("O", "Na") in bonded("none", O_Na=4.0)


def test_both_ends_of_a_bond_see_the_same_square() -> None:
    """M is symmetric: between any two atoms, and through periodic images of one atom."""
    model = soft_model(6)
    for atoms in (water_cluster(2), salt_water_box(edge=4.0)):
        graph = to_graph(atoms, model)
        problem, _, _ = solved(model, graph, converges=False)
        response, state = model.solver.density_map.response, problem.state
        n = len(atoms)
        assert len(state.bonds.atom) > 2
        unit = torch.eye(4 * n, dtype=torch.float64).reshape(4 * n, n, 1, 4).repeat(1, 1, 2, 1)
        matrix = torch.stack([response.slope(state, u, False).reshape(-1) for u in unit])
        assert torch.allclose(matrix, matrix.t(), rtol=0, atol=1e-13)
        assert torch.linalg.eigvalsh(matrix).max() < 1e-12
        pulled = torch.stack([response.pulled_back(state, u[:, 0], False)[:, 0].reshape(-1) for u in unit])
        assert torch.allclose(matrix, pulled.t(), rtol=0, atol=1e-13)


def test_a_proton_that_changes_its_water_gives_a_smooth_energy() -> None:
    """O-H bonds form and break on the way: the force is the derivative, and has no step."""
    model = soft_model(7)
    dimer = molecule("H2O") + molecule("H2O")
    dimer.positions[3:] += [0.0, 2.5, -0.3]
    dimer.rattle(0.02, seed=3)
    begin, end = dimer.positions[1].copy(), dimer.positions[3] - (dimer.positions[1] - dimer.positions[0])
    path = end - begin
    reach = float(model.solver.density_map.response.reach[0, 1])
    grid = np.linspace(0.0, 1.0, 241)
    slopes, energies, bonds = [], [], []
    for s in grid:
        atoms = dimer.copy()
        atoms.positions[1] = begin + s * path
        out = evaluate(model, to_graph(atoms, model))
        assert out["status"].tolist() == [CONVERGED]
        slopes.append(-float(out["forces"][1].numpy() @ path))
        energies.append(out["energy"].item())
        bonds.append(tuple(atoms.get_distances(1, [0, 3]) < reach))
    assert {(True, False), (False, True)} <= set(bonds)
    step = grid[1] - grid[0]
    energies, slopes = np.array(energies), np.array(slopes)
    differences = (energies[:-4] - 8 * energies[1:-3] + 8 * energies[3:-1] - energies[4:]) / (12 * step)
    at_most(
        "split charges: slope along a proton transfer, relative",
        np.abs(differences - slopes[2:-2]).max() / np.abs(slopes).max(),
        1e-4,
    )
    # second differences of the force: a step in its derivative would show
    kink = np.abs(np.diff(slopes, 2)).max() / np.abs(np.diff(slopes)).max()
    assert kink < 0.2


@pytest.mark.parametrize("pbc", [True, False])
@pytest.mark.parametrize("metallic", ["none", ["O", "Na"]])
def test_the_variational_energy_is_stationary(metallic, pbc: bool) -> None:
    """dE/dQ = -μ, dΩ/dμ = Q, dE/dF = D; forces do not depend on what is held; the adjoint has no source."""
    model = soft_model(8, metallic, field_readout_config={"type": "VariationalFieldReadout"})
    with torch.no_grad():
        model.nonlocal_readout.weight.normal_(generator=torch.Generator().manual_seed(1))
    atoms = salt_water_box() if pbc else water_cluster(3)
    field = {} if pbc else {"external_field": [0.02, -0.05, 0.04]}
    graph = to_graph(atoms, model, total_charge=0.4, **field)
    at_charge = evaluate(model, graph, num_scf_steps=200)
    without = evaluate(model, graph, num_scf_steps=200, response_forces=False)
    if not pbc:
        defect = (at_charge["energy_by_field"] - at_charge["dipole"]).abs().max()
        kind, limit = ("insulator", 1e-8) if metallic == "none" else ("metal", 1e-5)
        at_most(f"variational read-out, {kind}: dE/dF - D, e Å", defect, limit)
    forces = at_charge["forces"] - without["forces"]
    # the weights of shared charge are no part of the energy's minimum: κ against the softness of a metal
    at_most("variational read-out: forces through the response, eV/Å", forces.abs().max(), 1e-4)
    if metallic == "none":
        return
    level = at_charge["fermi_level"]
    at_most("variational read-out: dE/dQ + μ, V", (at_charge["energy_by_target"] + level).abs().item(), 2e-5)
    held = to_graph(atoms, model, fermi_level=level.item(), **field)
    at_level = evaluate(model, held, num_scf_steps=200, constant_charge=False)
    at_most("variational read-out: dΩ/dμ - Q, e", (at_level["energy_by_target"] - 0.4).abs().item(), 2e-6)
    forces = at_level["forces"] - at_charge["forces"]
    at_most("variational read-out: forces at charge against level, eV/Å", forces.abs().max(), 1e-4)


def test_bad_options() -> None:
    split = {"type": "SplitChargeUpdate"}
    with pytest.raises(ValueError, match=r"put `atomic_multipoles_smearing_width` \(1.2\) among"):
        ModelOptions(atomic_multipoles_smearing_width=1.2, fixedpoint_update_config=split)
    with pytest.raises(ValueError, match=r"SplitChargeUpdate has no such options.*monotone_charge"):
        ModelOptions(fixedpoint_update_config={**split, "monotone_charge": True})
    with pytest.raises(ValueError, match=r"`bond_rank`: only for type: SplitChargeUpdate"):
        ModelOptions(fixedpoint_update_config={"type": "SymmetricUpdate", "bond_rank": 3})
    with pytest.raises(ValueError, match=r"set `include_field_si: true`, or leave it out"):
        ModelOptions(include_field_si=False, fixedpoint_update_config=split)
    assert ModelOptions(fixedpoint_update_config=split).include_field_si
    with pytest.raises(ValueError, match=r"VariationalFieldReadout is the energy of the response of"):
        ModelOptions(field_readout_config={"type": "VariationalFieldReadout"})
    with pytest.raises(ValueError, match=r"set `include_electrostatic_self_interaction: true`"):
        ModelOptions(
            fixedpoint_update_config=split,
            field_readout_config={"type": "VariationalFieldReadout"},
            include_electrostatic_self_interaction=False,
        )
    with pytest.raises(ValueError, match=r"`metallic` names Cu, Xx; expected symbols .*\(H, O, Na, Cl\)"):
        make_model(fixedpoint_update_config={**split, "metallic": ["Cu", "Na", "Xx"]})
    for wrong, message in (
        ({"O": 3.0}, "'O' is no pair of elements"),
        ({"O-H-H": 3.0}, "'O-H-H' is no pair"),
        ({"O-Xx": 3.0}, "`bond_reach.O-Xx` names Xx"),
        ({"O-H": -1.0}, "O-H: -1.0 is no distance"),
        ({"O-H": 1.5, "H-O": 1.5}, "the same two elements are given by O-H and H-O"),
        ({"O-Cu": 3.0}, r"`bond_reach\.O-Cu` names Cu; expected symbols"),
    ):
        with pytest.raises(ValueError, match=message):
            make_model(fixedpoint_update_config={**split, "bond_reach": wrong})


@pytest.mark.parametrize("pbc", ["TTF", "TFF", "FFF"])
def test_forces_in_partly_periodic_structures(pbc: str) -> None:
    """Where a slab, a wire and a cluster conduct, in a field along their open axes; against differences."""
    model = soft_model(9, ["Na"], field_readout_config={"type": "VariationalFieldReadout"})
    atoms = salt_water(pbc)
    field = np.where(atoms.pbc, 0.0, [0.02, -0.03, 0.04])
    rng = np.random.default_rng(2)
    direction = rng.normal(size=(len(atoms), 3))

    def result(step: float, forces: bool) -> dict[str, torch.Tensor]:
        moved = atoms.copy()
        moved.positions += step * direction
        graph = to_graph(moved, model, total_charge=0.3, external_field=field)
        out = evaluate(model, graph, num_scf_steps=300, compute_forces=forces)
        assert out["status"].tolist() == [CONVERGED]
        return out

    energies = [result(step * 1e-4, False)["energy"].item() for step in (-2, -1, 1, 2)]
    slope = (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * 1e-4)
    expected = -(result(0.0, True)["forces"].numpy() * direction).sum()
    error = abs(slope - expected) / np.linalg.norm(direction)
    at_most("split charges, partly periodic: forces against differences, eV/Å", error, 1e-7)


def test_single_precision_follows_double() -> None:
    double, single = (soft_model(10, ["Na"]).to(dtype) for dtype in (torch.float64, torch.float32))
    for charge in (0.0, 1.0):
        exact = evaluate(double, to_graph(salt_water_box(), double, total_charge=charge))
        found = evaluate(single, to_graph(salt_water_box(), single, total_charge=charge), scf_tolerance=2e-6)
        assert found["status"].tolist() == [CONVERGED]
        at_most("split charges: single precision, e", (found["density"] - exact["density"]).abs().max(), 2e-5)
        at_most("split charges: single precision, eV/Å", (found["forces"] - exact["forces"]).abs().max(), 2e-5)
