/// Spreading to and gathering from a periodic mesh with cardinal B-splines: plain C++, compiled once for any
/// processor and, on x86-64, once more for AVX2 and AVX-512.
#pragma once

#include <cstdint>

namespace fixedpoint {

/// A part of a periodic mesh, and the splines used on it. A point m of the mesh is in the part when
/// (m - lower) mod period < size, along every axis.
struct SplineMesh {
  int order = 0;     ///< of the splines: 4, 6, 8 or 10 points along each axis
  int degree = 0;    ///< highest total derivative, 0 ... 4
  int64_t lower[3] = {0, 0, 0}, size[3] = {0, 0, 0}, period[3] = {1, 1, 1};
};

constexpr int MAX_ORDER = 10, MAX_DEGREE = 4;

/// Number of derivatives of total degree 0 ... degree: 1, 4, 10, 20, 35.
constexpr int components(int degree) { return (degree + 1) * (degree + 2) * (degree + 3) / 6; }

/// Atoms in the order in which they are worked on, and their splines.
struct Stencils {
  int64_t count = 0;
  const double *coordinates = nullptr;    ///< [count][3], in units of the mesh spacings
  const int32_t *sequence = nullptr;      ///< [count], atom of every row of `table`
  const void *table = nullptr;            ///< [count][3][2][order] values and first derivatives
};

/// The kernels for one type of processor. Values are [atoms][channels][components(degree)], derivatives by x,
/// y, z in the order 1, x, y, z, xx, xy, xz, yy, yz, zz, ...; grids are [channels][size0][size1][size2]. Work
/// is done on the rows `begin` ... `end` of the stencils; spreading touches the planes first_plane ...
/// last_plane of axis 0 only.
template <typename Real> struct SplineKernels {
  void (*tabulate)(const SplineMesh &, const Stencils &, int64_t begin, int64_t end, Real *table);
  void (*spread)(const SplineMesh &, const Stencils &, const Real *values, int64_t channels,
                 int64_t first_plane, int64_t last_plane, Real *grid);
  void (*gather)(const SplineMesh &, const Stencils &, const Real *grid, int64_t channels, int64_t begin,
                 int64_t end, Real *values);
};

/// The fastest kernels that this processor can run.
template <typename Real> const SplineKernels<Real> &spline_kernels();

}    // namespace fixedpoint
