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
#include "kernels/mesh_convolution_kernels.h"
#include "operators/registration.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <vector>

namespace fixedpoint {

namespace {

using at::IntArrayRef;
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The mesh of some grids, and the waves that are kept of it, checked.
struct Sizes {
  int64_t n[3], waves[3];

  Sizes(const char *name, const Tensor &grids, IntArrayRef kept)
  {
    TORCH_CHECK(grids.dim() == 4 && grids.numel() > 0 &&
                    (grids.scalar_type() == at::kDouble || grids.scalar_type() == at::kFloat),
                "fixedpoint::", name, ": expected real grids of four dimensions, got ", grids.sizes(), " of ",
                grids.scalar_type());
    bool fit = kept.size() == 3;
    for (int a = 0; fit && a < 3; ++a) {
      n[a] = grids.size(a + 1);
      waves[a] = kept[a];
      fit = waves[a] > 0 &&
            (a == 2 ? waves[a] <= n[a] / 2 + 1 : waves[a] == n[a] || (waves[a] < n[a] && waves[a] % 2 == 1));
    }
    TORCH_CHECK(fit, "fixedpoint::", name, ": filters at ", kept, " waves do not fit a mesh of ",
                grids.sizes().slice(1),
                " points; expected all or an odd number along the first two axes, and at most half of the "
                "points + 1 along the last");
  }
};

Sizes sizes_of(const char *name, const Tensor &grids, int64_t channels, const Tensor &filters)
{
  TORCH_CHECK(filters.dim() == 4 && grids.dim() == 4 && grids.size(0) == channels &&
                  grids.scalar_type() == filters.scalar_type(),
              "fixedpoint::", name, ": grids ", grids.sizes(), " of ", grids.scalar_type(), " and filters ",
              filters.sizes(), " of ", filters.scalar_type(), " do not fit together");
  return Sizes(name, grids, filters.sizes().slice(1));
}

/// points of a mesh that are not worth several threads
constexpr int64_t SMALL = 32768;

/// The transform of a length without prime factors above 7, made once by every thread.
template <typename Real> const Transform<Real> &transform_of(int64_t n)
{
  struct Plan {
    Transform<Real> transform;
    std::vector<Real> twiddles;
  };
  thread_local std::map<int64_t, Plan> plans;
  const auto [place, fresh] = plans.try_emplace(n);
  auto &[out, twiddles] = place->second;
  if (!fresh) return out;
  out.length = n;
  int64_t rest = n;
  for (const int r : {4, 2, 3, 5, 7})
    while (rest % r == 0) {
      out.radix[out.passes++] = r;
      rest /= r;
    }
  int64_t m = n;
  for (int k = 0; k < out.passes; ++k) {
    const int r = out.radix[k];
    const int64_t whole = m;
    m /= r;
    for (int64_t p = 0; p < m; ++p)
      for (int j = 1; j < r; ++j) {
        const double angle = -2.0 * M_PI * static_cast<double>(p * j) / static_cast<double>(whole);
        twiddles.push_back(static_cast<Real>(std::cos(angle)));
        twiddles.push_back(static_cast<Real>(std::sin(angle)));
      }
  }
  out.twiddles = twiddles.data();
  return out;
}

/// The compiled transforms of a mesh, on all threads of torch.
template <typename Real> class Filtering {
public:
  explicit Filtering(const Sizes &sizes) : kernels_(filter_kernels<Real>())
  {
    for (int a = 0; a < 3; ++a) {
      mesh_.size[a] = sizes.n[a];
      mesh_.waves[a] = sizes.waves[a];
      mesh_.along[a] = transform_of<Real>(sizes.n[a]);
    }
    // An odd number of cache lines in a plane: columns do not fall on the same places of a cache.
    constexpr int64_t line = 64 / sizeof(Real);
    mesh_.width = (mesh_.waves[2] + kernels_.lanes - 1) / kernels_.lanes * kernels_.lanes;
    mesh_.plane = (2 * mesh_.width * mesh_.waves[1] + line - 1) / line * line;
    if (mesh_.plane / line % 2 == 0) mesh_.plane += line;
    mesh_.spectrum = mesh_.plane * mesh_.size[0];
  }

  Tensor convolved(const Tensor &grid, const Tensor &filters) const
  {
    const int64_t channels = filters.size(0);
    Real *spectra = workspace(channels * mesh_.spectrum);
    transform(grid, spectra);
    rows([&](int64_t first, int64_t last, Real *scratch) {
      kernels_.rows(mesh_, spectra, filters.const_data_ptr<Real>(), channels, first, last, spectra, scratch);
    });
    return transformed_back(spectra, channels, grid);
  }

  Tensor convolved_transposed(const Tensor &grids, const Tensor &filters) const
  {
    Real *spectra = workspace(grids.size(0) * mesh_.spectrum);
    transform(grids, spectra);
    rows([&](int64_t first, int64_t last, Real *scratch) {
      kernels_.rows_transposed(mesh_, spectra, filters.const_data_ptr<Real>(), grids.size(0), first, last,
                               spectra, scratch);
    });
    return transformed_back(spectra, 1, grids);
  }

  Tensor correlated(const Tensor &grids, const Tensor &grid) const
  {
    const int64_t channels = grids.size(0);
    Real *spectra = workspace((channels + 1) * mesh_.spectrum), *source = spectra + channels * mesh_.spectrum;
    transform(grids, spectra);
    transform(grid, source);
    Tensor out = at::empty({channels, mesh_.waves[0], mesh_.waves[1], mesh_.waves[2]}, grids.options());
    auto *to = out.mutable_data_ptr<Real>();
    rows([&](int64_t first, int64_t last, Real *scratch) {
      kernels_.rows_correlated(mesh_, spectra, source, channels, first, last, to, scratch);
    });
    return out;
  }

private:
  int64_t points() const { return mesh_.size[0] * mesh_.size[1] * mesh_.size[2]; }

  /// Memory of this thread for spectra, kept for the next call: fresh pages cost as much as a transform.
  static Real *workspace(int64_t numbers)
  {
    thread_local std::unique_ptr<Real[]> memory;
    thread_local int64_t held = 0;
    if (numbers > held) {
      held = 0;
      memory.reset();
      memory.reset(new Real[numbers]);
      held = numbers;
    }
    return memory.get();
  }

  /// f(first, last, scratch) for parts of `n` items, on the threads of torch.
  template <typename F> void for_parts(int64_t n, F &&f) const
  {
    at::parallel_for(0, n, points() < SMALL ? n : 1, [&](int64_t first, int64_t last) {
      const std::unique_ptr<Real[]> scratch(new Real[kernels_.scratch_size(mesh_)]);
      f(first, last, scratch.get());
    });
  }

  template <typename F> void rows(F &&f) const { for_parts(mesh_.waves[1], f); }

  /// f(channel, first, last, scratch) for all planes of all channels.
  template <typename F> void planes(int64_t channels, F &&f) const
  {
    for_parts(channels * mesh_.size[0], [&](int64_t first, int64_t last, Real *scratch) {
      while (first < last) {
        const int64_t channel = first / mesh_.size[0], begin = first % mesh_.size[0];
        const int64_t end = std::min(mesh_.size[0], begin + last - first);
        f(channel, begin, end, scratch);
        first += end - begin;
      }
    });
  }

  void transform(const Tensor &grids, Real *spectra) const
  {
    const auto *from = grids.const_data_ptr<Real>();
    planes(grids.size(0), [&](int64_t channel, int64_t first, int64_t last, Real *scratch) {
      kernels_.planes(mesh_, from + channel * points(), first, last, spectra + channel * mesh_.spectrum,
                      scratch);
    });
  }

  Tensor transformed_back(Real *spectra, int64_t channels, const Tensor &like) const
  {
    Tensor out = at::empty({channels, mesh_.size[0], mesh_.size[1], mesh_.size[2]}, like.options());
    auto *to = out.mutable_data_ptr<Real>();
    planes(channels, [&](int64_t channel, int64_t first, int64_t last, Real *scratch) {
      kernels_.planes_back(mesh_, spectra + channel * mesh_.spectrum, first, last, to + channel * points(),
                           scratch);
    });
    return out;
  }

  const FilterKernels<Real> &kernels_;
  FilterMesh<Real> mesh_;
};

constexpr int64_t AXES[] = {1, 2, 3};

/// The waves that are kept of the transform of grids, with torch alone.
Tensor transformed(const Tensor &grids, const Sizes &sizes)
{
  Tensor out = at::fft_rfftn(grids, at::nullopt, AXES);
  for (int a = 0; a < 2; ++a) {
    const int64_t high = sizes.waves[a] / 2, low = sizes.waves[a] - high;
    if (sizes.waves[a] < sizes.n[a])
      out = at::cat({out.narrow(a + 1, 0, low), out.narrow(a + 1, sizes.n[a] - high, high)}, a + 1);
  }
  return out.narrow(3, 0, sizes.waves[2]);
}

/// Grids of the waves that are kept.
Tensor transformed_back(const Tensor &spectra, const Sizes &sizes)
{
  Tensor x = spectra;
  for (int a = 0; a < 2; ++a) {
    const int64_t high = sizes.waves[a] / 2, low = sizes.waves[a] - high;
    if (sizes.waves[a] == sizes.n[a]) continue;
    auto shape = x.sizes().vec();
    shape[a + 1] = sizes.n[a] - sizes.waves[a];
    x = at::cat({x.narrow(a + 1, 0, low), at::zeros(shape, x.options()), x.narrow(a + 1, low, high)}, a + 1);
  }
  x = at::constant_pad_nd(x, {0, sizes.n[2] / 2 + 1 - sizes.waves[2]});
  return at::fft_irfftn(x, IntArrayRef(sizes.n, 3), AXES, "forward");
}

/// Whether the kernels here do it; otherwise torch does.
bool compiled(const Tensor &grids, const Sizes &sizes)
{
  auto smooth = [](int64_t n) {
    for (const int r : {2, 3, 5, 7})
      while (n % r == 0) n /= r;
    return n == 1;
  };
  return grids.is_cpu() && smooth(sizes.n[0]) && smooth(sizes.n[1]) && smooth(sizes.n[2]);
}

template <typename F> Tensor in_precision(const Tensor &like, const Sizes &sizes, F &&f)
{
  return like.scalar_type() == at::kFloat ? f(Filtering<float>(sizes)) : f(Filtering<double>(sizes));
}

Tensor convolve_kernel(const Tensor &grid, const Tensor &filters)
{
  const Sizes sizes = sizes_of("mesh_convolve", grid, 1, filters);
  if (!compiled(grid, sizes)) return transformed_back(transformed(grid, sizes) * filters, sizes);
  const Tensor x = grid.contiguous(), f = filters.contiguous();
  return in_precision(x, sizes, [&](const auto &mesh) { return mesh.convolved(x, f); });
}

Tensor convolve_transposed_kernel(const Tensor &grids, const Tensor &filters)
{
  const Sizes sizes = sizes_of("mesh_convolve_transposed", grids, filters.size(0), filters);
  if (!compiled(grids, sizes))
    return transformed_back((transformed(grids, sizes) * filters).sum(0, /*keepdim=*/true), sizes);
  const Tensor x = grids.contiguous(), f = filters.contiguous();
  return in_precision(x, sizes, [&](const auto &mesh) { return mesh.convolved_transposed(x, f); });
}

Tensor correlate_kernel(const Tensor &grids, const Tensor &grid, IntArrayRef waves)
{
  TORCH_CHECK(grids.dim() == 4 && grids.sizes().slice(1) == grid.sizes().slice(1) && grid.size(0) == 1 &&
                  grids.scalar_type() == grid.scalar_type(),
              "fixedpoint::mesh_correlate: ", grids.sizes(), " of ", grids.scalar_type(), " and ",
              grid.sizes(), " of ", grid.scalar_type(), " are not grids and a grid of one mesh");
  const Sizes sizes("mesh_correlate", grid, waves);
  const Tensor x = grids.contiguous(), y = grid.contiguous();
  if (compiled(x, sizes))
    return in_precision(x, sizes, [&](const auto &mesh) { return mesh.correlated(x, y); });
  Tensor weight = at::full({sizes.n[2] / 2 + 1}, 2.0, x.options());
  weight[0] = 1.0;
  if (sizes.n[2] % 2 == 0) weight[sizes.n[2] / 2] = 1.0;
  return at::real(transformed(x, sizes).conj() * transformed(y, sizes)) * weight.narrow(0, 0, sizes.waves[2]);
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

const MoreOperators
    registration(c10::DispatchKey::CompositeExplicitAutograd, __FILE__,
                 [](torch::Library &definition, torch::Library &kernels, torch::Library &derivatives) {
                   definition.def("mesh_convolve(Tensor grid, Tensor filters) -> Tensor");
                   definition.def("mesh_convolve_transposed(Tensor grids, Tensor filters) -> Tensor");
                   definition.def("mesh_correlate(Tensor grids, Tensor grid, int[] waves) -> Tensor");
                   kernels.impl("mesh_convolve", &convolve_kernel);
                   kernels.impl("mesh_convolve_transposed", &convolve_transposed_kernel);
                   kernels.impl("mesh_correlate", &correlate_kernel);
                   derivatives.impl("mesh_convolve", &convolve_autograd<false>);
                   derivatives.impl("mesh_convolve_transposed", &convolve_autograd<true>);
                   derivatives.impl("mesh_correlate", &correlate_autograd);
                 });

}    // namespace

}    // namespace fixedpoint
