/// The operators' communicator on top of LAMMPS' ghost exchange of a pair style and MPI.
#pragma once

#include "operators/communication.h"

#include <mpi.h>

namespace LAMMPS_NS {
class Atom;
class Comm;
class Pair;
}    // namespace LAMMPS_NS

namespace fixedpoint {

class LammpsCommunicator : public Communicator {
public:
  LammpsCommunicator(LAMMPS_NS::Atom *atom, LAMMPS_NS::Comm *comm, LAMMPS_NS::Pair *pair, MPI_Comm world);
  ~LammpsCommunicator() noexcept(false) override;
  LammpsCommunicator(const LammpsCommunicator &) = delete;
  LammpsCommunicator &operator=(const LammpsCommunicator &) = delete;

  /// Values per atom that LAMMPS' buffers hold; wider arrays are exchanged in several passes.
  void set_max_width(int width) { max_width_ = width; }
  /// LAMMPS replaces these objects when the style of communication changes.
  void refresh(LAMMPS_NS::Atom *atom, LAMMPS_NS::Comm *comm);
  /// Rows of the arrays in forward() and reverse(): that of each of LAMMPS' atoms, -1 for those that have
  /// none, which send zeros. Empty: row i belongs to atom i.
  void set_rows(const std::vector<int> &row_of, int64_t n_owned, int64_t n_total);

  int64_t n_owned() const override;
  int64_t n_total() const override;
  void forward(double *values, int64_t width) override;
  void reverse(double *values, int64_t width) override;
  void sum(double *values, int64_t n) override;
  void sum_max(double *sums, int64_t n_sums, double *maxima, int64_t n_maxima) override;
  int rank() const override;
  int n_ranks() const override;
  void gather(const void *row, void *rows, int64_t bytes) override;
  void exchange(const std::vector<Message> &send, const std::vector<Message> &receive) override;

  // What the pair style's four functions of the same names do.
  int pack_forward(int n, const int *list, double *buffer) const;
  void unpack_forward(int n, int first, const double *buffer);
  int pack_reverse(int n, int first, double *buffer) const;
  void unpack_reverse(int n, const int *list, const double *buffer);

  /// Seconds spent in communication since reset_timer().
  double seconds() const { return seconds_; }
  void reset_timer() { seconds_ = 0.0; }

private:
  template <typename Exchange> void in_chunks(double *values, int64_t width, Exchange exchange);
  /// The columns of an atom's row that are being exchanged; null without a row.
  double *row(int atom) const;

  LAMMPS_NS::Atom *atom_;
  LAMMPS_NS::Comm *comm_;
  LAMMPS_NS::Pair *pair_;
  MPI_Comm world_;
  int max_width_ = 1;
  // The columns [column_, column_ + columns_) of values_[n_total][width_] are being exchanged.
  double *values_ = nullptr;
  int64_t width_ = 0, column_ = 0;
  int columns_ = 0;
  std::vector<int> row_of_;
  int64_t n_owned_ = 0, n_total_ = 0;    // where not every atom has a row
  MPI_Op sum_max_op_ = MPI_OP_NULL;
  double seconds_ = 0.0;
};

}    // namespace fixedpoint
