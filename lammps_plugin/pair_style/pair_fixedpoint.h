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
#include <limits>
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
  /// Two atoms, and what makes them the pair that is looked for: the lowest.
  struct NearPair {
    double measure = std::numeric_limits<double>::infinity();
    int i = -1, j = -1;
    void keep(double other, int other_i, int other_j)
    {
      if (other < measure) *this = {other, other_i, other_j};
    }
  };
  /// What can be outside of the training.
  enum Quantity {
    CHARGE,
    LEVEL,
    FIELD,
    DISTANCE,
    DENSITY,
    NUM_QUANTITIES
  };

  /// Runs a part of an entry point; whatever it throws becomes an error of LAMMPS.
  template <typename Body> void guarded(const char *where, Body body);

  void load_model(const std::string &file);
  void configure_model();
  void map_elements(int narg, char **arg);
  void check_simulation();
  void check_strains() const;
  void check_charge_readers() const;
  void warn_of_masses() const;
  void warn_oversubscription();
  void print_summary();
  void print_kspace();

  void init_field();
  void gather_field();
  void shift_positions();
  std::array<double, 3> middle_of_open_axes() const;
  std::array<double, 3> middle_of_jellium() const;

  /// That nothing takes neighbors or ghosts away; a list exists only `at_use`.
  void check_neighbors(bool at_use) const;
  /// Finds the atoms that take part: all but those that fix gcmc or fix widom tries to do without.
  void find_present();
  bool any_atoms();
  void gather_input();
  void gather_edges();
  /// Index in LAMMPS of an atom of the model.
  int atom_of(int64_t row) const { return present_.empty() ? static_cast<int>(row) : present_[row]; }
  std::string find_bad_position() const;
  double distance(const NearPair &pair) const;
  std::string described(const NearPair &pair) const;
  /// End of a message on a failure that atoms in nearly the same place explain; collective.
  std::string whether_too_close() const;
  /// The rank whose measure is the lowest, if it is below a limit, or -1; collective.
  int rank_of_lowest(const NearPair &mine, double below) const;

  void init_ranges();
  void check_given();
  void check_found();
  void check_charge(double total);
  void check_level(double level);
  void check_distances();
  void check_density();
  void report_outside(Quantity quantity, const std::string &what, const std::string &range);

  void run_model();
  void check_convergence();
  std::string how_not_converged() const;
  void add_output();
  void add_globals();
  void write_charges();
  void grow_peratom();

  fixedpoint::PairSettings settings_;
  std::unique_ptr<fixedpoint::ModelRunner> model_;
  std::unique_ptr<fixedpoint::LammpsCommunicator> communicator_;
  fixedpoint::ModelInput input_;
  fixedpoint::ModelOutput output_;
  std::string file_, device_;
  std::vector<int64_t> type_to_species_;    // [ntypes + 1]
  double energy_unit_ = 1.0;                // LAMMPS' unit of energy per eV
  bool announced_ = false, kspace_announced_ = false;
  bigint n_atoms_ = 0;    // of all ranks

  std::vector<int> present_;                 // LAMMPS' indices of the model's atoms; empty: the same
  std::vector<int> row_of_;                  // the model's of LAMMPS' atoms, -1: none; empty: the same
  std::vector<double> present_positions_;    // [n_total][3], where not all are present
  NearPair closest_;                         // by the square of the distance
  NearPair farthest_outside_;                // the same relative to the square of what the training had
  std::vector<double> distance_scales_;      // [species][species] of these squares; empty: not looked at
  std::array<bool, NUM_QUANTITIES> outside_reported_{};

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
