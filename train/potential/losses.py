"""The terms of the loss.

Each term is a mean over the batch, weighted per structure (``config_weight`` times ``config_<label>_weight``; zero
where the label is missing); the denominators count all structures, atoms or components of the batch. h(e) = e², or with
``huber: δ`` in the term's options

    h(e) = e² for |e| <= δ, else δ (2|e| - δ).

With B structures of N_g atoms, and sums over the batch where not said otherwise:

    energy_per_atom       mean_g  w h((E - E*)/N_g)
    forces                mean over atoms and x, y, z of  w h(F - F*)
    stress                mean over structures and components of  w h(σ - σ*)
    atomic_multipoles     mean over atoms and components of  w h(p - p*)
    total_charge          mean_g  w h(Q* - Σq),            ..._per_atom: divided by N_g inside h
    dipole                mean over structures and x, y, z of  w h(d - d*), periodic axes skipped, ..._per_atom
    fermi_level           mean_g  w h(μ - μ*), ..._per_atom; w = 0 where nothing conducts, as in legendre
    esps                  mean over atoms of  w h(v - v*), v the potential at the nucleus
    field_features        mean over atoms and features of  w h(v - v*), v* those of the reference multipoles
    polarizability        mean over structures and components of  w h((α - α*)/N_g), open axes
    born_charges          mean over atoms and components of  w h(Z - Z*), dipoles along open axes
    fragment_charges      mean_g of means over its fragments of  w h(Σ_{i in f} (q_i - q_i*))
    molecular_forces      mean_g of means over its molecules and x, y, z of  w h(ΔF_m), ΔF_m = Σ_{i in m} (F_i - F_i*)
    cluster_virial        mean_g  w h(Σ_{m in g} R_m·ΔF_m), R_m the mean position; open structures; ..._per_atom

and, for the model as it is, without a label:

    legendre              mean_g  w h((μ + dE/dQ)/N_g)
    fragment_response     mean_g of means over its fragments and x, y, z of  w h(dQ_f/dE), open axes
    fermi_level_gradient  mean over atoms of  w max(0, dq_i/dμ)
    metallic_softness     mean over atoms of  w s_i, the softness of `SplitChargeUpdate` that conducts
    dipole_softness       mean over atoms of  w tr(M_i)/3 of dipoles: what they and their bonds answer with, each alone
    fixedpoint_scf_stability    mean_g  w [s(λ_max - upper) + s(lower - λ_min)],  s(x) = ln(1 + exp(beta x)) / beta
    final_terms_fixedpoint_scf_stability    mean over atoms and components of  w |p_T - p_(T-1)|

Every term takes the output of the model for the batch (as `metrics.compared`, and ``NEEDS_PROPERTIES``), the batch and
its own options, and gives a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .batch import Batch
from .config.loss import SpectrumTerm, Term
from .group_losses import (
    cluster_virial,
    cluster_virial_per_atom,
    fragment_charges,
    fragment_response,
    molecular_forces,
)
from .penalties import Output, mean_penalty


def energy_per_atom(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the energy per atom, eV²."""
    error = (output["energy"] - batch.labels.energy) / batch.num_atoms
    return mean_penalty(error, batch.labels.energy_weight, term)


def forces(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the force components, (eV/Å)²."""
    return mean_penalty(output["forces"] - batch.labels.forces, batch.labels.forces_weight, term)


def stress(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the stress components, (eV/Å³)²; open structures have no label and no stress."""
    return mean_penalty(output["stress"] - batch.labels.stress, batch.labels.stress_weight, term)


def atomic_multipoles(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of charges and dipoles of the atoms, e² and (e·Å)²."""
    return mean_penalty(output["density"] - batch.labels.multipoles, batch.labels.multipoles_weight, term)


def _charge_error(output: Output, batch: Batch) -> Tensor:
    charge = torch.zeros_like(batch.graph.total_charge).index_add(0, batch.graph.batch, output["density"][:, 0])
    return batch.graph.total_charge - charge


def total_charge(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the total charge, e²."""
    return mean_penalty(_charge_error(output, batch), batch.labels.weight, term)


def total_charge_per_atom(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the total charge per atom, e²."""
    return mean_penalty(_charge_error(output, batch) / batch.num_atoms, batch.labels.weight, term)


def dipole(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the dipole along the open axes, (e·Å)²."""
    return mean_penalty(output["dipole"] - batch.labels.dipole, batch.labels.dipole_weight, term)


def dipole_per_atom(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the dipole per atom along the open axes, (e·Å)²."""
    error = (output["dipole"] - batch.labels.dipole) / batch.num_atoms[:, None]
    return mean_penalty(error, batch.labels.dipole_weight, term)


def fermi_level(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the Fermi level, eV², where something conducts."""
    weight = batch.labels.fermi_level_weight * output["conducts"]
    return mean_penalty(output["fermi_level"] - batch.labels.fermi_level, weight, term)


def fermi_level_per_atom(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the Fermi level over the number of atoms, eV², where something conducts."""
    error = (output["fermi_level"] - batch.labels.fermi_level) / batch.num_atoms
    return mean_penalty(error, batch.labels.fermi_level_weight * output["conducts"], term)


def esps(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the potential at the nuclei, V²; of the reference multipoles where the output has that."""
    if "reference_esps" in output:
        return mean_penalty(output["esps"] - output["reference_esps"], batch.labels.multipoles_weight[:, 0], term)
    return mean_penalty(output["esps"] - batch.labels.potentials, batch.labels.potentials_weight, term)


def field_features(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the normalised field features of the density against those of the reference multipoles."""
    error = output["coulomb_features"] - output["reference_coulomb_features"]
    return mean_penalty(error, batch.labels.multipoles_weight[:, :1].unsqueeze(2), term)


def polarizability(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the polarizability per atom along open axes, (e·Å²/V)²."""
    error = (output["polarizability"] - batch.labels.polarizability) / batch.num_atoms[:, None, None]
    return mean_penalty(error, batch.labels.polarizability_weight, term)


def born_charges(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the Born effective charges, dipoles along open axes, e²."""
    return mean_penalty(output["born_charges"] - batch.labels.born_charges, batch.labels.born_charges_weight, term)


def legendre(output: Output, batch: Batch, term: Term) -> Tensor:
    """Square of (μ + dE/dQ)/N, eV²: electrons come at the energy of the Fermi level, dE/dN_el = -dE/dQ = μ."""
    error = (output["fermi_level"] + output["energy_by_charge"]) / batch.num_atoms
    return mean_penalty(error, batch.labels.weight * output["conducts"], term)


def fermi_level_gradient(output: Output, batch: Batch, term: Term) -> Tensor:
    """Mean of the charge responses of the wrong sign, e/V."""
    return (batch.labels.weight[batch.graph.batch] * output["charge_response"].relu()).mean()


def metallic_softness(output: Output, batch: Batch, term: Term) -> Tensor:
    """Mean of the softness of atoms that conducts, e/V."""
    return (batch.labels.weight[batch.graph.batch] * output["metallic_softness"]).mean()


def dipole_softness(output: Output, batch: Batch, term: Term) -> Tensor:
    """Mean of the softness of dipoles, e Å²/V: responses that cancel each other count."""
    return (batch.labels.weight[batch.graph.batch] * output["dipole_softness"]).mean()


def fixedpoint_scf_stability(output: Output, batch: Batch, term: Term) -> Tensor:
    """Penalty on real parts of the eigenvalues of dG/dp above ``upper`` and below ``lower``."""
    assert isinstance(term, SpectrumTerm)
    largest, smallest = output["spectrum"].unbind(1)
    penalty = softplus(largest - term.upper, beta=term.beta)
    if term.lower is not None:
        penalty = penalty + softplus(term.lower - smallest, beta=term.beta)
    return (batch.labels.weight * penalty).mean()


def final_terms_fixedpoint_scf_stability(output: Output, batch: Batch, term: Term) -> Tensor:
    """Mean absolute change of the density in the last step of the loop, e and e·Å."""
    return (batch.labels.weight[batch.graph.batch].unsqueeze(1) * output["final_change"].abs()).mean()


#: name in the training file -> term
LOSSES: dict[str, Callable[[Output, Batch, Term], Tensor]] = {
    term.__name__: term
    for term in (
        energy_per_atom,
        forces,
        stress,
        atomic_multipoles,
        total_charge,
        total_charge_per_atom,
        dipole,
        dipole_per_atom,
        fermi_level,
        fermi_level_per_atom,
        esps,
        field_features,
        polarizability,
        born_charges,
        fragment_charges,
        fragment_response,
        molecular_forces,
        cluster_virial,
        cluster_virial_per_atom,
        legendre,
        fixedpoint_scf_stability,
        final_terms_fixedpoint_scf_stability,
        fermi_level_gradient,
        metallic_softness,
        dipole_softness,
    )
}

#: names of the terms that need derivatives with respect to positions, and to the strain
NEEDS_FORCES = frozenset({"forces", "molecular_forces", "cluster_virial", "cluster_virial_per_atom"})
NEEDS_STRESS = frozenset({"stress"})
#: term -> properties (`properties`) that it needs
NEEDS_PROPERTIES = {
    "esps": ("esps",),
    "field_features": ("coulomb_features", "reference_coulomb_features"),
    "polarizability": ("polarizability",),
    "born_charges": ("born_charges",),
    "fragment_response": ("charges_by_field",),
    "legendre": ("energy_by_charge",),
    "fixedpoint_scf_stability": ("spectrum",),
    "final_terms_fixedpoint_scf_stability": ("final_change",),
    "fermi_level_gradient": ("charge_response",),
    "metallic_softness": ("metallic_softness",),
    "dipole_softness": ("dipole_softness",),
}

#: names of the terms that are means over atoms; all others are means over structures
PER_ATOM = frozenset(
    {
        "forces",
        "atomic_multipoles",
        "esps",
        "field_features",
        "born_charges",
        "fermi_level_gradient",
        "metallic_softness",
        "dipole_softness",
        "final_terms_fixedpoint_scf_stability",
    }
)


class Needs(NamedTuple):
    """What has to be computed for the terms of a loss."""

    forces: bool
    stress: bool
    properties: frozenset[str]


def needs(terms: Iterable[str], potentials_mapped: bool = True) -> Needs:
    """What the terms need; without labels of the potentials, ``esps`` needs those of the reference multipoles."""
    names = set(terms)
    properties = {prop for name in names for prop in NEEDS_PROPERTIES.get(name, ())}
    if "esps" in names and not potentials_mapped:
        properties.add("reference_esps")
    return Needs(bool(names & NEEDS_FORCES), bool(names & NEEDS_STRESS), frozenset(properties))


def weighted_loss(output: Output, batch: Batch, terms: Mapping[str, Term]) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of the terms times their weights, L = Σ_t w_t L_t, and the L_t by name, detached.

    Of a part of a batch they are its shares of those of the batch, so that those of all parts add up to them.

    Args:
        output: what the model gives for the batch.
        batch: structures and labels.
        terms: options of the terms by name, with their weights.
    """
    values = {name: batch.share(name in PER_ATOM) * LOSSES[name](output, batch, term) for name, term in terms.items()}
    total = sum((terms[name].weight * value.to(torch.float64) for name, value in values.items()), torch.tensor(0.0))
    return total, {name: value.detach() for name, value in values.items()}
