/// The part of pair_style fixedpoint that runs before a simulation: keywords, model file, checks of the
/// input.

#include "pair_style/agree.h"
#include "pair_style/pair_fixedpoint.h"

#include "atom.h"
#include "comm.h"
#include "force.h"
#include "memory.h"
#include "neighbor.h"
#include "update.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

using namespace LAMMPS_NS;

namespace {

/// Reads a whole file. Returns an empty error, or the reason why it cannot be read.
std::string read_file(const std::string &path, std::string &bytes)
{
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  if (in) content << in.rdbuf();
  if (!in || !content) return errno ? std::strerror(errno) : "it is empty or cannot be read";
  bytes = content.str();
  return {};
}

std::string joined(const std::vector<std::string> &words)
{
  std::string out;
  for (const auto &word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

}    // namespace

void PairFixedPoint::settings(int narg, char **arg)
{
  guarded("reading pair_style", [&] {
    try {
      settings_ = fixedpoint::parse_pair_settings(narg, arg);
      origin_.reset();
    } catch (const std::invalid_argument &e) {
      error->all(FLERR, "pair_style fixedpoint: {}", e.what());
    }
    // A second pair_style fixedpoint keeps the model of the first.
    if (model_) configure_model();
    announced_ = false;
  });
}

void PairFixedPoint::coeff(int narg, char **arg)
{
  guarded("reading pair_coeff", [&] {
    if (narg < 3 || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
      error->all(
          FLERR,
          "pair_coeff for fixedpoint is: pair_coeff * * model.pt ELEMENT_OF_TYPE_1 ELEMENT_OF_TYPE_2 ...");
    if (!allocated) {
      const int n = atom->ntypes + 1;
      memory->create(setflag, n, n, "pair:setflag");
      memory->create(cutsq, n, n, "pair:cutsq");
      allocated = 1;
    }
    load_model(arg[2]);
    map_elements(narg - 3, arg + 3);
    announced_ = false;
  });
}

void PairFixedPoint::load_model(const std::string &file)
{
  // Rank 0 reads and the others receive: a file that one of them cannot see stops nobody.
  std::string bytes, failure;
  if (comm->me == 0) {
    file_ = utils::get_potential_file_path(file);
    failure = file_.empty() ? "no such file, here or in LAMMPS_POTENTIALS" : read_file(file_, bytes);
    if (!failure.empty()) failure = fmt::format("cannot read the model file {}: {}", file, failure);
  }
  fixedpoint::agree(lmp, failure);
  file_ = file;
  bigint size = static_cast<bigint>(bytes.size());
  MPI_Bcast(&size, 1, MPI_LMP_BIGINT, 0, world);
  bytes.resize(size);
  constexpr bigint CHUNK = 1 << 30;
  for (bigint at = 0; at < size; at += CHUNK)
    MPI_Bcast(&bytes[at], static_cast<int>(std::min(CHUNK, size - at)), MPI_CHAR, 0, world);

  try {
    model_ = std::make_unique<fixedpoint::ModelRunner>(bytes);
  } catch (const std::exception &e) {
    failure = fmt::format("cannot use the model file {}: {}", file, e.what());
  }
  fixedpoint::agree(lmp, failure);
  if (!model_->checked() && comm->me == 0)
    error->warning(FLERR,
                   "pair fixedpoint: the model file {} carries no checksums, as it was exported by an "
                   "earlier version: changes of it would go unnoticed; export it again to have them",
                   file);
  configure_model();

  const auto &meta = model_->metadata();
  if (meta.comm_width > 0) comm_forward = comm_reverse = static_cast<int>(meta.comm_width);
  communicator_->set_max_width(comm_forward);
}

void PairFixedPoint::configure_model()
{
  MPI_Comm node;
  int local_rank = 0;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, comm->me, MPI_INFO_NULL, &node);
  MPI_Comm_rank(node, &local_rank);
  MPI_Comm_free(&node);

  std::string failure;
  try {
    device_ = model_->set_device(settings_.device, local_rank);
    model_->set_kspace(settings_.kspace, settings_.kspace_accuracy, settings_.remove_net_force);
    auto slab = settings_.jellium;
    if (slab) {    // positions are relative to its middle
      const double half = 0.5 * ((*slab)[1] - (*slab)[0]);
      *slab = {-half, half};
    }
    model_->set_jellium(slab);
    model_->check_arguments();
  } catch (const std::exception &e) {
    failure = e.what();
  }
  fixedpoint::agree(lmp, failure);
}

void PairFixedPoint::map_elements(int narg, char **arg)
{
  const auto &elements = model_->metadata().elements;
  const auto known = joined(elements);
  if (narg != atom->ntypes)
    error->all(FLERR,
               "pair_coeff for fixedpoint needs one element per atom type: {} types, {} elements given",
               atom->ntypes, narg);
  type_to_species_.assign(atom->ntypes + 1, -1);
  for (int type = 1; type <= atom->ntypes; ++type) {
    const std::string name = arg[type - 1];
    if (name == "NULL")
      error->all(FLERR,
                 "pair_coeff for fixedpoint: NULL for atom type {} is not possible, every atom takes part in "
                 "the self-consistent charge density",
                 type);
    const auto found = std::find(elements.begin(), elements.end(), name);
    if (found == elements.end())
      error->all(
          FLERR,
          "pair_coeff for fixedpoint: the element {} of atom type {} is not in the model {}, which knows: {}",
          name, type, file_, known);
    type_to_species_[type] = found - elements.begin();
  }
  for (int i = 1; i <= atom->ntypes; ++i)
    for (int j = 1; j <= atom->ntypes; ++j) setflag[i][j] = 1;
}

void PairFixedPoint::init_style()
{
  guarded("checking the simulation", [&] {
    check_simulation();
    init_field();
    energy_unit_ = 1.0;
    if (strcmp(update->unit_style, "real") == 0)
      energy_unit_ = utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL);
    // hybrid fixed its widths before pair_coeff told ours.
    force->pair->comm_forward = std::max(force->pair->comm_forward, comm_forward);
    force->pair->comm_reverse = std::max(force->pair->comm_reverse, comm_reverse);
    neighbor->add_request(this, NeighConst::REQ_FULL);
    if (!announced_) {
      warn_oversubscription();
      warn_of_masses();
      init_ranges();
      print_summary();
      kspace_announced_ = false;
      announced_ = true;
    }
  });
}

void PairFixedPoint::warn_oversubscription()
{
  MPI_Comm node;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, comm->me, MPI_INFO_NULL, &node);
  int ranks = 1;
  MPI_Comm_size(node, &ranks);
  MPI_Comm_free(&node);
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (comm->me == 0 && cores > 0 && comm->nthreads > 1 && ranks * comm->nthreads > cores)
    error->warning(
        FLERR,
        "pair fixedpoint: {} ranks with {} threads each on {} cores will be very slow; set OMP_NUM_THREADS=1",
        ranks, comm->nthreads, cores);
}

void PairFixedPoint::print_summary()
{
  if (comm->me != 0) return;
  const auto &meta = model_->metadata();
  const auto &s = settings_;
  const auto ensemble = s.fermi_level ? fmt::format("Fermi level {} V", *s.fermi_level)
                                      : fmt::format("total charge {} e", s.total_charge.value_or(0.0));
  const auto slab =
      s.jellium ? fmt::format(", compensating jellium between {} and {} A", (*s.jellium)[0], (*s.jellium)[1])
                : std::string();
  utils::logmesg(lmp, "pair fixedpoint: {} (elements {}, cutoff {} A, {}) on {}, {} {} per rank, {}{}\n",
                 file_, joined(meta.elements), meta.cutoff, meta.single_precision ? "float32" : "float64",
                 device_, comm->nthreads, comm->nthreads == 1 ? "thread" : "threads", ensemble, slab);
  const auto solver = s.solver.value_or(meta.solver);
  const auto mixing = s.mixing_parameter.value_or(meta.mixing_parameter);
  utils::logmesg(
      lmp,
      "pair fixedpoint: SCF by {}{}, at most {} applications, scf_tolerance {:g} e, on_nonconverged {}; "
      "write_q {}, outside {}\n",
      solver, solver == "linear" ? fmt::format(" with mixing_parameter {:g}", mixing) : "",
      s.num_scf_steps.value_or(meta.num_scf_steps), s.scf_tolerance.value_or(meta.scf_tolerance),
      s.error_on_nonconverged ? "error" : "warn", s.write_q ? "yes" : "no", fixedpoint::name(s.outside));
}

void PairFixedPoint::print_kspace()
{
  if (kspace_announced_) return;
  kspace_announced_ = true;
  if (comm->me != 0) return;
  const auto &chosen = output_.kspace;
  const auto asked = model_->kspace_method();
  std::string how = chosen[0] < 0 ? asked : fixedpoint::KSPACE_METHODS[chosen[0]];
  if (chosen[1] > 0) how += fmt::format(" of {} x {} x {} points", chosen[1], chosen[2], chosen[3]);
  if (chosen[1] > 0 || chosen[0] < 0)
    how += fmt::format(", accuracy {:g}, net force {}", model_->kspace_accuracy(),
                       settings_.remove_net_force ? "removed" : "kept");
  if (asked == "auto")
    how += chosen[0] < 0 ? " (this model file does not say what that is)" : " (chosen by auto)";
  utils::logmesg(lmp, "pair fixedpoint: kspace {}\n", how);
}
