#include "pair_style/lammps_communicator.h"

#include "atom.h"
#include "comm.h"
#include "pair.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace fixedpoint {

namespace {

constexpr int EXCHANGE_TAG = 7321;    // LAMMPS sends on the same communicator, with small tags

/// Adds its duration to a counter.
class Stopwatch {
public:
  explicit Stopwatch(double &total) : total_(total), start_(MPI_Wtime()) {}
  ~Stopwatch() { total_ += MPI_Wtime() - start_; }

private:
  double &total_;
  double start_;
};

/// Reduction of one element of the type [n_sums, sums..., maxima...].
void reduce_sum_max(void *in, void *inout, int *, MPI_Datatype *type)
{
  int bytes = 0;
  MPI_Type_size(*type, &bytes);
  const auto n = static_cast<int64_t>(bytes / sizeof(double));
  const auto *a = static_cast<const double *>(in);
  auto *b = static_cast<double *>(inout);
  const auto n_sums = static_cast<int64_t>(a[0]);
  for (int64_t k = 1; k <= n_sums; ++k) b[k] += a[k];
  for (int64_t k = n_sums + 1; k < n; ++k)
    if (a[k] > b[k] || std::isnan(a[k])) b[k] = a[k];
}

}    // namespace

LammpsCommunicator::LammpsCommunicator(LAMMPS_NS::Atom *atom, LAMMPS_NS::Comm *comm, LAMMPS_NS::Pair *pair,
                                       MPI_Comm world) : atom_(atom), comm_(comm), pair_(pair), world_(world)
{
  MPI_Op_create(&reduce_sum_max, 1, &sum_max_op_);
}

LammpsCommunicator::~LammpsCommunicator() noexcept(false)
{
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!finalized) MPI_Op_free(&sum_max_op_);
}

void LammpsCommunicator::refresh(LAMMPS_NS::Atom *atom, LAMMPS_NS::Comm *comm)
{
  atom_ = atom;
  comm_ = comm;
}

void LammpsCommunicator::set_rows(const std::vector<int> &row_of, int64_t n_owned, int64_t n_total)
{
  row_of_ = row_of;
  n_owned_ = n_owned;
  n_total_ = n_total;
}

int64_t LammpsCommunicator::n_owned() const { return row_of_.empty() ? atom_->nlocal : n_owned_; }
int64_t LammpsCommunicator::n_total() const
{
  return row_of_.empty() ? atom_->nlocal + atom_->nghost : n_total_;
}

double *LammpsCommunicator::row(int atom) const
{
  const int64_t row = row_of_.empty() ? atom : row_of_[atom];
  return row < 0 ? nullptr : values_ + row * width_ + column_;
}

template <typename Exchange>
void LammpsCommunicator::in_chunks(double *values, int64_t width, Exchange exchange)
{
  const Stopwatch stopwatch(seconds_);
  values_ = values;
  width_ = width;
  for (column_ = 0; column_ < width; column_ += columns_) {
    columns_ = static_cast<int>(std::min<int64_t>(max_width_, width - column_));
    exchange();
  }
  values_ = nullptr;
}

void LammpsCommunicator::forward(double *values, int64_t width)
{
  in_chunks(values, width, [this] { comm_->forward_comm(pair_, columns_); });
}

void LammpsCommunicator::reverse(double *values, int64_t width)
{
  in_chunks(values, width, [this] { comm_->reverse_comm(pair_, columns_); });
}

void LammpsCommunicator::sum(double *values, int64_t n)
{
  if (comm_->nprocs == 1) return;
  const Stopwatch stopwatch(seconds_);
  MPI_Allreduce(MPI_IN_PLACE, values, static_cast<int>(n), MPI_DOUBLE, MPI_SUM, world_);
}

void LammpsCommunicator::sum_max(double *sums, int64_t n_sums, double *maxima, int64_t n_maxima)
{
  if (comm_->nprocs == 1) return;
  const Stopwatch stopwatch(seconds_);
  std::vector<double> work(1 + n_sums + n_maxima);
  work[0] = static_cast<double>(n_sums);
  std::copy_n(sums, n_sums, work.begin() + 1);
  std::copy_n(maxima, n_maxima, work.begin() + 1 + n_sums);
  // One element of a type that spans everything: MPI may split an array of doubles, but not an element.
  MPI_Datatype block;
  MPI_Type_contiguous(static_cast<int>(work.size()), MPI_DOUBLE, &block);
  MPI_Type_commit(&block);
  MPI_Allreduce(MPI_IN_PLACE, work.data(), 1, block, sum_max_op_, world_);
  MPI_Type_free(&block);
  std::copy_n(work.begin() + 1, n_sums, sums);
  std::copy_n(work.begin() + 1 + n_sums, n_maxima, maxima);
}

int LammpsCommunicator::rank() const { return comm_->me; }
int LammpsCommunicator::n_ranks() const { return comm_->nprocs; }

void LammpsCommunicator::gather(const void *row, void *rows, int64_t bytes)
{
  const Stopwatch stopwatch(seconds_);
  const auto count = static_cast<int>(bytes);
  MPI_Allgather(row, count, MPI_BYTE, rows, count, MPI_BYTE, world_);
}

void LammpsCommunicator::exchange(const std::vector<Message> &send, const std::vector<Message> &receive)
{
  const Stopwatch stopwatch(seconds_);
  std::vector<MPI_Request> requests;
  // MPI counts with int: longer messages travel in pieces, which arrive in their order.
  const auto in_pieces = [&](const Message &message, auto post) {
    constexpr int64_t PIECE = 1 << 30;
    for (int64_t at = 0; at < message.bytes; at += PIECE)
      post(static_cast<char *>(message.data) + at, static_cast<int>(std::min(PIECE, message.bytes - at)),
           &requests.emplace_back());
  };
  for (const auto &message : receive)
    in_pieces(message, [&](char *data, int count, MPI_Request *request) {
      MPI_Irecv(data, count, MPI_BYTE, message.partner, EXCHANGE_TAG, world_, request);
    });
  for (const auto &message : send)
    in_pieces(message, [&](char *data, int count, MPI_Request *request) {
      MPI_Isend(data, count, MPI_BYTE, message.partner, EXCHANGE_TAG, world_, request);
    });
  MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
}

int LammpsCommunicator::pack_forward(int n, const int *list, double *buffer) const
{
  for (int k = 0; k < n; ++k, buffer += columns_)
    if (const double *values = row(list[k]))
      std::copy_n(values, columns_, buffer);
    else
      std::fill_n(buffer, columns_, 0.0);
  return n * columns_;
}

void LammpsCommunicator::unpack_forward(int n, int first, const double *buffer)
{
  for (int k = 0; k < n; ++k, buffer += columns_)
    if (double *values = row(first + k)) std::copy_n(buffer, columns_, values);
}

int LammpsCommunicator::pack_reverse(int n, int first, double *buffer) const
{
  for (int k = 0; k < n; ++k, buffer += columns_)
    if (const double *values = row(first + k))
      std::copy_n(values, columns_, buffer);
    else
      std::fill_n(buffer, columns_, 0.0);
  return n * columns_;
}

void LammpsCommunicator::unpack_reverse(int n, const int *list, const double *buffer)
{
  for (int k = 0; k < n; ++k, buffer += columns_)
    if (double *values = row(list[k]))
      for (int c = 0; c < columns_; ++c) values[c] += buffer[c];
}

}    // namespace fixedpoint
