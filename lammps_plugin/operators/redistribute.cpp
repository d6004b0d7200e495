#include "operators/redistribute.h"

#include <algorithm>
#include <array>
#include <vector>

namespace fixedpoint {

namespace {

using at::Tensor;

/// Points [lo, hi) of the three axes, in unwrapped indices.
struct Box {
  std::array<int64_t, 3> lo, hi;

  int64_t extent(int axis) const { return hi[axis] - lo[axis]; }
  bool empty() const { return extent(0) == 0 || extent(1) == 0 || extent(2) == 0; }
};

/// A part of a source box that a target box holds, too, up to multiples of the period.
struct Overlap {
  std::array<int64_t, 3> size, in_source, in_target;    // points; offsets from the boxes' lo

  int64_t points() const { return size[0] * size[1] * size[2]; }
};

std::vector<Box> read_boxes(const char *name, const Tensor &table, int64_t ranks, at::IntArrayRef period)
{
  TORCH_CHECK(table.scalar_type() == at::kLong && table.dim() == 2 && table.size(0) == ranks &&
                  table.size(1) == 6,
              "fixedpoint::redistribute: `", name, "` has the shape ", table.sizes(), " and the type ",
              table.scalar_type(), ", expected [", ranks, ", 6] (one box per rank) and int64");
  const Tensor host = table.to(at::kCPU).contiguous();
  const auto *row = host.const_data_ptr<int64_t>();
  std::vector<Box> boxes(ranks);
  for (int64_t p = 0; p < ranks; ++p, row += 6)
    for (int axis = 0; axis < 3; ++axis) {
      auto &box = boxes[p];
      box.lo[axis] = row[2 * axis];
      box.hi[axis] = row[2 * axis + 1];
      TORCH_CHECK(box.extent(axis) >= 0 && box.extent(axis) <= period[axis], "fixedpoint::redistribute: `",
                  name, "` of rank ", p, " is [", box.lo[axis], ", ", box.hi[axis], ") along axis ", axis,
                  ", expected an extent from 0 to the period ", period[axis]);
    }
  return boxes;
}

int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

/// All overlaps of two boxes, in an order that depends on the boxes only: both partners see the same.
std::vector<Overlap> overlaps(const Box &source, const Box &target, at::IntArrayRef period)
{
  std::vector<Overlap> out;
  if (source.empty() || target.empty()) return out;
  out.emplace_back();
  for (int axis = 0; axis < 3 && !out.empty(); ++axis) {
    const auto n = period[axis];
    const auto first = floor_divide(target.lo[axis] - source.hi[axis], n) + 1;
    const auto last = floor_divide(target.hi[axis] - 1 - source.lo[axis], n);
    std::vector<Overlap> next;
    for (auto image = first; image <= last; ++image) {
      const auto shifted = source.lo[axis] + image * n;
      const auto lo = std::max(target.lo[axis], shifted);
      const auto hi = std::min(target.hi[axis], source.hi[axis] + image * n);
      for (auto part : out) {
        part.size[axis] = hi - lo;
        part.in_source[axis] = lo - shifted;
        part.in_target[axis] = lo - target.lo[axis];
        next.push_back(part);
      }
    }
    out = std::move(next);
  }
  return out;
}

/// The view [m, size] of a contiguous array [m, a, b, c].
Tensor view_of(const Tensor &x, const std::array<int64_t, 3> &offset, const std::array<int64_t, 3> &size)
{
  const auto s = x.strides();
  return x.as_strided({x.size(0), size[0], size[1], size[2]}, s,
                      x.storage_offset() + offset[0] * s[1] + offset[1] * s[2] + offset[2] * s[3]);
}

/// The values of a flat buffer from `next` on as an array [m, size]; moves `next` behind them.
Tensor next_part(const Tensor &buffer, int64_t &next, int64_t m, const Overlap &part)
{
  const auto values = m * part.points();
  Tensor out = buffer.narrow(0, next, values).view({m, part.size[0], part.size[1], part.size[2]});
  next += values;
  return out;
}

/// The target box, to which parts are added. Not cleared where the first part fills it.
class Accumulator {
public:
  Accumulator(const Tensor &x, const Box &target) :
      sum_(at::empty({x.size(0), target.extent(0), target.extent(1), target.extent(2)}, x.options()))
  {
  }
  void add(const Tensor &values, const Overlap &part)
  {
    if (untouched_ && values.sizes() == sum_.sizes()) {
      sum_.copy_(values);
    } else {
      if (untouched_) sum_.zero_();
      view_of(sum_, part.in_target, part.size).add_(values);
    }
    untouched_ = false;
  }
  Tensor result()
  {
    if (untouched_) sum_.zero_();
    return sum_;
  }

private:
  Tensor sum_;
  bool untouched_ = true;
};

/// Overlaps with every rank and the messages they make; positions and lengths count values of a flat buffer.
struct Plan {
  std::vector<std::vector<Overlap>> parts;    // [P]
  std::vector<int64_t> values;                // [P], of the message; 0 for this rank
  int64_t total = 0;

  void append(std::vector<Overlap> with_rank, int64_t m, bool remote)
  {
    int64_t points = 0;
    if (remote)
      for (const auto &part : with_rank) points += part.points();
    parts.push_back(std::move(with_rank));
    values.push_back(m * points);
    total += m * points;
  }
  std::vector<Communicator::Message> messages(const Tensor &buffer) const
  {
    std::vector<Communicator::Message> out;
    auto *data = static_cast<char *>(buffer.data_ptr());
    for (std::size_t p = 0; p < values.size(); ++p) {
      const auto bytes = values[p] * static_cast<int64_t>(buffer.element_size());
      if (bytes > 0) out.push_back({static_cast<int>(p), data, bytes});
      data += bytes;
    }
    return out;
  }
};

}    // namespace

Tensor gather_rows(Communicator *communicator, const Tensor &x)
{
  TORCH_CHECK(x.dim() == 1 && (x.scalar_type() == at::kLong || x.scalar_type() == at::kDouble),
              "fixedpoint::gather_ranks got an array of shape ", x.sizes(), " and type ", x.scalar_type(),
              ", expected one axis and int64 or float64");
  if (communicator == nullptr) return x.detach().clone(at::MemoryFormat::Contiguous).unsqueeze(0);
  const Tensor mine = x.detach().to(at::kCPU).contiguous();
  Tensor all = at::empty({communicator->n_ranks(), x.size(0)}, mine.options());
  const auto bytes = static_cast<int64_t>(mine.nbytes());
  if (bytes > 0) communicator->gather(mine.const_data_ptr(), all.data_ptr(), bytes);
  return all.to(x.device());
}

Tensor sum_boxes(Communicator *communicator, const Tensor &x, const Tensor &source, const Tensor &target,
                 at::IntArrayRef period)
{
  TORCH_CHECK(period.size() == 3 && period[0] > 0 && period[1] > 0 && period[2] > 0,
              "fixedpoint::redistribute: `period` is ", period,
              ", expected three positive numbers of points");
  const int ranks = communicator ? communicator->n_ranks() : 1;
  const int me = communicator ? communicator->rank() : 0;
  const auto sources = read_boxes("source", source, ranks, period);
  const auto targets = read_boxes("target", target, ranks, period);
  const Box &box = sources[me];
  TORCH_CHECK(x.dim() == 4 && x.size(1) == box.extent(0) && x.size(2) == box.extent(1) &&
                  x.size(3) == box.extent(2) && (x.is_floating_point() || x.is_complex()),
              "fixedpoint::redistribute got an array of shape ", x.sizes(), " and type ", x.scalar_type(),
              ", expected [m, ", box.extent(0), ", ", box.extent(1), ", ", box.extent(2),
              "] (the box of rank ", me, " in `source`) and real or complex values");
  const Tensor own = x.detach().contiguous();
  const auto m = x.size(0);

  Plan send, receive;
  for (int p = 0; p < ranks; ++p) {
    send.append(overlaps(box, targets[p], period), m, p != me);
    receive.append(overlaps(sources[p], targets[me], period), m, p != me);
  }
  // Packed and unpacked where the array lives; a device's values pass through host memory in one piece.
  Tensor outgoing = at::empty({send.total}, own.options());
  int64_t next = 0;
  for (int p = 0; p < ranks; ++p)
    for (const auto &part : send.parts[p])
      if (p != me) next_part(outgoing, next, m, part).copy_(view_of(own, part.in_source, part.size));
  Tensor incoming = at::empty({receive.total}, own.options().device(at::kCPU));
  outgoing = outgoing.to(at::kCPU);
  if (communicator) communicator->exchange(send.messages(outgoing), receive.messages(incoming));
  incoming = incoming.to(own.device());

  // In the order of the ranks, whichever message came first: the same bits every time.
  Accumulator sum(own, targets[me]);
  next = 0;
  for (int p = 0; p < ranks; ++p)
    for (const auto &part : receive.parts[p])
      sum.add(p == me ? view_of(own, part.in_source, part.size) : next_part(incoming, next, m, part), part);
  return sum.result();
}

}    // namespace fixedpoint
