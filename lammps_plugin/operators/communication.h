/// Communication operators of the model (library `fixedpoint_ops`, namespace `fixedpoint` in torch):
///   ghost_gather(x, n_total), ghost_reduce(x, n_owned), sum_ranks(x), sum_max_ranks(sums, maxima),
///   this_rank(), gather_ranks(x), redistribute(x, source, target, period).
/// Without a communicator they act on a single process.
#pragma once

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#if defined(FIXEDPOINT_BUILDING_OPS)
#define FIXEDPOINT_API __attribute__((visibility("default")))
#else
#define FIXEDPOINT_API
#endif

namespace fixedpoint {

/// What the operators need of a parallel program. Row-major blocks of doubles, `width` values per atom,
/// the owned atoms first and the ghosts after them. Every rank makes the same calls in the same order.
class FIXEDPOINT_API Communicator {
public:
  // noexcept(false): an implementation may also inherit LAMMPS' Pointers, whose destructor is declared so.
  virtual ~Communicator() noexcept(false);

  virtual int64_t n_owned() const = 0;
  virtual int64_t n_total() const = 0;
  /// Fill the ghost rows of values[n_total][width] with the rows of their owners.
  virtual void forward(double *values, int64_t width) = 0;
  /// Add the ghost rows of values[n_total][width] to the rows of their owners.
  virtual void reverse(double *values, int64_t width) = 0;
  /// Replace values[n] by the sum over ranks, the same bits on every rank.
  virtual void sum(double *values, int64_t n) = 0;
  /// Sum `sums` and take the maximum of `maxima` over ranks (a NaN anywhere gives NaN), in one collective.
  virtual void sum_max(double *sums, int64_t n_sums, double *maxima, int64_t n_maxima) = 0;

  virtual int rank() const = 0;
  virtual int n_ranks() const = 0;
  /// Fill rows[n_ranks][bytes] with every rank's row[bytes].
  virtual void gather(const void *row, void *rows, int64_t bytes) = 0;

  struct Message {
    int partner;
    void *data;
    int64_t bytes;
  };
  /// Send and receive messages between ranks, at most one of each per partner; both sides know the sizes.
  virtual void exchange(const std::vector<Message> &send, const std::vector<Message> &receive) = 0;
};

/// Gives the operators a communicator, for the calls of this thread, until the end of the scope.
class FIXEDPOINT_API CommunicatorScope {
public:
  explicit CommunicatorScope(Communicator *communicator);
  ~CommunicatorScope();
  CommunicatorScope(const CommunicatorScope &) = delete;
  CommunicatorScope &operator=(const CommunicatorScope &) = delete;

private:
  Communicator *previous_;
  std::thread::id previous_thread_;
};

/// Empty if this library registered the operators, otherwise the reason why it could not.
FIXEDPOINT_API const std::string &registration_error();

}    // namespace fixedpoint
