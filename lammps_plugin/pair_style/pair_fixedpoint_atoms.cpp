/// What the model sees of LAMMPS' atoms: those that take part, their neighbors, and what is wrong with them.

#include "pair_style/agree.h"
#include "pair_style/pair_fixedpoint.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "force.h"
#include "group.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

#include <algorithm>
#include <cmath>

using namespace LAMMPS_NS;
using fixedpoint::SAME_PLACE;

namespace {

/// Where a failure is put down to the structure if atoms are nearer than this, Å: below all bonds.
constexpr double TOO_CLOSE = 0.5;

/// Whether only the atoms of a group become ghosts (comm_modify group), which LAMMPS tells nobody.
bool ghosts_of_a_group(const Comm *comm)
{
  struct Access : Comm {
    using Comm::bordergroup;
  };
  return comm->*(&Access::bordergroup) != 0;
}

/// Whether a group is one in which fix gcmc and fix widom put atoms they try to do without.
bool taken_away_by_a_fix(const Group *group, int index)
{
  const std::string name = group->names[index] ? group->names[index] : "";
  return name.rfind("Fix", 0) == 0 && name.find("exclusion_group:") != std::string::npos;
}

}    // namespace

void PairFixedPoint::check_neighbors(bool at_use) const
{
  if (neighbor->nex_type || neighbor->nex_mol)
    error->all(FLERR, "pair fixedpoint needs all neighbors and does not work with neigh_modify exclude");
  for (int k = 0; k < neighbor->nex_group; ++k) {
    const int one = neighbor->ex1_group[k], other = neighbor->ex2_group[k];
    if (!taken_away_by_a_fix(group, one) && !taken_away_by_a_fix(group, other))
      error->all(FLERR,
                 "pair fixedpoint needs all neighbors and does not work with neigh_modify exclude; here the "
                 "groups {} and {} are excluded from each other, by that command or by a fix",
                 group->names[one], group->names[other]);
  }
  if (neighbor->includegroup)
    error->all(FLERR, "pair fixedpoint needs all neighbors and does not work with neigh_modify include");
  if (ghosts_of_a_group(comm))
    error->all(FLERR, "pair fixedpoint needs all ghost atoms and does not work with comm_modify group; use: "
                      "comm_modify group all");
  if (!at_use) return;    // there is no list yet
  for (const NeighList *from = list; from != nullptr; from = from->listcopy)
    if (from->listskip || from->molskip)
      error->all(
          FLERR,
          "pair fixedpoint needs all neighbors, but pair_style {} gives some of them to another style; "
          "use pair_style hybrid/overlay and, for fixedpoint, only pair_coeff * * fixedpoint ...",
          force->pair_style);
}

void PairFixedPoint::find_present()
{
  int taken_away = 0;
  for (int k = 0; k < neighbor->nex_group; ++k) {
    if (taken_away_by_a_fix(group, neighbor->ex1_group[k])) taken_away |= neighbor->ex1_bit[k];
    if (taken_away_by_a_fix(group, neighbor->ex2_group[k])) taken_away |= neighbor->ex2_bit[k];
  }
  const int n_all = atom->nlocal + atom->nghost;
  auto &in = input_;
  in.n_owned = atom->nlocal;
  in.n_total = n_all;
  present_.clear();
  row_of_.clear();
  const auto absent = [&](int i) { return (atom->mask[i] & taken_away) != 0; };
  bool all_present = true;
  for (int i = 0; i < n_all && taken_away != 0; ++i) all_present = all_present && !absent(i);
  if (!all_present) {
    row_of_.assign(n_all, -1);
    for (int i = 0; i < n_all; ++i) {
      if (i == atom->nlocal) in.n_owned = static_cast<int64_t>(present_.size());
      if (absent(i)) continue;
      row_of_[i] = static_cast<int>(present_.size());
      present_.push_back(i);
    }
    in.n_total = static_cast<int64_t>(present_.size());
    if (atom->nghost == 0) in.n_owned = in.n_total;
  }
  communicator_->set_rows(row_of_, in.n_owned, in.n_total);
}

bool PairFixedPoint::any_atoms()
{
  bigint mine[2] = {input_.n_owned, atom->nlocal}, all[2];
  MPI_Allreduce(mine, all, 2, MPI_LMP_BIGINT, MPI_SUM, world);
  n_atoms_ = all[0];
  if (n_atoms_ > 0) return true;
  if (all[1] == 0 && atom->natoms > 0)
    error->all(FLERR,
               "pair fixedpoint: no atom is left in the box at step {}, all {} have gone through its open "
               "boundaries: the simulation is unstable, or needs walls or a larger box",
               update->ntimestep, atom->natoms);
  if (settings_.total_charge.value_or(0.0) != 0.0)
    error->all(FLERR, "pair fixedpoint: there is no atom at step {} that could carry the total charge {} e",
               update->ntimestep, *settings_.total_charge);
  return false;
}

void PairFixedPoint::gather_input()
{
  const auto &meta = model_->metadata();
  auto &in = input_;
  in.positions = in.n_total > 0 ? atom->x[0] : nullptr;
  if (!row_of_.empty()) {
    present_positions_.resize(3 * in.n_total);
    for (int64_t row = 0; row < in.n_total; ++row)
      std::copy_n(atom->x[present_[row]], 3, &present_positions_[3 * row]);
    in.positions = present_positions_.data();
  }
  in.species.resize(in.n_total);
  for (int64_t row = 0; row < in.n_total; ++row) in.species[row] = type_to_species_[atom->type[atom_of(row)]];
  in.cell = {domain->xprd, 0.0, 0.0, domain->xy, domain->yprd, 0.0, domain->xz, domain->yz, domain->zprd};
  for (int d = 0; d < 3; ++d) in.pbc[d] = domain->periodicity[d] != 0;
  in.constant_charge = !settings_.fermi_level;
  in.total_charge = settings_.total_charge.value_or(0.0);
  in.fermi_level = settings_.fermi_level.value_or(0.0);
  in.num_scf_steps = settings_.num_scf_steps.value_or(meta.num_scf_steps);
  in.scf_tolerance = settings_.scf_tolerance.value_or(meta.scf_tolerance);
  in.mixing_parameter = settings_.mixing_parameter.value_or(meta.mixing_parameter);
  in.solver = settings_.solver.value_or(meta.solver);
  gather_field();
  shift_positions();
  gather_edges();
}

void PairFixedPoint::gather_edges()
{
  // The list holds all pairs within cutoff + skin, both directions, images of the same atom included.
  const auto &meta = model_->metadata();
  const double cutoff_sq = meta.cutoff * meta.cutoff;
  const auto n_species = static_cast<int64_t>(meta.elements.size());
  auto &in = input_;
  double **x = atom->x;
  in.receivers.clear();
  in.senders.clear();
  closest_ = {};
  farthest_outside_ = {};
  for (int k = 0; k < list->inum; ++k) {
    const int i = list->ilist[k];
    const int row = row_of_.empty() ? i : row_of_[i];
    if (row < 0) continue;
    const double *scales =
        distance_scales_.empty() ? nullptr : &distance_scales_[in.species[row] * n_species];
    const int *neighbors = list->firstneigh[i];
    for (int n = 0; n < list->numneigh[i]; ++n) {
      const int j = neighbors[n] & NEIGHMASK;
      const double dx = x[j][0] - x[i][0], dy = x[j][1] - x[i][1], dz = x[j][2] - x[i][2];
      const double r_sq = dx * dx + dy * dy + dz * dz;
      if (r_sq >= cutoff_sq) continue;
      const int neighbor_row = row_of_.empty() ? j : row_of_[j];
      if (neighbor_row < 0) continue;
      in.receivers.push_back(row);
      in.senders.push_back(neighbor_row);
      closest_.keep(r_sq, i, j);
      if (scales) farthest_outside_.keep(r_sq * scales[in.species[neighbor_row]], i, j);
    }
  }
}

double PairFixedPoint::distance(const NearPair &pair) const
{
  const double *a = atom->x[pair.i], *b = atom->x[pair.j];
  return std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

std::string PairFixedPoint::described(const NearPair &pair) const
{
  const auto tag = [&](int i) { return atom->tag_enable ? fmt::format("{}", atom->tag[i]) : "?"; };
  const auto one = tag(pair.i), other = tag(pair.j);
  const auto who = one == other ? fmt::format("atom {} and its periodic image", one)
                                : fmt::format("atoms {} and {}", one, other);
  return fmt::format("{} are {:.3g} A apart", who, distance(pair));
}

std::string PairFixedPoint::find_bad_position() const
{
  for (int i = 0; i < atom->nlocal; ++i)
    for (int d = 0; d < 3; ++d)
      if (!std::isfinite(atom->x[i][d]))
        return fmt::format(
            "the position of atom {} is not finite at step {}: the simulation is unstable (smaller "
            "timestep, minimize first, or the model is used outside its training data)",
            atom->tag_enable ? atom->tag[i] : 0, update->ntimestep);
  if (closest_.measure < SAME_PLACE * SAME_PLACE)
    return fmt::format("{} at step {}, in the same place; remove one of them (delete_atoms overlap)",
                       described(closest_), update->ntimestep);
  return {};
}

std::string PairFixedPoint::whether_too_close() const
{
  const int rank = rank_of_lowest(closest_, TOO_CLOSE * TOO_CLOSE);
  if (rank < 0) return {};
  const std::string text = rank == comm->me ? described(closest_) : "";
  return fmt::format(". The structure is the reason: {}", fixedpoint::broadcast(lmp, text, rank));
}

int PairFixedPoint::rank_of_lowest(const NearPair &mine, double below) const
{
  struct {
    double measure;
    int rank;
  } own = {mine.measure, comm->me}, lowest;
  MPI_Allreduce(&own, &lowest, 1, MPI_DOUBLE_INT, MPI_MINLOC, world);
  return lowest.measure < below ? lowest.rank : -1;
}
