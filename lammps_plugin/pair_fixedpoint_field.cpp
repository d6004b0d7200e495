/// The external electric field of pair_style fixedpoint: numbers or variables, and where its potential is
/// zero.

#include "pair_fixedpoint.h"

#include "comm.h"
#include "domain.h"
#include "input.h"
#include "modify.h"
#include "update.h"
#include "variable.h"

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
  find_field_origin();
  shifted_positions_.resize(3 * input_.n_total);
  for (int64_t i = 0; i < input_.n_total; ++i)
    for (int d = 0; d < 3; ++d)
      shifted_positions_[3 * i + d] = input_.positions[3 * i + d] - (*field_origin_)[d];
  input_.positions = shifted_positions_.data();
}

void PairFixedPoint::find_field_origin()
{
  if (field_origin_) return;
  if (settings_.field_origin) {
    field_origin_ = settings_.field_origin;
    return;
  }
  // The centre along open axes. Later boxes do not move it, or else charged systems would feel them move.
  std::array<double, 3> origin{};
  bool open = false;
  for (int a = 0; a < 3; ++a) {
    if (input_.pbc[a]) continue;
    open = true;
    for (int d = 0; d < 3; ++d) origin[d] += 0.5 * input_.cell[3 * a + d];
  }
  for (int d = 0; d < 3 && open; ++d) origin[d] += domain->boxlo[d];
  field_origin_ = origin;
  if (comm->me == 0)
    utils::logmesg(lmp, "pair fixedpoint: the potential of efield is zero at {} {} {}\n", origin[0],
                   origin[1], origin[2]);
}
