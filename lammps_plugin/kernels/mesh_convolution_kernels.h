/// Convolution of a periodic mesh with filters that are given at its waves, in one process: real transforms
/// along the three axes, products with the filters in between. Compiled once per instruction set
/// (dispatch.cpp).
///
/// A pass over planes of axis 0 transforms along the axes 2 and 1, one over rows of axis 1 along axis 0,
/// where the filters are applied and the way back begins while the row is in the cache. Spectra are held in
/// the kernels' own order: [size 0][size 1][real parts, imaginary parts], so that neighbouring waves of axis
/// 2 fill a vector.
#pragma once

#include <cstdint>

namespace fixedpoint {

constexpr int MOST_PASSES = 40;

/// The complex transform of one length as passes of radix 2, 3, 4, 5 or 7.
template <typename Real> struct Transform {
  int64_t length = 0;
  int passes = 0;
  int radix[MOST_PASSES] = {};
  const Real *twiddles = nullptr;    ///< of all passes, one after the other
};

/// A mesh, its transforms, and how its spectrum is held. All strides are in numbers, not bytes. Of the waves
/// of the axes 0 and 1 those up to some wave number m are kept, in the order 0 ... m, -m ... -1, and of axis
/// 2 the first ones.
template <typename Real> struct FilterMesh {
  int64_t size[3] = {0, 0, 0};
  int64_t waves[3] = {
      0, 0, 0};            ///< that are kept of each axis: all, or 2 most + 1; of axis 2 at most size / 2 + 1
  int64_t width = 0;       ///< waves of axis 2, rounded up to vectors: imaginary parts begin here in a row
  int64_t plane = 0;       ///< stride of axis 0 of a spectrum; 2 width is that of a row
  int64_t spectrum = 0;    ///< numbers in a spectrum
  Transform<Real> along[3];
};

/// Grids are [channels] whole meshes, filters [channels][size 0][size 1][size 2 / 2 + 1], spectra
/// [channels][size 0][rows][real parts, imaginary parts]. `scratch` holds `scratch_size` numbers.
template <typename Real> struct FilterKernels {
  int64_t lanes;    ///< numbers in a vector
  int64_t (*scratch_size)(const FilterMesh<Real> &);
  /// Planes first ... last - 1 of a grid, transformed along the axes 2 and 1.
  void (*planes)(const FilterMesh<Real> &, const Real *grid, int64_t first, int64_t last, Real *spectrum,
                 Real *scratch);
  /// The way back from `planes`, without a factor 1 / number of points.
  void (*planes_back)(const FilterMesh<Real> &, const Real *spectrum, int64_t first, int64_t last, Real *grid,
                      Real *scratch);
  /// Rows first ... last - 1 of a spectrum, transformed along axis 0, multiplied by every filter, and
  /// transformed back; the first of the spectra may be the source.
  void (*rows)(const FilterMesh<Real> &, const Real *source, const Real *filters, int64_t channels,
               int64_t first, int64_t last, Real *spectra, Real *scratch);
  /// The transpose: every spectrum multiplied by its filter, and summed. The result may be the first of them.
  void (*rows_transposed)(const FilterMesh<Real> &, const Real *spectra, const Real *filters,
                          int64_t channels, int64_t first, int64_t last, Real *target, Real *scratch);
  /// What a change of the filters does: weight(k) Re[conj(spectra(k)) source(k)], the weight 2 where a wave
  /// of axis 2 stands for its conjugate, too.
  void (*rows_correlated)(const FilterMesh<Real> &, const Real *spectra, const Real *source, int64_t channels,
                          int64_t first, int64_t last, Real *filters, Real *scratch);
};

/// The kernels for this processor.
template <typename Real> const FilterKernels<Real> &filter_kernels();

}    // namespace fixedpoint
