// Compiled once per instruction set, with FIXEDPOINT_MESH_KERNELS the name of the set. Nothing here may be an
// inline function of another header: the linker could take this file's version for all of the library.
#include "mesh_kernels.h"

namespace fixedpoint {

namespace {

/// Values of the splines of an atom along one axis: w[d][j] is derivative d at the point first + j.
template <int P, int D, typename Real> struct AxisWeights {
  Real w[D + 1][P];
};

inline int64_t floor_of(double x)
{
  const auto i = static_cast<int64_t>(x);
  return i - (static_cast<double>(i) > x ? 1 : 0);
}

/// M_P and its derivatives up to D at u - m for the P points m = floor(u) - P/2 + 1 ... floor(u) + P/2, from
///   M_k(x) = [x M_{k-1}(x) + (k - x) M_{k-1}(x - 1)] / (k - 1),   M_k' = M_{k-1}(x) - M_{k-1}(x - 1).
template <int P, int D, typename Real> inline void splines(double u, AxisWeights<P, D, Real> &out)
{
  const double f = u - static_cast<double>(floor_of(u));
  double v[P] = {1.0};
  auto keep = [&](int order) {
    const int d = P - order;
    if (d > D) return;
    double x[P];
    for (int t = 0; t < P; ++t) x[t] = t < order ? v[t] : 0.0;
    for (int step = 0; step < d; ++step)
      for (int t = P - 1; t > 0; --t) x[t] -= x[t - 1];
    for (int j = 0; j < P; ++j) out.w[d][j] = static_cast<Real>(x[P - 1 - j]);
  };
  keep(1);
  for (int k = 2; k <= P; ++k) {
    for (int t = k - 1; t >= 0; --t) {
      const double here = t < k - 1 ? v[t] : 0.0, before = t > 0 ? v[t - 1] : 0.0;
      v[t] = ((f + t) * here + (k - f - t) * before) / (k - 1);
    }
    keep(k);
  }
}

/// Index in the part of the mesh of the first of the P points along an axis.
template <int P> inline int64_t first_point(const SplineMesh &mesh, int axis, double u)
{
  const int64_t m = floor_of(u) - P / 2 + 1 - mesh.lower[axis];
  const int64_t r = m % mesh.period[axis];
  return r < 0 ? r + mesh.period[axis] : r;
}

inline int64_t wrapped(int64_t index, int64_t period) { return index < period ? index : index % period; }

template <int P, int D, typename Real> struct AtomStencil {
  AxisWeights<P, D, Real> axis[3];
  int64_t row0[P], row1[P], column;    // offsets along the axes 0 and 1, first point along axis 2
  bool contiguous;                     // along axis 2

  void read(const SplineMesh &mesh, const Stencils &atoms, int64_t row)
  {
    const double *u = atoms.coordinates + 3 * static_cast<int64_t>(atoms.sequence[row]);
    if constexpr (D <= 1) {
      const auto *table = static_cast<const Real *>(atoms.table) + row * 6 * P;
      for (int a = 0; a < 3; ++a)
        for (int d = 0; d <= D; ++d)
          for (int j = 0; j < P; ++j) axis[a].w[d][j] = table[(2 * a + d) * P + j];
    } else {
      for (int a = 0; a < 3; ++a) splines<P, D, Real>(u[a], axis[a]);
    }
    const int64_t x = first_point<P>(mesh, 0, u[0]), y = first_point<P>(mesh, 1, u[1]);
    for (int j = 0; j < P; ++j) row0[j] = wrapped(x + j, mesh.period[0]);
    for (int j = 0; j < P; ++j) row1[j] = wrapped(y + j, mesh.period[1]);
    column = first_point<P>(mesh, 2, u[2]);
    contiguous = column + P <= mesh.size[2];
  }
};

/// Place of the derivative (a, b, c) in the order of total degrees.
constexpr int place(int a, int b, int c)
{
  const int d = a + b + c, rest = d - a;
  return components(d - 1) + rest * (rest + 1) / 2 + c;
}

template <int P, int D, typename Real>
void spread_all(const SplineMesh &mesh, const Stencils &atoms, const Real *values, int64_t channels,
                int64_t first_plane, int64_t last_plane, Real *grid)
{
  constexpr int J = components(D);
  const int64_t line = mesh.size[2], plane = mesh.size[1] * line, volume = mesh.size[0] * plane;
  const bool all = first_plane <= 0 && last_plane >= mesh.size[0];
  AtomStencil<P, D, Real> s{};
  for (int64_t row = 0; row < atoms.count; ++row) {
    const int64_t atom = atoms.sequence[row];
    if (!all) {
      const int64_t x = first_point<P>(mesh, 0, atoms.coordinates[3 * atom]);
      bool touched = false;
      for (int j = 0; j < P; ++j) {
        const int64_t i = wrapped(x + j, mesh.period[0]);
        touched = touched || (i >= first_plane && i < last_plane);
      }
      if (!touched) continue;
    }
    s.read(mesh, atoms, row);
    for (int64_t channel = 0; channel < channels; ++channel) {
      const Real *v = values + (atom * channels + channel) * J;
      Real *out = grid + channel * volume;
      Real z[D + 1][D + 1][P];    // sum over the derivatives along axis 2, for derivatives (a, b)
      for (int a = 0; a <= D; ++a)
        for (int b = 0; a + b <= D; ++b) {
          for (int k = 0; k < P; ++k) z[a][b][k] = v[place(a, b, 0)] * s.axis[2].w[0][k];
          for (int c = 1; a + b + c <= D; ++c)
            for (int k = 0; k < P; ++k) z[a][b][k] += v[place(a, b, c)] * s.axis[2].w[c][k];
        }
      for (int i = 0; i < P; ++i) {
        if (!all && (s.row0[i] < first_plane || s.row0[i] >= last_plane)) continue;
        Real y[D + 1][P];
        for (int b = 0; b <= D; ++b) {
          for (int k = 0; k < P; ++k) y[b][k] = s.axis[0].w[0][i] * z[0][b][k];
          for (int a = 1; a + b <= D; ++a)
            for (int k = 0; k < P; ++k) y[b][k] += s.axis[0].w[a][i] * z[a][b][k];
        }
        Real *here = out + s.row0[i] * plane;
        for (int j = 0; j < P; ++j) {
          Real *g = here + s.row1[j] * line;
          Real x[P];
          for (int k = 0; k < P; ++k) x[k] = s.axis[1].w[0][j] * y[0][k];
          for (int b = 1; b <= D; ++b)
            for (int k = 0; k < P; ++k) x[k] += s.axis[1].w[b][j] * y[b][k];
          if (s.contiguous) {
            g += s.column;
            for (int k = 0; k < P; ++k) g[k] += x[k];
          } else {
            for (int k = 0; k < P; ++k) g[wrapped(s.column + k, mesh.period[2])] += x[k];
          }
        }
      }
    }
  }
}

template <int P, int D, typename Real>
void gather_all(const SplineMesh &mesh, const Stencils &atoms, const Real *grid, int64_t channels,
                int64_t begin, int64_t end, Real *values)
{
  constexpr int J = components(D);
  const int64_t line = mesh.size[2], plane = mesh.size[1] * line, volume = mesh.size[0] * plane;
  AtomStencil<P, D, Real> s{};
  for (int64_t row = begin; row < end; ++row) {
    const int64_t atom = atoms.sequence[row];
    s.read(mesh, atoms, row);
    for (int64_t channel = 0; channel < channels; ++channel) {
      const Real *in = grid + channel * volume;
      Real z[D + 1][D + 1][P] = {};    // sums over the axes 0 and 1 with the derivatives (a, b)
      for (int i = 0; i < P; ++i) {
        Real y[D + 1][P] = {};
        const Real *here = in + s.row0[i] * plane;
        for (int j = 0; j < P; ++j) {
          const Real *g = here + s.row1[j] * line;
          Real x[P];
          if (s.contiguous) {
            g += s.column;
            for (int k = 0; k < P; ++k) x[k] = g[k];
          } else {
            for (int k = 0; k < P; ++k) x[k] = g[wrapped(s.column + k, mesh.period[2])];
          }
          for (int b = 0; b <= D; ++b)
            for (int k = 0; k < P; ++k) y[b][k] += s.axis[1].w[b][j] * x[k];
        }
        for (int a = 0; a <= D; ++a)
          for (int b = 0; a + b <= D; ++b)
            for (int k = 0; k < P; ++k) z[a][b][k] += s.axis[0].w[a][i] * y[b][k];
      }
      Real *out = values + (atom * channels + channel) * J;
      for (int a = 0; a <= D; ++a)
        for (int b = 0; a + b <= D; ++b)
          for (int c = 0; a + b + c <= D; ++c) {
            Real sum = 0;
            for (int k = 0; k < P; ++k) sum += s.axis[2].w[c][k] * z[a][b][k];
            out[place(a, b, c)] = sum;
          }
    }
  }
}

template <int P, typename Real>
void tabulate_all(const Stencils &atoms, int64_t begin, int64_t end, Real *table)
{
  AxisWeights<P, 1, Real> weights;
  for (int64_t row = begin; row < end; ++row)
    for (int a = 0; a < 3; ++a) {
      splines<P, 1, Real>(atoms.coordinates[3 * static_cast<int64_t>(atoms.sequence[row]) + a], weights);
      Real *out = table + (row * 3 + a) * 2 * P;
      for (int j = 0; j < P; ++j) out[j] = weights.w[0][j];
      for (int j = 0; j < P; ++j) out[P + j] = weights.w[1][j];
    }
}

template <typename Real>
void tabulate(const SplineMesh &mesh, const Stencils &atoms, int64_t begin, int64_t end, Real *table)
{
  switch (mesh.order) {
  case 4: return tabulate_all<4>(atoms, begin, end, table);
  case 6: return tabulate_all<6>(atoms, begin, end, table);
  case 8: return tabulate_all<8>(atoms, begin, end, table);
  default: return tabulate_all<10>(atoms, begin, end, table);
  }
}

template <int P, typename Real, typename... Args> void spread_degree(const SplineMesh &mesh, Args... args)
{
  switch (mesh.degree) {
  case 0: return spread_all<P, 0, Real>(mesh, args...);
  case 1: return spread_all<P, 1, Real>(mesh, args...);
  case 2: return spread_all<P, 2, Real>(mesh, args...);
  case 3: return spread_all<P, 3, Real>(mesh, args...);
  default: return spread_all<P, 4, Real>(mesh, args...);
  }
}

template <int P, typename Real, typename... Args> void gather_degree(const SplineMesh &mesh, Args... args)
{
  switch (mesh.degree) {
  case 0: return gather_all<P, 0, Real>(mesh, args...);
  case 1: return gather_all<P, 1, Real>(mesh, args...);
  case 2: return gather_all<P, 2, Real>(mesh, args...);
  case 3: return gather_all<P, 3, Real>(mesh, args...);
  default: return gather_all<P, 4, Real>(mesh, args...);
  }
}

template <typename Real>
void spread(const SplineMesh &mesh, const Stencils &atoms, const Real *values, int64_t channels,
            int64_t first_plane, int64_t last_plane, Real *grid)
{
  switch (mesh.order) {
  case 4: return spread_degree<4, Real>(mesh, atoms, values, channels, first_plane, last_plane, grid);
  case 6: return spread_degree<6, Real>(mesh, atoms, values, channels, first_plane, last_plane, grid);
  case 8: return spread_degree<8, Real>(mesh, atoms, values, channels, first_plane, last_plane, grid);
  default: return spread_degree<10, Real>(mesh, atoms, values, channels, first_plane, last_plane, grid);
  }
}

template <typename Real>
void gather(const SplineMesh &mesh, const Stencils &atoms, const Real *grid, int64_t channels, int64_t begin,
            int64_t end, Real *values)
{
  switch (mesh.order) {
  case 4: return gather_degree<4, Real>(mesh, atoms, grid, channels, begin, end, values);
  case 6: return gather_degree<6, Real>(mesh, atoms, grid, channels, begin, end, values);
  case 8: return gather_degree<8, Real>(mesh, atoms, grid, channels, begin, end, values);
  default: return gather_degree<10, Real>(mesh, atoms, grid, channels, begin, end, values);
  }
}

}    // namespace

namespace FIXEDPOINT_MESH_KERNELS {

extern const MeshKernels<double> in_double;
extern const MeshKernels<float> in_float;
const MeshKernels<double> in_double{&tabulate<double>, &spread<double>, &gather<double>};
const MeshKernels<float> in_float{&tabulate<float>, &spread<float>, &gather<float>};

}    // namespace FIXEDPOINT_MESH_KERNELS

}    // namespace fixedpoint
