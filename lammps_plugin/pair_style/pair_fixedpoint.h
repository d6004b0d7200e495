/// pair_style fixedpoint: energy, forces and virial of an exported model.
#ifndef LMP_PAIR_FIXEDPOINT_H
#define LMP_PAIR_FIXEDPOINT_H

#include "pair.h"

#include "model/model_runner.h"
#include "pair_style/lammps_communicator.h"
#include "pair_style/pair_settings.h"

#include "comm.h"
#include "error.h"

#include <array>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace LAMMPS_NS {

class PairFixedPoint : public Pair {
public:
  explicit PairFixedPoint(class LAMMPS *);
  ~PairFixedPoint() override;

  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void compute(int, int) override;
  void *extract_peratom(const char *, int &) override;
  double memory_usage() override;

  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;

private:
  /// Runs a part of an entry point; whatever it throws becomes an error of LAMMPS.
  template <typename Body> void guarded(const char *where, Body body);

  void load_model(const std::string &file);
  void configure_model();
  void map_elements(int narg, char **arg);
  void check_simulation();
  void warn_oversubscription();
  void print_summary();

  void init_field();
  void gather_field();
  void shift_positions();
  std::array<double, 3> middle_of_open_axes() const;
  std::array<double, 3> middle_of_jellium() const;

  void gather_input();
  std::string find_bad_position() const;
  void check_convergence();
  void add_output();
  void grow_peratom();

  fixedpoint::PairSettings settings_;
  std::unique_ptr<fixedpoint::ModelRunner> model_;
  std::unique_ptr<fixedpoint::LammpsCommunicator> communicator_;
  fixedpoint::ModelInput input_;
  fixedpoint::ModelOutput output_;
  std::string file_, device_;
  std::vector<int64_t> type_to_species_;    // [ntypes + 1]
  double energy_unit_ = 1.0;                // LAMMPS' unit of energy per eV
  bool announced_ = false;

  std::array<int, 3> field_variables_{};    // index of LAMMPS' variable, -1: a number
  bool field_changes_ = false;
  std::optional<std::array<double, 3>> origin_;    // where the field's potential is zero, Å
  std::vector<double> shifted_positions_;          // [n_total][3], relative to origin_

  int nmax_ = 0;
  double *charge_ = nullptr;       // [nmax_], e
  double **dipole_ = nullptr;      // [nmax_][3], e Å
  double *potential_ = nullptr;    // [nmax_], V
};

template <typename Body> void PairFixedPoint::guarded(const char *where, Body body)
{
  std::string message;
  try {
    body();
    return;
  } catch (const LAMMPSException &) {
    throw;
  } catch (const std::exception &e) {
    message = e.what();
  } catch (...) {
    message = "unknown exception";
  }
  // The other ranks may wait for this one: only an error that ends them all is safe. LAMMPS prints it on rank
  // 0 alone, and a failure of all ranks is the common case: rank 0 goes first.
  if (comm->me != 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
  error->one(FLERR, "pair fixedpoint, {}: {}", where, message);
}

}    // namespace LAMMPS_NS

#endif
