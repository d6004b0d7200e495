#include "operators/communication.h"
#include "operators/redistribute.h"
#include "operators/registration.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <tuple>

namespace fixedpoint {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Communicator *current = nullptr;
std::thread::id current_thread;

/// The communicator of the running call, or nullptr in a single process.
Communicator *communicator(const char *name)
{
  TORCH_CHECK(current == nullptr || std::this_thread::get_id() == current_thread, "fixedpoint::", name,
              " was called from a thread other than the one that computes forces; communication is possible "
              "only on that thread");
  return current;
}

/// A contiguous copy of x in double precision in host memory.
Tensor to_host(const Tensor &x)
{
  return x.detach().to(at::TensorOptions().dtype(at::kDouble).device(at::kCPU), /*non_blocking=*/false,
                       /*copy=*/true, at::MemoryFormat::Contiguous);
}

Tensor like(const Tensor &host, const Tensor &x) { return host.to(x.options()); }

int64_t row_width(const Tensor &x)
{
  int64_t width = 1;
  for (int64_t d = 1; d < x.dim(); ++d) width *= x.size(d);
  return width;
}

void check_rows(const char *name, const Tensor &x, int64_t expected, int64_t other, int64_t expected_other)
{
  TORCH_CHECK(x.dim() >= 1 && x.size(0) == expected && other == expected_other, "fixedpoint::", name,
              " got an array of ", x.dim() ? x.size(0) : 0, " rows and the count ", other, ", expected ",
              expected, " and ", expected_other, " (owned and owned + ghost atoms of this process)");
}

Tensor gather_kernel(const Tensor &x, int64_t n_total)
{
  auto *comm = communicator("ghost_gather");
  if (comm == nullptr) {
    check_rows("ghost_gather", x, n_total, n_total, n_total);
    return x.clone(at::MemoryFormat::Contiguous);
  }
  check_rows("ghost_gather", x, comm->n_owned(), n_total, comm->n_total());
  auto sizes = x.sizes().vec();
  sizes[0] = n_total;
  Tensor out = at::empty(sizes, at::TensorOptions().dtype(at::kDouble));
  out.narrow(0, 0, x.size(0)).copy_(x.detach());
  const auto width = row_width(x);
  if (width > 0) comm->forward(out.data_ptr<double>(), width);
  return like(out, x);
}

Tensor reduce_kernel(const Tensor &x, int64_t n_owned)
{
  auto *comm = communicator("ghost_reduce");
  if (comm == nullptr) {
    check_rows("ghost_reduce", x, n_owned, n_owned, n_owned);
    return x.clone(at::MemoryFormat::Contiguous);
  }
  check_rows("ghost_reduce", x, comm->n_total(), n_owned, comm->n_owned());
  Tensor work = to_host(x);
  const auto width = row_width(x);
  if (width > 0) comm->reverse(work.data_ptr<double>(), width);
  return work.narrow(0, 0, n_owned).to(x.options(), /*non_blocking=*/false, /*copy=*/true);
}

Tensor sum_kernel(const Tensor &x)
{
  auto *comm = communicator("sum_ranks");
  if (comm == nullptr) return x.clone(at::MemoryFormat::Contiguous);
  Tensor work = to_host(x);
  if (work.numel() > 0) comm->sum(work.data_ptr<double>(), work.numel());
  return like(work, x);
}

std::tuple<Tensor, Tensor> sum_max_kernel(const Tensor &sums, const Tensor &maxima)
{
  auto *comm = communicator("sum_max_ranks");
  if (comm == nullptr)
    return {sums.detach().clone(at::MemoryFormat::Contiguous),
            maxima.detach().clone(at::MemoryFormat::Contiguous)};
  Tensor s = to_host(sums);
  Tensor m = to_host(maxima);
  if (s.numel() + m.numel() > 0)
    comm->sum_max(s.data_ptr<double>(), s.numel(), m.data_ptr<double>(), m.numel());
  return {like(s, sums), like(m, maxima)};
}

int64_t this_rank_kernel()
{
  auto *comm = communicator("this_rank");
  return comm ? comm->rank() : 0;
}

Tensor gather_ranks_kernel(const Tensor &x) { return gather_rows(communicator("gather_ranks"), x); }

Tensor redistribute_kernel(const Tensor &x, const Tensor &source, const Tensor &target,
                           at::IntArrayRef period)
{
  return sum_boxes(communicator("redistribute"), x, source, target, period);
}

// Called through the dispatcher: the derivatives are built from these, so that the derivatives have
// derivatives.
Tensor ghost_gather(const Tensor &x, int64_t n_total)
{
  static auto op = find_operator<decltype(gather_kernel)>("fixedpoint::ghost_gather");
  return op.call(x, n_total);
}

Tensor ghost_reduce(const Tensor &x, int64_t n_owned)
{
  static auto op = find_operator<decltype(reduce_kernel)>("fixedpoint::ghost_reduce");
  return op.call(x, n_owned);
}

Tensor sum_ranks(const Tensor &x)
{
  static auto op = find_operator<decltype(sum_kernel)>("fixedpoint::sum_ranks");
  return op.call(x);
}

Tensor redistribute(const Tensor &x, const Tensor &source, const Tensor &target, at::IntArrayRef period)
{
  static auto op = find_operator<decltype(redistribute_kernel)>("fixedpoint::redistribute");
  return op.call(x, source, target, period);
}

/// ghost_gather and ghost_reduce: each is the adjoint of the other.
template <auto op, auto adjoint>
struct GhostFunction : public torch::autograd::Function<GhostFunction<op, adjoint>> {
  static Tensor forward(AutogradContext *ctx, const Tensor &x, int64_t rows)
  {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->saved_data["rows"] = x.size(0);
    return op(x, rows);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads)
  {
    return {adjoint(grads[0], ctx->saved_data["rows"].toInt()), Tensor()};
  }
};

struct SumFunction : public torch::autograd::Function<SumFunction> {
  static Tensor forward(AutogradContext *, const Tensor &x)
  {
    at::AutoDispatchBelowADInplaceOrView below;
    return sum_ranks(x);
  }
  static variable_list backward(AutogradContext *, variable_list grads) { return {sum_ranks(grads[0])}; }
};

/// Its adjoint is the same operator with source and target exchanged.
struct RedistributeFunction : public torch::autograd::Function<RedistributeFunction> {
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &source, const Tensor &target,
                        at::IntArrayRef period)
  {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->saved_data["source"] = source;
    ctx->saved_data["target"] = target;
    ctx->saved_data["period"] = period.vec();
    return redistribute(x, source, target, period);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads)
  {
    const auto period = ctx->saved_data["period"].toIntVector();
    return {redistribute(grads[0], ctx->saved_data["target"].toTensor(), ctx->saved_data["source"].toTensor(),
                         period),
            Tensor(), Tensor(), Tensor()};
  }
};

Tensor gather_autograd(const Tensor &x, int64_t n_total)
{
  return GhostFunction<&ghost_gather, &ghost_reduce>::apply(x, n_total);
}
Tensor reduce_autograd(const Tensor &x, int64_t n_owned)
{
  return GhostFunction<&ghost_reduce, &ghost_gather>::apply(x, n_owned);
}
Tensor sum_autograd(const Tensor &x) { return SumFunction::apply(x); }
std::tuple<Tensor, Tensor> sum_max_autograd(const Tensor &sums, const Tensor &maxima)
{
  at::AutoDispatchBelowADInplaceOrView below;
  static auto op = find_operator<decltype(sum_max_kernel)>("fixedpoint::sum_max_ranks");
  return op.call(sums, maxima);
}

Tensor gather_ranks_autograd(const Tensor &x)
{
  at::AutoDispatchBelowADInplaceOrView below;
  static auto op = find_operator<decltype(gather_ranks_kernel)>("fixedpoint::gather_ranks");
  return op.call(x);
}
Tensor redistribute_autograd(const Tensor &x, const Tensor &source, const Tensor &target,
                             at::IntArrayRef period)
{
  return RedistributeFunction::apply(x, source, target, period);
}

const Operators
    operators(OperatorGroup::COMMUNICATION, c10::DispatchKey::CompositeExplicitAutograd, __FILE__,
              [](OperatorList &add) {
                add("ghost_gather(Tensor x, int n_total) -> Tensor", &gather_kernel, &gather_autograd);
                add("ghost_reduce(Tensor x, int n_owned) -> Tensor", &reduce_kernel, &reduce_autograd);
                add("sum_ranks(Tensor x) -> Tensor", &sum_kernel, &sum_autograd);
                add("sum_max_ranks(Tensor sums, Tensor maxima) -> (Tensor, Tensor)", &sum_max_kernel,
                    &sum_max_autograd);
                add("this_rank() -> int", &this_rank_kernel);
                add("gather_ranks(Tensor x) -> Tensor", &gather_ranks_kernel, &gather_ranks_autograd);
                add("redistribute(Tensor x, Tensor source, Tensor target, int[] period) -> Tensor",
                    &redistribute_kernel, &redistribute_autograd);
              });

}    // namespace

Communicator::~Communicator() noexcept(false) = default;

CommunicatorScope::CommunicatorScope(Communicator *communicator) :
    previous_(current), previous_thread_(current_thread)
{
  current = communicator;
  current_thread = std::this_thread::get_id();
}

CommunicatorScope::~CommunicatorScope()
{
  current = previous_;
  current_thread = previous_thread_;
}

}    // namespace fixedpoint
