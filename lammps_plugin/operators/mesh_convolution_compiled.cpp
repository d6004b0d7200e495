#include "operators/mesh_convolution_compiled.h"

#include "kernels/mesh_convolution_kernels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <vector>

namespace fixedpoint {

namespace {

using at::Tensor;

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
  explicit Filtering(const MeshSizes &sizes) : kernels_(filter_kernels<Real>())
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

template <typename F> Tensor in_precision(const Tensor &like, const MeshSizes &sizes, F &&f)
{
  return like.scalar_type() == at::kFloat ? f(Filtering<float>(sizes)) : f(Filtering<double>(sizes));
}

}    // namespace

MeshSizes::MeshSizes(const char *name, const Tensor &grids, at::IntArrayRef kept)
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

bool has_kernels(const Tensor &grids, const MeshSizes &sizes)
{
  auto smooth = [](int64_t n) {
    for (const int r : {2, 3, 5, 7})
      while (n % r == 0) n /= r;
    return n == 1;
  };
  return grids.is_cpu() && smooth(sizes.n[0]) && smooth(sizes.n[1]) && smooth(sizes.n[2]);
}

Tensor convolve_compiled(const MeshSizes &sizes, const Tensor &grid, const Tensor &filters)
{
  const Tensor x = grid.contiguous(), f = filters.contiguous();
  return in_precision(x, sizes, [&](const auto &mesh) { return mesh.convolved(x, f); });
}

Tensor convolve_transposed_compiled(const MeshSizes &sizes, const Tensor &grids, const Tensor &filters)
{
  const Tensor x = grids.contiguous(), f = filters.contiguous();
  return in_precision(x, sizes, [&](const auto &mesh) { return mesh.convolved_transposed(x, f); });
}

Tensor correlate_compiled(const MeshSizes &sizes, const Tensor &grids, const Tensor &grid)
{
  const Tensor x = grids.contiguous(), y = grid.contiguous();
  return in_precision(x, sizes, [&](const auto &mesh) { return mesh.correlated(x, y); });
}

}    // namespace fixedpoint
