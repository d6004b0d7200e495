"""FixedPointPotential, the learned model: geometry -> local energy and density, response, read-out coefficients."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .backbone.blocks import BlockedPass
from .backbone.interaction import MessageShape
from .backbone.mace import Backbone
from .backbone.neighbours import Edges, Neighbours, no_neighbours
from .density.density_model import LocalState
from .density.fermi_level import with_level
from .density.self_consistent import SelfConsistentModel
from .electrostatics import Electrostatics
from .elements import bond_lengths, named_elements
from .graph import Graph
from .nets import ChargeReadout, EquivariantLinear, GatedReadout, LinearDensityReadout, ScalarReadout, charges_only
from .options import ModelOptions, ModelStatistics
from .options.response import VARIATIONAL
from .readout import (
    ManyBodyReadout,
    NullReadout,
    OneBodyMLPReadout,
    Readout,
    StrictQuadraticReadout,
    VariationalReadout,
)
from .response import (
    ManyBodyUpdate,
    OneBodyUpdate,
    ResponseShape,
    SplitChargeUpdate,
    SymmetricUpdate,
    Update,
)
from .response.embedding import TANH_WIDTHS
from .units import GRADIENT_FEATURE, SCALAR_FEATURE


def feature_scales(options: ModelOptions, norms: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Field features per raw field ``(m, 4)``, un-normalised and normalised; zeros for an l that is left out.

    sqrt(4 pi) for <v> and pi sqrt(3/2) sigma_n for <grad v> (`units`), divided by ``norms``, which are l-major.

    Raises:
        ValueError: the number of norms is not that of the features.
    """
    if len(norms) != options.number_of_norms:
        raise ValueError(
            f"expected {options.number_of_norms} field-feature norms, one per (l, width), got {len(norms)}"
        )
    m = len(options.field_feature_widths)
    widths = torch.tensor(options.field_feature_widths, dtype=torch.float64)
    per_l = torch.stack([torch.full_like(widths, SCALAR_FEATURE), GRADIENT_FEATURE * widths])
    per_l[options.field_feature_max_l + 1 :] = 0.0
    divisors = torch.ones(2 * m, dtype=torch.float64)
    divisors[: len(norms)] = torch.tensor(norms, dtype=torch.float64)
    normalised = per_l / divisors.reshape(2, m)
    return per_l[[0, 1, 1, 1]].t().contiguous(), normalised[[0, 1, 1, 1]].t().contiguous()


def message_shape(o: ModelOptions, n_elements: int, statistics: ModelStatistics) -> MessageShape:
    """What the message passes of backbone, update and read-out have in common."""
    sizes = [o.num_radial_basis, *o.radial_MLP]
    return MessageShape(n_elements, o.num_channels, o.max_ell, sizes, statistics.avg_num_neighbors)


def build_electrostatics(o: ModelOptions) -> Electrostatics:
    """The Coulomb operator of the density and of the field features."""
    electrostatics = Electrostatics(
        o.atomic_multipoles_smearing_width,
        o.field_feature_widths,
        o.kspace_cutoff_factor,
        o.include_field_si,
        o.include_electrostatic_self_interaction,
        max(o.atomic_multipoles_max_l, o.field_feature_max_l),
    )
    electrostatics.set_kspace(o.kspace, o.kspace_accuracy)
    return electrostatics


def build_split_charges(o: ModelOptions, shape: ResponseShape, elements: Sequence[int]) -> SplitChargeUpdate:
    """`SplitChargeUpdate` for ``elements``; bonds end at `bond_stretch` sums of covalent radii, or `bond_cutoff`.

    Those of pairs in `bond_reach` end there.

    Elements that are named as metals have none with each other: their level conducts already, and what bonds would add,
    their dipoles above all, only blurs the charge of a surface.
    """
    u = o.fixedpoint_update_config
    lengths = bond_lengths(elements)
    reach = (u.bond_stretch * lengths).clamp(max=min(u.bond_cutoff, o.r_max))
    conducting = list(elements) if u.metallic == "auto" else []
    if isinstance(u.metallic, list):
        conducting = named_elements(u.metallic, elements, "metallic")
        named = torch.tensor([z in conducting for z in elements])
        reach = reach.masked_fill(named.unsqueeze(0) & named.unsqueeze(1), 0.0)
    for pair, end in u.bond_reach.items():
        i, j = (list(elements).index(z) for z in named_elements(pair.split("-"), elements, f"bond_reach.{pair}"))
        reach[i, j] = reach[j, i] = min(end, o.r_max)
    metallic = torch.tensor([z in conducting for z in elements])
    receiver = o.field_feature_widths.index(o.atomic_multipoles_smearing_width)
    start = o.fixedpoint_initial_charge_head_scale
    return SplitChargeUpdate(shape, u.bond_rank, start, reach, lengths, metallic, receiver)


def build_update(
    o: ModelOptions, passes: MessageShape, scale: Tensor, electrostatics: Electrostatics, elements: Sequence[int]
) -> Update:
    """The update of ``fixedpoint_update_config``, for normalised features per raw field ``scale`` ``(m, 4)``."""
    u, start = o.fixedpoint_update_config, o.fixedpoint_initial_charge_head_scale
    shape = ResponseShape(o.num_channels, len(o.field_feature_widths), passes.n_elements, o.atomic_multipoles_max_l)
    if u.type == "SymmetricUpdate":
        receiver = o.field_feature_widths.index(o.atomic_multipoles_smearing_width)
        return SymmetricUpdate(shape, start, electrostatics.left_out(receiver), receiver)
    if u.type == "OneBodyVariableUpdate":
        return OneBodyUpdate(shape, u, start, scale)
    if u.type == "ManyBodyUpdate":
        return ManyBodyUpdate(shape, passes, u, start, scale)
    if u.type == "SplitChargeUpdate":
        return build_split_charges(o, shape, elements)
    raise AssertionError(f"no update is built for type: {u.type}")


def build_readout(o: ModelOptions, passes: MessageShape) -> Readout:
    """The non-local energy of ``field_readout_config``."""
    c, m, kind = o.num_channels, len(o.field_feature_widths), o.field_readout_config.type
    if not o.include_local_electron_energy or kind == "NullFieldReadout":
        return NullReadout()
    if kind == "StrictQuadraticFieldEnergyReadout":
        return StrictQuadraticReadout(c, m)
    if kind == "OneBodyMLPFieldReadout":
        return OneBodyMLPReadout(c, m)
    if kind == VARIATIONAL:
        return VariationalReadout(c, passes.n_elements)
    if kind in ("ManyBodyChargesReadout", "ManyBodyChargesFieldReadout"):
        return ManyBodyReadout(passes, m, kind == "ManyBodyChargesFieldReadout")
    raise AssertionError(f"no read-out is built for type: {kind}")


def build_density_head(o: ModelOptions, scaling: Tensor) -> nn.Module:
    """The read-out of one layer to the local density; ``scaling`` ``(Z,)`` is that of a linear one, e."""
    c, scale = o.num_channels, o.fixedpoint_initial_charge_head_scale
    if o.use_linear_local_charges:
        return LinearDensityReadout(c, scaling, scale, o.atomic_multipoles_max_l)
    kind = ChargeReadout if o.atomic_multipoles_max_l == 0 else GatedReadout
    return kind(c, o.readout_channels, scale)


def widest_exchange(o: ModelOptions) -> int:
    """The most numbers per ghost atom that one exchange between ranks moves."""
    widest = o.num_channels * (o.max_L + 1) ** 2
    if o.fixedpoint_update_config.type == "ManyBodyUpdate":
        # ghosts receive the expanded field, too
        widest = max(widest, 4 * TANH_WIDTHS * len(o.field_feature_widths))
    if o.fixedpoint_update_config.type == "SplitChargeUpdate":
        widest = max(widest, 3 * o.fixedpoint_update_config.bond_rank)
    return widest


class FixedPointPotential(SelfConsistentModel):
    """Interatomic potential with a self-consistent density of Gaussian charges and dipoles.

    A MACE-family backbone makes the features h of every layer; from them come the local energy and density, the
    response of the density to the field, and the coefficients of the non-local energy:

        p = p_loc(h) + Δp(h, v),   v = field features of p, external field and Fermi level,
        E = sum_i [E0 + e(h_i) + core] + E_Coulomb(p) + F·D(p) + sum_i e_nonlocal(h_i, p_i, v_i).

    Args:
        elements: atomic numbers, in the order of `graph.Graph.species`.

    Raises:
        ValueError: ``statistics`` lack an element, or have another number of norms than the features.

    Source: Baldwin et al., arXiv:2603.14700; backbone of Batatia et al., NeurIPS 2022, arXiv:2206.07697.
    """

    feature_scale: Tensor
    nearest: Tensor  #: (Z, Z) shortest distances of the training set, Å

    def __init__(self, options: ModelOptions, elements: Sequence[int], statistics: ModelStatistics) -> None:
        o = options
        numbers = [int(z) for z in elements]
        missing = [z for z in numbers if z not in statistics.atomic_energies]
        if missing:
            raise ValueError(f"`statistics.atomic_energies` lacks the elements with atomic numbers {missing}")
        n_elements, c = len(numbers), o.num_channels
        electrostatics, passes = build_electrostatics(o), message_shape(o, n_elements, statistics)
        plain, normalised = feature_scales(o, statistics.field_feature_norms)
        e0 = torch.tensor([statistics.atomic_energies[z] for z in numbers], dtype=torch.float64)
        super().__init__(
            numbers,
            float(o.r_max),
            electrostatics,
            build_update(o, passes, normalised, electrostatics, numbers),
            normalised,
            e0.tolist(),
            statistics.fermi_level_offset,
        )
        self.register_buffer("feature_scale", plain, persistent=False)
        self.without_dipoles = o.atomic_multipoles_max_l == 0
        #: whether update or read-out pass messages of their own
        self.many_body = "ManyBody" in o.fixedpoint_update_config.type or "ManyBody" in o.field_readout_config.type
        self.variational = o.include_local_electron_energy and o.field_readout_config.type == VARIATIONAL
        self.num_interactions = o.num_interactions
        self.comm_width = widest_exchange(o)
        self.backbone = Backbone(o, passes)
        layers = range(o.num_interactions)
        self.energy_readouts = nn.ModuleList(
            ScalarReadout(c, o.readout_channels if t == layers[-1] else 0) for t in layers
        )
        scaling = torch.tensor([statistics.density_scaling.get(z, 1.0) for z in numbers], dtype=torch.float64)
        self.density_readouts = nn.ModuleList(build_density_head(o, scaling) for _ in layers)
        self.feature_mixers = nn.ModuleList(EquivariantLinear(1, c, c) for _ in layers)
        self.nonlocal_readout = build_readout(o, passes)
        nearest = torch.zeros(n_elements, n_elements, dtype=torch.float64)
        if statistics.minimum_distances:
            nearest = torch.tensor(statistics.minimum_distances, dtype=torch.float64)
        self.register_buffer("nearest", nearest, persistent=False)
        self.core_repulsion = o.core_repulsion if bool((nearest > 0).any()) else 0.0

    def local(self, graph: Graph, vectors: Tensor) -> LocalState:
        """Everything that depends on the geometry only, from edge vectors ``(n_edges, 3)``."""
        neighbours = self.backbone.neighbours(graph, vectors)
        return self._read_out(graph, vectors, self.backbone(graph, neighbours), neighbours)

    def blocked(self, graph: Graph, vectors: Tensor) -> BlockedPass:
        """The backbone's features, without gradients."""
        return self.backbone.blocked(graph, vectors)

    def local_of(self, graph: Graph, vectors: Tensor, features: list[Tensor]) -> LocalState:
        """`local`, with the backbone's features given."""
        if self.many_body:
            neighbours = self.backbone.neighbours(graph, vectors)
        else:
            neighbours = no_neighbours(vectors, graph.batch.shape[0])
        return self._read_out(graph, vectors, features, neighbours)

    def pull_back(self, graph: Graph, vectors: Tensor, made: BlockedPass, gradients: list[Tensor]) -> Tensor:
        """Derivative by the edge vectors ``(n_edges, 3)`` of what has ``gradients`` by the features of each layer."""
        return self.backbone.pull_back(graph, vectors, made, gradients)

    def _read_out(self, graph: Graph, vectors: Tensor, features: list[Tensor], neighbours: Neighbours) -> LocalState:
        """Energy, density and response from the features ``(n, (max_L+1)², C)`` of every layer."""
        n_owned = graph.batch.shape[0]
        species = graph.species[:n_owned]
        last = features[len(features) - 1]
        energy = torch.zeros([n_owned], dtype=vectors.dtype, device=vectors.device)
        density = torch.zeros([n_owned, 4], dtype=vectors.dtype, device=vectors.device)
        mixed = torch.zeros([n_owned, 4, last.shape[2]], dtype=vectors.dtype, device=vectors.device)
        for t, (readout, head, mixer) in enumerate(
            zip(self.energy_readouts, self.density_readouts, self.feature_mixers)
        ):
            energy = energy + readout(features[t])
            density = density + head(features[t], species)
            mixed = mixed + mixer(features[t][:, :4], species)
        if self.core_repulsion > 0:
            energy = energy + self.core_energy(graph, vectors)
        response = self.solver.density_map.response(
            mixed, graph.species, density, neighbours, Edges(graph.edge_index, vectors, graph.distributed)
        )
        return LocalState(energy, density, response, self.nonlocal_readout(last, graph.species, neighbours))

    def core_energy(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Half of sum_j A (1 - r_ij / r_min)^3 over neighbours nearer than any of the training set ``(n_owned,)``, eV.

        Zero, with two derivatives, on everything the model was trained on; beyond it a learned energy may have holes.
        """
        i, j = graph.edge_index[0], graph.edge_index[1]
        limit = torch.clamp(self.nearest.to(vectors.dtype)[graph.species[i], graph.species[j]], min=1e-6)
        depth = torch.clamp(1.0 - vectors.norm(p=2, dim=1) / limit, min=0.0)
        energy = torch.zeros([graph.batch.shape[0]], dtype=vectors.dtype, device=vectors.device)
        return energy.index_add(0, i, 0.5 * self.core_repulsion * depth * depth * depth)

    def nonlocal_energy(
        self, local: LocalState, density: Tensor, field: Tensor, shared: Tensor, distributed: bool
    ) -> Tensor:
        """Energy per owned atom ``(n,)`` (eV) of the read-out, in the raw total field ``(n, m, 4)``."""
        features = field * self.normalised_scale.to(field.dtype)
        energy = self.nonlocal_readout.energy(local.readout, local.density, density, features, shared, distributed)
        if self.variational:
            # -Δ·w - ½ w·M w, and -μ_0 Q (`readout.variational`)
            density_map = self.solver.density_map
            answer = density_map.response.slope(local.response, field, distributed)
            w = field[:, density_map.first_used]
            energy = energy - ((density - local.density - 0.5 * answer) * w).sum(1) + shared * w[:, 0]
            energy = energy - self.fermi_level_offset * density[:, 0]
        return energy

    # ---- for training -------------------------------------------------------------------------------------------

    def field_features(self, graph: Graph, density: Tensor, level: Tensor) -> Tensor:
        """Un-normalised field features ``(n, m, 4)`` of a density, with the Fermi level ``(B,)`` relative to mu_0.

        Dipoles that the model does not have are left out of the density.
        """
        density = charges_only(density) if self.without_dipoles else density
        owned = graph.positions[: graph.batch.shape[0]]
        cache = self.electrostatics.prepare(owned, graph.cell, graph.pbc, graph.batch, graph.distributed)
        u = self.electrostatics.field(cache, density, graph.distributed)
        u = with_level(u + self.external_field(graph, owned).unsqueeze(1), level, graph.batch)
        return u * self.feature_scale.to(u.dtype)

    @torch.jit.unused
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by part; every one is in exactly one group."""
        parts: dict[str, list[nn.Module]] = {
            "backbone": [self.backbone, self.energy_readouts],
            "local_charges": [self.density_readouts],
            "field_block": [self.solver.density_map.response, self.feature_mixers],
            "readout": [self.nonlocal_readout],
        }
        return {
            name: [p for module in modules for p in module.parameters() if p.requires_grad]
            for name, modules in parts.items()
        }
