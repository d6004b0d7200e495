/// The external electric field of pair_style fixedpoint: numbers or variables, and where its potential is
/// zero; with a compensating jellium the middle of the slab.

#include "pair_style/pair_fixedpoint.h"

#include "comm.h"
#include "domain.h"
#include "input.h"
#include "modify.h"
#include "update.h"
#include "variable.h"

#include <algorithm>
#include <cmath>

using namespace LAMMPS_NS;

namespace {

/// Largest component of a unit vector along a unit vector that it is perpendicular to.
constexpr double PERPENDICULAR = 1e-8;

double length(const double *v) { return std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]); }

}    // namespace

void PairFixedPoint::init_field()
{
  field_changes_ = false;
  if (!settings_.efield) return;
  for (int d = 0; d < 3; ++d) {
    const auto &name = (*settings_.efield)[d].variable;
    field_variables_[d] = -1;
    if (name.empty()) continue;
    const int variable = input->variable->find(name.c_str());
    if (variable < 0)
      error->all(FLERR, "pair_style fixedpoint: the variable {} of the keyword efield does not exist", name);
    if (!input->variable->equalstyle(variable))
      error->all(FLERR, "pair_style fixedpoint: the variable {} of the keyword efield is not equal-style",
                 name);
    field_variables_[d] = variable;
    field_changes_ = true;
  }
}

void PairFixedPoint::gather_field()
{
  input_.external_field = {0.0, 0.0, 0.0};
  if (!settings_.efield) return;
  if (field_changes_) modify->clearstep_compute();
  double field[3];
  for (int d = 0; d < 3; ++d) {
    const int variable = field_variables_[d];
    field[d] = variable < 0 ? (*settings_.efield)[d].value : input->variable->compute_equal(variable);
    if (!std::isfinite(field[d]))
      error->all(FLERR, "pair fixedpoint: the {} component of efield is not finite at step {}", "xyz"[d],
                 update->ntimestep);
    input_.external_field[d] = -field[d];    // the model takes the gradient of the potential
  }
  if (field_changes_) modify->addstep_compute(update->ntimestep + 1);
  for (int a = 0; a < 3; ++a) {
    const double *vector = &input_.cell[3 * a];
    const double along = field[0] * vector[0] + field[1] * vector[1] + field[2] * vector[2];
    if (input_.pbc[a] && std::abs(along) > PERPENDICULAR * length(field) * length(vector))
      error->all(FLERR,
                 "pair fixedpoint: efield {} {} {} has a component along the periodic axis {}, where its "
                 "potential is not periodic; set that component to zero or make the axis non-periodic with "
                 "the command boundary",
                 field[0], field[1], field[2], "xyz"[a]);
  }
}

void PairFixedPoint::shift_positions()
{
  if (settings_.jellium) {
    origin_ = middle_of_jellium();
  } else if (!settings_.efield) {
    return;
  } else if (settings_.field_origin) {
    origin_ = settings_.field_origin;
  } else if (!origin_) {
    // Later boxes do not move it, or else charged systems would feel them move.
    origin_ = middle_of_open_axes();
    if (comm->me == 0)
      utils::logmesg(lmp, "pair fixedpoint: the potential of efield is zero at {} {} {}\n", (*origin_)[0],
                     (*origin_)[1], (*origin_)[2]);
  }
  shifted_positions_.resize(3 * input_.n_total);
  for (int64_t i = 0; i < input_.n_total; ++i)
    for (int d = 0; d < 3; ++d) shifted_positions_[3 * i + d] = input_.positions[3 * i + d] - (*origin_)[d];
  input_.positions = shifted_positions_.data();
}

std::array<double, 3> PairFixedPoint::middle_of_open_axes() const
{
  std::array<double, 3> out{};
  bool open = false;
  for (int a = 0; a < 3; ++a) {
    if (input_.pbc[a]) continue;
    open = true;
    for (int d = 0; d < 3; ++d) out[d] += 0.5 * input_.cell[3 * a + d];
  }
  for (int d = 0; d < 3 && open; ++d) out[d] += domain->boxlo[d];
  return out;
}

/// The point at the middle height of the slab, along the normal of the periodic vectors whose largest
/// component is positive.
std::array<double, 3> PairFixedPoint::middle_of_jellium() const
{
  int open = 0;
  while (input_.pbc[open]) ++open;
  const double *a = &input_.cell[3 * ((open + 1) % 3)], *b = &input_.cell[3 * ((open + 2) % 3)];
  std::array<double, 3> out = {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2],
                               a[0] * b[1] - a[1] * b[0]};
  const double largest =
      *std::max_element(out.begin(), out.end(), [](double x, double y) { return std::abs(x) < std::abs(y); });
  const double height = 0.5 * ((*settings_.jellium)[0] + (*settings_.jellium)[1]);
  const double scale = std::copysign(1.0, largest) * height / length(out.data());
  for (double &x : out) x *= scale;
  return out;
}
