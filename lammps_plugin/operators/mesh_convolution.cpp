/// Convolutions of a whole periodic mesh, in one process, as operators of torch (docs/electrostatics.md):
///   mesh_convolve(grid, filters) -> grids: sum_k filters[c, k] Grid(k) exp(2 pi i k·m / N) for every filter,
///   with
///     Grid(k) = sum_m grid[m] exp(-2 pi i k·m / N);
///   mesh_convolve_transposed(grids, filters) -> grid: every grid with its own filter, summed;
///   mesh_correlate(grids, grid, waves) -> filters: the derivative of sum_c <grids[c], mesh_convolve(grid,
///     filters)[c]> by the filters.
/// Grids are (channels, N1, N2, N3) and real. Filters are real, too, (channels, K1, K2, K3), and given at the
/// waves that they keep: for the first two axes all N, or 2 m + 1 of them, 0 ... m, -m ... -1; for the last 0
/// ... K3 - 1, at most N3 / 2 + 1. The three are linear in each tensor and derivatives of one another, so
/// they are differentiable to any order.
#include "operators/mesh_convolution_compiled.h"
#include "operators/registration.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace fixedpoint {

namespace {

using at::IntArrayRef;
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

MeshSizes sizes_of(const char *name, const Tensor &grids, int64_t channels, const Tensor &filters)
{
  TORCH_CHECK(filters.dim() == 4 && grids.dim() == 4 && grids.size(0) == channels &&
                  grids.scalar_type() == filters.scalar_type(),
              "fixedpoint::", name, ": grids ", grids.sizes(), " of ", grids.scalar_type(), " and filters ",
              filters.sizes(), " of ", filters.scalar_type(), " do not fit together");
  return MeshSizes(name, grids, filters.sizes().slice(1));
}

constexpr int64_t AXES[] = {1, 2, 3};

/// The waves that are kept of the transform of grids, with torch alone.
Tensor transformed(const Tensor &grids, const MeshSizes &sizes)
{
  Tensor out = at::fft_rfftn(grids, at::nullopt, AXES);
  for (int a = 0; a < 2; ++a) {
    const int64_t low = sizes.low(a), high = sizes.high(a);
    if (sizes.left_out(a) > 0)
      out = at::cat({out.narrow(a + 1, 0, low), out.narrow(a + 1, sizes.n[a] - high, high)}, a + 1);
  }
  return out.narrow(3, 0, sizes.waves[2]);
}

/// Grids of the waves that are kept.
Tensor transformed_back(const Tensor &spectra, const MeshSizes &sizes)
{
  Tensor x = spectra;
  for (int a = 0; a < 2; ++a) {
    if (sizes.left_out(a) == 0) continue;
    const int64_t low = sizes.low(a), high = sizes.high(a);
    auto shape = x.sizes().vec();
    shape[a + 1] = sizes.left_out(a);
    x = at::cat({x.narrow(a + 1, 0, low), at::zeros(shape, x.options()), x.narrow(a + 1, low, high)}, a + 1);
  }
  x = at::constant_pad_nd(x, {0, sizes.n[2] / 2 + 1 - sizes.waves[2]});
  return at::fft_irfftn(x, IntArrayRef(sizes.n, 3), AXES, "forward");
}

Tensor convolve_kernel(const Tensor &grid, const Tensor &filters)
{
  const MeshSizes sizes = sizes_of("mesh_convolve", grid, 1, filters);
  if (!has_kernels(grid, sizes)) return transformed_back(transformed(grid, sizes) * filters, sizes);
  return convolve_compiled(sizes, grid, filters);
}

Tensor convolve_transposed_kernel(const Tensor &grids, const Tensor &filters)
{
  const MeshSizes sizes = sizes_of("mesh_convolve_transposed", grids, filters.size(0), filters);
  if (!has_kernels(grids, sizes))
    return transformed_back((transformed(grids, sizes) * filters).sum(0, /*keepdim=*/true), sizes);
  return convolve_transposed_compiled(sizes, grids, filters);
}

Tensor correlate_kernel(const Tensor &grids, const Tensor &grid, IntArrayRef waves)
{
  TORCH_CHECK(grids.dim() == 4 && grids.sizes().slice(1) == grid.sizes().slice(1) && grid.size(0) == 1 &&
                  grids.scalar_type() == grid.scalar_type(),
              "fixedpoint::mesh_correlate: ", grids.sizes(), " of ", grids.scalar_type(), " and ",
              grid.sizes(), " of ", grid.scalar_type(), " are not grids and a grid of one mesh");
  const MeshSizes sizes("mesh_correlate", grid, waves);
  if (has_kernels(grids, sizes)) return correlate_compiled(sizes, grids, grid);
  Tensor weight = at::full({sizes.n[2] / 2 + 1}, 2.0, grids.options());
  weight[0] = 1.0;
  if (sizes.n[2] % 2 == 0) weight[sizes.n[2] / 2] = 1.0;
  return at::real(transformed(grids, sizes).conj() * transformed(grid, sizes)) *
         weight.narrow(0, 0, sizes.waves[2]);
}

Tensor convolve(const Tensor &grid, const Tensor &filters)
{
  static auto op = find_operator<decltype(convolve_kernel)>("fixedpoint::mesh_convolve");
  return op.call(grid, filters);
}

Tensor convolve_transposed(const Tensor &grids, const Tensor &filters)
{
  static auto op =
      find_operator<decltype(convolve_transposed_kernel)>("fixedpoint::mesh_convolve_transposed");
  return op.call(grids, filters);
}

Tensor correlate(const Tensor &grids, const Tensor &grid, IntArrayRef waves)
{
  static auto op = find_operator<decltype(correlate_kernel)>("fixedpoint::mesh_correlate");
  return op.call(grids, grid, waves);
}

/// mesh_convolve, or its transpose: each is the other's derivative by the grids.
template <bool transposed>
struct ConvolveFunction : public torch::autograd::Function<ConvolveFunction<transposed>> {
  static Tensor forward(AutogradContext *ctx, const Tensor &grids, const Tensor &filters)
  {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({grids, filters});
    return transposed ? convolve_transposed(grids, filters) : convolve(grids, filters);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads)
  {
    const auto saved = ctx->get_saved_variables();
    const Tensor &grids = saved[0], &filters = saved[1], &gradient = grads[0];
    Tensor by_grids, by_filters;
    if (ctx->needs_input_grad(0))
      by_grids = transposed ? convolve(gradient, filters) : convolve_transposed(gradient, filters);
    if (ctx->needs_input_grad(1))
      by_filters =
          correlate(transposed ? grids : gradient, transposed ? gradient : grids, filters.sizes().slice(1));
    return {by_grids, by_filters};
  }
};

struct CorrelateFunction : public torch::autograd::Function<CorrelateFunction> {
  static Tensor forward(AutogradContext *ctx, const Tensor &grids, const Tensor &grid, IntArrayRef waves)
  {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({grids, grid});
    return correlate(grids, grid, waves);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads)
  {
    const auto saved = ctx->get_saved_variables();
    Tensor by_grids, by_grid;
    if (ctx->needs_input_grad(0)) by_grids = convolve(saved[1], grads[0]);
    if (ctx->needs_input_grad(1)) by_grid = convolve_transposed(saved[0], grads[0]);
    return {by_grids, by_grid, Tensor()};
  }
};

template <bool transposed> Tensor convolve_autograd(const Tensor &grids, const Tensor &filters)
{
  return ConvolveFunction<transposed>::apply(grids, filters);
}

Tensor correlate_autograd(const Tensor &grids, const Tensor &grid, IntArrayRef waves)
{
  return CorrelateFunction::apply(grids, grid, waves);
}

const Operators operators(OperatorGroup::COMPUTATION, c10::DispatchKey::CompositeExplicitAutograd, __FILE__,
                          [](OperatorList &add) {
                            add("mesh_convolve(Tensor grid, Tensor filters) -> Tensor", &convolve_kernel,
                                &convolve_autograd<false>);
                            add("mesh_convolve_transposed(Tensor grids, Tensor filters) -> Tensor",
                                &convolve_transposed_kernel, &convolve_autograd<true>);
                            add("mesh_correlate(Tensor grids, Tensor grid, int[] waves) -> Tensor",
                                &correlate_kernel, &correlate_autograd);
                          });

}    // namespace

}    // namespace fixedpoint
