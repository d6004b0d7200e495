/// Convolutions of a whole periodic mesh, in one process, as operators of torch (docs/electrostatics.md):
///   mesh_convolve(grid, filters, most) -> grids: sum_k filters[c, k] Grid(k) exp(2 pi i k·m / N) for every
///   filter,
///     with Grid(k) = sum_m grid[m] exp(-2 pi i k·m / N);
///   mesh_convolve_transposed(grids, filters, most) -> grid: every grid with its own filter, summed;
///   mesh_correlate(grids, grid, most) -> filters: the derivative of sum_c <grids[c], mesh_convolve(grid,
///     filters)[c]> by the filters.
/// Grids are (channels, N1, N2, N3), filters (channels, N1, N2, N3 / 2 + 1), both real. `most` are the
/// largest wave numbers along the axes; filters of waves beyond any of them count as zero, whatever they
/// hold. The three are linear in their tensors and derivatives of one another, so they are differentiable to
/// any order.
#include "filter_kernels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

namespace fixedpoint {

namespace {

using at::IntArrayRef;
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The mesh of `grids` (`channels` of them) that has to fit filters, or other grids, of size `other`.
struct Sizes {
  int64_t n[3];

  Sizes(const char *name, const Tensor &grids, int64_t channels, const Tensor &other, bool of_waves,
        IntArrayRef most) : n{grids.size(1), grids.size(2), grids.size(3)}
  {
    TORCH_CHECK(grids.size(0) == channels && other.size(1) == n[0] && other.size(2) == n[1] &&
                    other.size(3) == (of_waves ? n[2] / 2 + 1 : n[2]) &&
                    grids.scalar_type() == other.scalar_type(),
                "fixedpoint::", name, ": ", grids.sizes(), " of ", grids.scalar_type(), " and ",
                other.sizes(), " of ", other.scalar_type(), " do not fit together");
    TORCH_CHECK(most.size() == 3 && most[0] >= 0 && most[1] >= 0 && most[2] >= 0, "fixedpoint::", name,
                ": expected the largest wave numbers along three axes, got ", most);
    TORCH_CHECK(n[0] > 0 && n[1] > 0 && n[2] > 0, "fixedpoint::", name, ": a mesh without points");
    TORCH_CHECK(grids.scalar_type() == at::kDouble || grids.scalar_type() == at::kFloat, "fixedpoint::", name,
                ": expected real numbers, got ", grids.scalar_type());
  }
};

/// points of a mesh that are not worth several threads
constexpr int64_t SMALL = 32768;

/// The passes of a transform of a length without prime factors above 7, with their twiddles.
template <typename Real> void plan(int64_t n, Transform<Real> &out, std::vector<Real> &twiddles)
{
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
}

/// The compiled transforms of a mesh, on all threads of torch.
template <typename Real> class Filtering {
public:
  Filtering(const Sizes &sizes, IntArrayRef most) : kernels_(filter_kernels<Real>())
  {
    for (int a = 0; a < 3; ++a) {
      mesh_.size[a] = sizes.n[a];
      mesh_.most[a] = std::min(most[a], sizes.n[a] / 2);
      plan(sizes.n[a], mesh_.along[a], twiddles_[a]);
    }
    // Odd numbers of cache lines in a row, and in a plane: columns do not fall on the same places of a cache.
    constexpr int64_t line = 64 / sizeof(Real);
    mesh_.width = (mesh_.most[2] + kernels_.lanes) / kernels_.lanes * kernels_.lanes;
    mesh_.rows = std::min(mesh_.size[1], 2 * mesh_.most[1] + 1);
    mesh_.plane = (2 * mesh_.width * mesh_.rows + line - 1) / line * line;
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
    Tensor out = at::zeros({channels, mesh_.size[0], mesh_.size[1], mesh_.size[2] / 2 + 1}, grids.options());
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

  template <typename F> void rows(F &&f) const { for_parts(mesh_.rows, f); }

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
  std::vector<Real> twiddles_[3];
};

constexpr int64_t AXES[] = {1, 2, 3};

Tensor transformed(const Tensor &grids) { return at::fft_rfftn(grids, at::nullopt, AXES); }

Tensor transformed_back(const Tensor &spectra, const Sizes &sizes)
{
  return at::fft_irfftn(spectra, IntArrayRef(sizes.n, 3), AXES, "forward");
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

/// Values at waves, without those beyond `most`; with torch alone, as the kernels do it.
Tensor without_beyond(const Tensor &x, const Sizes &sizes, IntArrayRef most)
{
  Tensor out = x;
  for (int a = 0; a < 3; ++a) {
    const Tensor wave = at::arange(x.size(a + 1), x.options().dtype(at::kLong));
    const Tensor keep = at::minimum(wave, sizes.n[a] - wave).le(most[a]).to(x.scalar_type());
    std::vector<int64_t> shape{1, 1, 1};
    shape[a] = -1;
    out = out * keep.reshape(shape);
  }
  return out;
}

template <typename F> Tensor in_precision(const Tensor &like, const Sizes &sizes, IntArrayRef most, F &&f)
{
  return like.scalar_type() == at::kFloat ? f(Filtering<float>(sizes, most))
                                          : f(Filtering<double>(sizes, most));
}

Tensor convolve_kernel(const Tensor &grid, const Tensor &filters, IntArrayRef most)
{
  const Sizes sizes("mesh_convolve", grid, 1, filters, true, most);
  if (!compiled(grid, sizes))
    return transformed_back(transformed(grid) * without_beyond(filters, sizes, most), sizes);
  const Tensor x = grid.contiguous(), f = filters.contiguous();
  return in_precision(x, sizes, most, [&](const auto &mesh) { return mesh.convolved(x, f); });
}

Tensor convolve_transposed_kernel(const Tensor &grids, const Tensor &filters, IntArrayRef most)
{
  const Sizes sizes("mesh_convolve_transposed", grids, filters.size(0), filters, true, most);
  if (!compiled(grids, sizes)) {
    const Tensor spectra = transformed(grids) * without_beyond(filters, sizes, most);
    return transformed_back(spectra.sum(0, /*keepdim=*/true), sizes);
  }
  const Tensor x = grids.contiguous(), f = filters.contiguous();
  return in_precision(x, sizes, most, [&](const auto &mesh) { return mesh.convolved_transposed(x, f); });
}

Tensor correlate_kernel(const Tensor &grids, const Tensor &grid, IntArrayRef most)
{
  const Sizes sizes("mesh_correlate", grid, 1, grids, false, most);
  const Tensor x = grids.contiguous(), y = grid.contiguous();
  if (compiled(x, sizes))
    return in_precision(x, sizes, most, [&](const auto &mesh) { return mesh.correlated(x, y); });
  Tensor weight = at::full({sizes.n[2] / 2 + 1}, 2.0, x.options());
  weight[0] = 1.0;
  if (sizes.n[2] % 2 == 0) weight[sizes.n[2] / 2] = 1.0;
  return without_beyond(at::real(transformed(x).conj() * transformed(y)) * weight, sizes, most);
}

using Bilinear = Tensor(const Tensor &, const Tensor &, IntArrayRef);

// Called through the dispatcher, so that derivatives have derivatives.
Tensor call(const char *name, const Tensor &x, const Tensor &y, IntArrayRef most)
{
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Bilinear>().call(x, y, most);
}

Tensor convolve(const Tensor &grid, const Tensor &filters, IntArrayRef most)
{
  return call("fixedpoint::mesh_convolve", grid, filters, most);
}

Tensor convolve_transposed(const Tensor &grids, const Tensor &filters, IntArrayRef most)
{
  return call("fixedpoint::mesh_convolve_transposed", grids, filters, most);
}

Tensor correlate(const Tensor &grids, const Tensor &grid, IntArrayRef most)
{
  return call("fixedpoint::mesh_correlate", grids, grid, most);
}

/// One of the three operators f(x, y): its value, and the derivatives of <c, f> by x and by y.
struct Convolve {
  static constexpr auto value = &convolve;
  static Tensor by_x(const Tensor &, const Tensor &y, const Tensor &c, IntArrayRef most)
  {
    return convolve_transposed(c, y, most);
  }
  static Tensor by_y(const Tensor &x, const Tensor &, const Tensor &c, IntArrayRef most)
  {
    return correlate(c, x, most);
  }
};
struct ConvolveTransposed {
  static constexpr auto value = &convolve_transposed;
  static Tensor by_x(const Tensor &, const Tensor &y, const Tensor &c, IntArrayRef most)
  {
    return convolve(c, y, most);
  }
  static Tensor by_y(const Tensor &x, const Tensor &, const Tensor &c, IntArrayRef most)
  {
    return correlate(x, c, most);
  }
};
struct Correlate {
  static constexpr auto value = &correlate;
  static Tensor by_x(const Tensor &, const Tensor &y, const Tensor &c, IntArrayRef most)
  {
    return convolve(y, c, most);
  }
  static Tensor by_y(const Tensor &x, const Tensor &, const Tensor &c, IntArrayRef most)
  {
    return convolve_transposed(x, c, most);
  }
};

template <typename Form> struct BilinearFunction : public torch::autograd::Function<BilinearFunction<Form>> {
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &y, IntArrayRef most)
  {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({x, y});
    ctx->saved_data["most"] = most.vec();
    return Form::value(x, y, most);
  }
  static variable_list backward(AutogradContext *ctx, variable_list cotangents)
  {
    const auto saved = ctx->get_saved_variables();
    const auto most = ctx->saved_data["most"].toIntVector();
    Tensor by_x, by_y;
    if (ctx->needs_input_grad(0)) by_x = Form::by_x(saved[0], saved[1], cotangents[0], most);
    if (ctx->needs_input_grad(1)) by_y = Form::by_y(saved[0], saved[1], cotangents[0], most);
    return {by_x, by_y, Tensor()};
  }
};

template <typename Form> Tensor with_derivative(const Tensor &x, const Tensor &y, IntArrayRef most)
{
  return BilinearFunction<Form>::apply(x, y, most);
}

/// Like the registration in ops.cpp: nothing is thrown out of dlopen.
struct FilterRegistration {
  FilterRegistration() noexcept
  {
    try {
      using torch::Library;
      auto definition =
          std::make_unique<Library>(Library::FRAGMENT, "fixedpoint", std::nullopt, __FILE__, __LINE__);
      definition->def("mesh_convolve(Tensor grid, Tensor filters, int[] most) -> Tensor");
      definition->def("mesh_convolve_transposed(Tensor grids, Tensor filters, int[] most) -> Tensor");
      definition->def("mesh_correlate(Tensor grids, Tensor grid, int[] most) -> Tensor");
      auto kernels = std::make_unique<Library>(
          Library::IMPL, "fixedpoint", c10::DispatchKey::CompositeExplicitAutograd, __FILE__, __LINE__);
      kernels->impl("mesh_convolve", &convolve_kernel);
      kernels->impl("mesh_convolve_transposed", &convolve_transposed_kernel);
      kernels->impl("mesh_correlate", &correlate_kernel);
      auto derivatives = std::make_unique<Library>(Library::IMPL, "fixedpoint", c10::DispatchKey::Autograd,
                                                   __FILE__, __LINE__);
      derivatives->impl("mesh_convolve", &with_derivative<Convolve>);
      derivatives->impl("mesh_convolve_transposed", &with_derivative<ConvolveTransposed>);
      derivatives->impl("mesh_correlate", &with_derivative<Correlate>);
      definition.release();
      kernels.release();
      derivatives.release();
    } catch (const std::exception &) {
      // ops.cpp reports why the operators of this library could not be registered
    }
  }
};

const FilterRegistration registration;

}    // namespace

}    // namespace fixedpoint
