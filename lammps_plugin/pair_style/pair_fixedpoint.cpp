#include "pair_style/pair_fixedpoint.h"
#include "pair_style/agree.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "kspace.h"
#include "memory.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

using namespace LAMMPS_NS;
using fixedpoint::Status;

namespace {

/// Entries of pvector, the global values of `compute ID all pair fixedpoint`.
enum Global {
  E_LOCAL,
  E_NONLOCAL,
  E_COULOMB,
  E_FIELD,
  FERMI_LEVEL,
  TOTAL_CHARGE,
  DIPOLE_X,
  DIPOLE_Y,
  DIPOLE_Z,
  SCF_STEPS,
  RESIDUAL,
  ADJOINT_RESIDUAL,
  MODEL_SECONDS,
  COMMUNICATION_SECONDS,
  NET_FORCE_X,
  NET_FORCE_Y,
  NET_FORCE_Z,
  NUM_GLOBALS
};

constexpr int DEFAULT_WIDTH = 128;    // values per atom in one ghost exchange if the model does not say

}    // namespace

/// Entry point of this library, called by the plugin that LAMMPS loads.
extern "C" void *fixedpoint_create_pair(void *lmp) { return new PairFixedPoint(static_cast<LAMMPS *>(lmp)); }

PairFixedPoint::PairFixedPoint(LAMMPS *lmp) : Pair(lmp)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  respa_enable = 0;
  no_virial_fdotr_compute = 1;
  centroidstressflag = CENTROID_NOTAVAIL;
  unit_convert_flag = utils::get_supported_conversions(utils::ENERGY);
  nextra = NUM_GLOBALS;
  pvector = new double[nextra]();
  comm_forward = comm_reverse = DEFAULT_WIDTH;
  communicator_ = std::make_unique<fixedpoint::LammpsCommunicator>(atom, comm, this, world);
  if (!fixedpoint::registration_error().empty())
    error->all(FLERR,
               "pair fixedpoint cannot be used in this process: its operators are registered by something "
               "else ({}). "
               "In Python, import fp_potential.communication of the same installation, and no other copy",
               fixedpoint::registration_error());
}

PairFixedPoint::~PairFixedPoint()
{
  delete[] pvector;
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
  memory->destroy(charge_);
  memory->destroy(dipole_);
  memory->destroy(potential_);
}

double PairFixedPoint::init_one(int, int) { return model_->metadata().cutoff; }

void PairFixedPoint::compute(int eflag, int vflag)
{
  guarded("computing forces", [&] {
    ev_init(eflag, vflag);
    if (vflag_atom)
      error->all(FLERR,
                 "pair fixedpoint has no per-atom virial (asked for by a compute such as stress/atom); the "
                 "global pressure is available");
    communicator_->refresh(atom, comm);
    communicator_->reset_timer();
    // Fixes may take neighbors away when they are initialised, after the pair style.
    check_neighbors(true);
    find_present();
    gather_input();
    fixedpoint::agree(lmp, find_bad_position());
    if (any_atoms()) {
      check_given();
      run_model();
      check_convergence();
      check_found();
      print_kspace();
    } else {
      output_ = {};    // of nothing: energy and charge are zero
      output_.conducts = false;
      output_.fermi_level = input_.fermi_level;
      pvector[MODEL_SECONDS] = pvector[COMMUNICATION_SECONDS] = 0.0;
    }
    add_output();
  });
}

void PairFixedPoint::run_model()
{
  const double start = MPI_Wtime();
  {
    const fixedpoint::CommunicatorScope scope(communicator_.get());
    model_->run(input_, comm->nthreads, output_);
  }
  pvector[MODEL_SECONDS] = MPI_Wtime() - start;
  pvector[COMMUNICATION_SECONDS] = communicator_->seconds();
}

void PairFixedPoint::check_convergence()
{
  // Status and energy are the same on every rank, so are these decisions.
  const auto &out = output_;
  if (out.status == Status::NO_CHARGE_RESPONSE)
    error->all(
        FLERR,
        "pair fixedpoint: the charge does not respond to the Fermi level at step {}, so the total charge "
        "{} e cannot be set. The model is used outside its training data, or cannot carry this charge{}",
        update->ntimestep, input_.total_charge, whether_too_close());
  if (out.status == Status::NO_FERMI_LEVEL)
    error->all(
        FLERR,
        "pair fixedpoint: no atom conducts at step {}, so there is no Fermi level to hold at {} V. Give the "
        "keyword charge in the place of fermi",
        update->ntimestep, input_.fermi_level);
  if (out.status != Status::CONVERGED || out.adjoint_residual > input_.scf_tolerance) {
    const auto message = how_not_converged() + whether_too_close();
    if (settings_.error_on_nonconverged)
      error->all(FLERR, message + "; on_nonconverged warn goes on with what there is");
    if (comm->me == 0) error->warning(FLERR, message);
  }
  if (!std::isfinite(out.energy))
    error->all(
        FLERR,
        "pair fixedpoint: the energy is not finite at step {}: the simulation is unstable or the model "
        "is used outside its training data{}",
        update->ntimestep, whether_too_close());
}

std::string PairFixedPoint::how_not_converged() const
{
  const auto &out = output_;
  const char *how = out.status == Status::MAX_STEPS  ? "it stopped at the largest number of steps"
                    : out.status == Status::DIVERGED ? "it diverged"
                    : out.status == Status::UNSTABLE ? "the solution is unstable"
                                                     : "its adjoint, which the forces need, did not converge";
  auto message =
      fmt::format("pair fixedpoint: SCF not converged at step {}: {}; {} applications, residual {:.3g} e, "
                  "adjoint residual {:.3g}, scf_tolerance {:.3g} e, solver {}. ",
                  update->ntimestep, how, out.scf_steps, out.residual, out.adjoint_residual,
                  input_.scf_tolerance, input_.solver);
  const bool single = model_->metadata().single_precision;
  const double attainable = single ? fixedpoint::ATTAINABLE_SINGLE : fixedpoint::ATTAINABLE;
  if (input_.scf_tolerance < attainable)
    return message +
           fmt::format("This scf_tolerance is unattainable: the rounding of {} leaves about {:g} e; ask for "
                       "more than that",
                       single ? "single precision (float32)" : "double precision (float64)", attainable);
  return message + "Try a larger num_scf_steps, a larger scf_tolerance, solver anderson or a smaller "
                   "mixing_parameter, and check the total charge of the box";
}

void PairFixedPoint::add_output()
{
  const auto &out = output_;
  const auto n_owned = static_cast<int64_t>(out.atomic_energies.size());
  double **f = atom->f;
  for (std::size_t row = 0; 3 * row < out.forces.size(); ++row)
    for (int d = 0; d < 3; ++d) f[atom_of(row)][d] += energy_unit_ * out.forces[3 * row + d];
  // LAMMPS sums the global values over ranks: rank 0 holds them, the others zero.
  if (comm->me == 0)
    add_globals();
  else
    std::fill_n(pvector, nextra, 0.0);
  if (eflag_atom)
    for (int64_t row = 0; row < n_owned; ++row)
      eatom[atom_of(row)] += energy_unit_ * out.atomic_energies[row];

  grow_peratom();
  if (n_owned < atom->nlocal) {    // some atoms are taken away
    std::fill_n(charge_, atom->nlocal, 0.0);
    std::fill_n(dipole_[0], 3 * atom->nlocal, 0.0);
    std::fill_n(potential_, atom->nlocal, 0.0);
  }
  for (int64_t row = 0; row < n_owned; ++row) {
    const double *p = &out.density[4 * row];
    const int i = atom_of(row);
    charge_[i] = p[0];
    dipole_[i][0] = p[3];
    dipole_[i][1] = p[1];
    dipole_[i][2] = p[2];
    potential_[i] = out.potentials[row];
  }
  if (settings_.write_q && atom->q_flag) write_charges();
}

void PairFixedPoint::add_globals()
{
  const auto &out = output_;
  if (eflag_global) eng_vdwl += energy_unit_ * out.energy;
  if (vflag_global) {
    const auto &g = out.strain_gradient;
    const double values[6] = {g[0], g[4], g[8], g[1], g[2], g[5]};
    for (int k = 0; k < 6; ++k) virial[k] -= energy_unit_ * values[k];
  }
  pvector[E_LOCAL] = energy_unit_ * out.energy_local;
  pvector[E_NONLOCAL] = energy_unit_ * out.energy_nonlocal;
  pvector[E_COULOMB] = energy_unit_ * out.energy_coulomb;
  pvector[E_FIELD] = energy_unit_ * out.energy_field;
  const bool has_level = out.conducts || !input_.constant_charge;
  pvector[FERMI_LEVEL] = has_level ? out.fermi_level : std::numeric_limits<double>::quiet_NaN();
  pvector[TOTAL_CHARGE] = out.total_charge;
  for (int d = 0; d < 3; ++d) {
    // The model's is about the point where the potential of the field is zero.
    pvector[DIPOLE_X + d] = out.dipole[d] + (origin_ ? out.total_charge * (*origin_)[d] : 0.0);
    pvector[NET_FORCE_X + d] = energy_unit_ * out.mesh_net_force[d];
  }
  pvector[SCF_STEPS] = static_cast<double>(out.scf_steps);
  pvector[RESIDUAL] = out.residual;
  pvector[ADJOINT_RESIDUAL] = out.adjoint_residual;
}

/// Of owned atoms and of their ghosts, which LAMMPS itself would tell at the next rebuild of the lists.
void PairFixedPoint::write_charges()
{
  std::copy_n(charge_, atom->nlocal, atom->q);
  communicator_->set_rows({}, atom->nlocal, atom->nlocal + atom->nghost);
  communicator_->forward(atom->q, 1);
  if (force->kspace) force->kspace->qsum_qsq();    // sums of q that it would take for constant
}

void PairFixedPoint::grow_peratom()
{
  if (atom->nmax <= nmax_) return;
  nmax_ = atom->nmax;
  memory->grow(charge_, nmax_, "pair:charge");
  memory->grow(dipole_, nmax_, 3, "pair:dipole");
  memory->grow(potential_, nmax_, "pair:potential");
  std::fill_n(charge_, nmax_, 0.0);
  std::fill_n(dipole_[0], 3 * nmax_, 0.0);
  std::fill_n(potential_, nmax_, 0.0);
}

void *PairFixedPoint::extract_peratom(const char *name, int &columns)
{
  grow_peratom();
  columns = 0;
  if (strcmp(name, "charge") == 0) return charge_;
  if (strcmp(name, "potential") == 0) return potential_;
  columns = 3;
  if (strcmp(name, "dipole") == 0) return dipole_;
  return nullptr;
}

double PairFixedPoint::memory_usage()
{
  return Pair::memory_usage() + 5.0 * nmax_ * sizeof(double) +
         sizeof(int64_t) * static_cast<double>(input_.receivers.capacity() + input_.senders.capacity() +
                                               input_.species.capacity()) +
         sizeof(double) * static_cast<double>(shifted_positions_.capacity() + present_positions_.capacity());
}

int PairFixedPoint::pack_forward_comm(int n, int *list, double *buffer, int, int *)
{
  return communicator_->pack_forward(n, list, buffer);
}

void PairFixedPoint::unpack_forward_comm(int n, int first, double *buffer)
{
  communicator_->unpack_forward(n, first, buffer);
}

int PairFixedPoint::pack_reverse_comm(int n, int first, double *buffer)
{
  return communicator_->pack_reverse(n, first, buffer);
}

void PairFixedPoint::unpack_reverse_comm(int n, int *list, double *buffer)
{
  communicator_->unpack_reverse(n, list, buffer);
}
