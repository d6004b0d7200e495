/// Whether a simulation leaves the ranges of the model's training, which its archive holds.

#include "pair_style/agree.h"
#include "pair_style/pair_fixedpoint.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace LAMMPS_NS;
using namespace fixedpoint;

namespace {

bool outside(const std::array<double, 2> &range, double value, double floor)
{
  const double margin = std::max(WIDER * (range[1] - range[0]), floor);
  return !(value >= range[0] - margin && value <= range[1] + margin);
}

}    // namespace

void PairFixedPoint::init_ranges()
{
  outside_reported_ = {};
  distance_scales_.clear();
  const auto &training = model_->metadata().training;
  if (settings_.outside == Outside::ERROR && !training.any() && comm->me == 0)
    error->warning(
        FLERR,
        "pair fixedpoint: the model file does not say the ranges of its training, so outside error stops "
        "nothing; export it again from its run folder with `fixedpoint export`");
  if (settings_.outside == Outside::IGNORE || training.distances.empty()) return;
  // Squares of distances times these are below one outside. Pairs without a known distance never are.
  for (const double smallest : training.distances) {
    const double limit = NEARER * smallest;
    distance_scales_.push_back(limit > 0.0 ? 1.0 / (limit * limit) : std::numeric_limits<double>::infinity());
  }
}

void PairFixedPoint::report_outside(Quantity quantity, const std::string &what, const std::string &range)
{
  if (outside_reported_[quantity]) return;
  outside_reported_[quantity] = true;
  const auto message =
      fmt::format("pair fixedpoint: {} at step {}, outside of the training ({}): what the model "
                  "says there is extrapolated",
                  what, update->ntimestep, range);
  if (settings_.outside == Outside::ERROR)
    error->all(FLERR, message + "; outside warn goes on, outside ignore does not look");
  if (comm->me == 0) error->warning(FLERR, message);
}

void PairFixedPoint::check_given()
{
  const auto &training = model_->metadata().training;
  if (settings_.outside == Outside::IGNORE) return;
  if (input_.constant_charge)
    check_charge(input_.total_charge);
  else
    check_level(input_.fermi_level);
  const auto &f = input_.external_field;
  const double field = std::hypot(f[0], f[1], f[2]);
  if (training.field && field > (1.0 + WIDER) * *training.field + range_floor::FIELD)
    report_outside(FIELD, fmt::format("a field of {:g} V/A", field),
                   fmt::format("at most {:g} V/A", *training.field));
  check_distances();
}

void PairFixedPoint::check_found()
{
  if (settings_.outside == Outside::IGNORE) return;
  if (!input_.constant_charge)
    check_charge(output_.total_charge);
  else if (output_.conducts)
    check_level(output_.fermi_level);
  check_density();
}

void PairFixedPoint::check_charge(double total)
{
  const auto &range = model_->metadata().training.charge_per_atom;
  const double value = total / static_cast<double>(n_atoms_);
  if (range && outside(*range, value, range_floor::CHARGE_PER_ATOM))
    report_outside(
        CHARGE, fmt::format("a total charge of {:g} e on {} atoms, {:g} e per atom,", total, n_atoms_, value),
        fmt::format("{:g} to {:g} e per atom", (*range)[0], (*range)[1]));
}

void PairFixedPoint::check_level(double level)
{
  const auto &range = model_->metadata().training.fermi_level;
  if (range && outside(*range, level, range_floor::FERMI_LEVEL))
    report_outside(LEVEL, fmt::format("a Fermi level of {:g} V", level),
                   fmt::format("{:g} to {:g} V", (*range)[0], (*range)[1]));
}

void PairFixedPoint::check_distances()
{
  if (distance_scales_.empty() || outside_reported_[DISTANCE]) return;
  const int rank = rank_of_lowest(farthest_outside_, 1.0);
  if (rank < 0) return;
  std::string what, range;
  if (rank == comm->me) {
    const auto &meta = model_->metadata();
    const auto a = type_to_species_[atom->type[farthest_outside_.i]];
    const auto b = type_to_species_[atom->type[farthest_outside_.j]];
    what = described(farthest_outside_);
    range = fmt::format("at least {:.3g} A for {}-{}", meta.training.distances[a * meta.elements.size() + b],
                        meta.elements[a], meta.elements[b]);
  }
  what = broadcast(lmp, what, rank);
  report_outside(DISTANCE, what, broadcast(lmp, range, rank));
}

void PairFixedPoint::check_density()
{
  const auto &largest = model_->metadata().training.density;
  if (largest.empty() || outside_reported_[DENSITY]) return;
  // The pair is an atom and what of it is largest, the lowest measure that of the farthest outside.
  NearPair farthest;
  for (int64_t row = 0; row < input_.n_owned; ++row) {
    const auto &known = largest[input_.species[row]];
    const double *p = &output_.density[4 * row];
    const double norms[2] = {std::abs(p[0]), std::hypot(p[1], p[2], p[3])};
    for (int k = 0; k < 2; ++k)
      if (known[k] >= 0.0)
        farthest.keep((1.0 + WIDER) * known[k] + range_floor::DENSITY - norms[k], atom_of(row), k);
  }
  const int rank = rank_of_lowest(farthest, 0.0);
  if (rank < 0) return;
  std::string what, range;
  if (rank == comm->me) {
    const bool charge = farthest.j == 0;
    const auto species = type_to_species_[atom->type[farthest.i]];
    const double known = largest[species][farthest.j];
    what = fmt::format("a {} of {:.3g} {} on atom {} ({})", charge ? "charge" : "dipole",
                       (1.0 + WIDER) * known + range_floor::DENSITY - farthest.measure, charge ? "e" : "e A",
                       atom->tag_enable ? atom->tag[farthest.i] : 0, model_->metadata().elements[species]);
    range = fmt::format("at most {:.3g} {} for this element", known, charge ? "e" : "e A");
  }
  what = broadcast(lmp, what, rank);
  report_outside(DENSITY, what, broadcast(lmp, range, rank));
}
