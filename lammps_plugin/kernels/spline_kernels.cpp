// Compiled once per instruction set, with FIXEDPOINT_INSTRUCTION_SET the name of the set. Nothing here may be
// an inline function of another header: the linker could take this file's version for all of the library.
#include "kernels/spline_kernels.h"
#include "kernels/vectors.h"

namespace fixedpoint {

namespace {

constexpr int power_below(int n, int most) { return most <= n ? most : power_below(n, most / 2); }

/// P numbers in as few vectors as hold them: full ones, then smaller ones.
template <int P, typename Real> struct Line {
  static constexpr int first = power_below(P, lanes<Real>);
  using Head = typename VectorOf<Real, first>::type;
  Head head{};
  Line<P - first, Real> rest{};

  static Line read(const Real *p) { return {load_as<Head>(p), Line<P - first, Real>::read(p + first)}; }
  void write(Real *p) const
  {
    store(p, head);
    rest.write(p + first);
  }
  /// *this += factor x
  void add(Real factor, const Line &x)
  {
    head += factor * x.head;
    rest.add(factor, x.rest);
  }
  void add(const Line &x)
  {
    head += x.head;
    rest.add(x.rest);
  }
  Real dot(const Line &x) const
  {
    const Head product = head * x.head;
    Real sum = 0;
    for (int k = 0; k < first; ++k) sum += product[k];
    return sum + rest.dot(x.rest);
  }
};

template <typename Real> struct Line<0, Real> {
  static Line read(const Real *) { return {}; }
  void write(Real *) const {}
  void add(Real, const Line &) {}
  void add(const Line &) {}
  Real dot(const Line &) const { return 0; }
};

inline int64_t floor_of(double x)
{
  const auto i = static_cast<int64_t>(x);
  return i - (static_cast<double>(i) > x ? 1 : 0);
}

/// M_P and its derivatives up to D, [D + 1][P], at u - m for the P points m = floor(u) - P/2 + 1 ... floor(u)
/// + P/2, from
///   M_k(x) = [x M_{k-1}(x) + (k - x) M_{k-1}(x - 1)] / (k - 1),   M_k' = M_{k-1}(x) - M_{k-1}(x - 1).
template <int P, int D, typename Real> inline void splines(double u, Real *out)
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
    for (int j = 0; j < P; ++j) out[d * P + j] = static_cast<Real>(x[P - 1 - j]);
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
  if (m >= 0 && m < mesh.period[axis]) return m;    // most often; a division takes long
  const int64_t r = m % mesh.period[axis];
  return r < 0 ? r + mesh.period[axis] : r;
}

inline int64_t wrapped(int64_t index, int64_t period) { return index < period ? index : index % period; }

/// The points around an atom. Where they reach over the end of the mesh along axis 2, they are two pieces:
/// the last P points of every line and the first P, with weights zero where they are not the atom's.
template <int P, int D, typename Real> struct AtomStencil {
  const Real *axis[2];         // values and derivatives along the axes 0 and 1, [derivative][P]
  int64_t row0[P], row1[P];    // offsets of the points along them
  int pieces;
  int64_t column[2];    // of each piece
  Line<P, Real> weights[2][D + 1];
  Real own[D > 1 ? 3 * (D + 1) * P : 1];

  void read(const SplineMesh &mesh, const Stencils &atoms, int64_t row)
  {
    const double *u = atoms.coordinates + 3 * static_cast<int64_t>(atoms.sequence[row]);
    const Real *along[3];
    if constexpr (D <= 1) {
      const auto *table = static_cast<const Real *>(atoms.table) + row * 6 * P;
      for (int a = 0; a < 3; ++a) along[a] = table + 2 * a * P;
    } else {
      for (int a = 0; a < 3; ++a) {
        splines<P, D, Real>(u[a], own + a * (D + 1) * P);
        along[a] = own + a * (D + 1) * P;
      }
    }
    axis[0] = along[0];
    axis[1] = along[1];
    const int64_t x = first_point<P>(mesh, 0, u[0]), y = first_point<P>(mesh, 1, u[1]);
    for (int j = 0; j < P; ++j) row0[j] = wrapped(x + j, mesh.period[0]);
    for (int j = 0; j < P; ++j) row1[j] = wrapped(y + j, mesh.period[1]) * mesh.size[2];
    column[0] = first_point<P>(mesh, 2, u[2]);
    const int64_t beyond = column[0] + P - mesh.period[2];    // points after the end
    pieces = beyond > 0 ? 2 : 1;
    if (pieces == 1) {
      for (int d = 0; d <= D; ++d) weights[0][d] = Line<P, Real>::read(along[2] + d * P);
      return;
    }
    column[0] = mesh.period[2] - P;
    column[1] = 0;
    for (int d = 0; d <= D; ++d) {
      Real shifted[2 * P] = {};
      for (int k = 0; k < P; ++k) shifted[beyond + k] = along[2][d * P + k];
      for (int64_t k = 0; k < beyond; ++k) shifted[k] = shifted[P + k];
      for (int piece = 0; piece < 2; ++piece) {
        Real part[P];
        for (int k = 0; k < P; ++k) part[k] = (k < beyond) == (piece == 1) ? shifted[k] : Real(0);
        weights[piece][d] = Line<P, Real>::read(part);
      }
    }
  }
  Real weight(int a, int derivative, int point) const { return axis[a][derivative * P + point]; }
};

/// Place of the derivative (a, b, c) in the order of total degrees.
constexpr int place(int a, int b, int c)
{
  const int d = a + b + c, rest = d - a;
  return components(d - 1) + rest * (rest + 1) / 2 + c;
}

/// A piece of one channel of one atom, `values` [components(D)], onto the planes first_plane ... last_plane.
template <int P, int D, typename Real>
inline void spread_atom(const AtomStencil<P, D, Real> &s, int piece, const Real *values, int64_t plane,
                        int64_t first_plane, int64_t last_plane, Real *grid)
{
  Line<P, Real> z[D + 1][D + 1];    // sum over the derivatives along axis 2, for derivatives (a, b)
  for (int a = 0; a <= D; ++a)
    for (int b = 0; a + b <= D; ++b)
      for (int c = 0; a + b + c <= D; ++c) z[a][b].add(values[place(a, b, c)], s.weights[piece][c]);
  for (int i = 0; i < P; ++i) {
    if (s.row0[i] < first_plane || s.row0[i] >= last_plane) continue;
    Line<P, Real> y[D + 1];
    for (int a = 0; a <= D; ++a)
      for (int b = 0; a + b <= D; ++b) y[b].add(s.weight(0, a, i), z[a][b]);
    Real *here = grid + s.row0[i] * plane + s.column[piece];
#pragma GCC unroll 10
    for (int j = 0; j < P; ++j) {
      Real *line = here + s.row1[j];
      auto x = Line<P, Real>::read(line);
      for (int b = 0; b <= D; ++b) x.add(s.weight(1, b, j), y[b]);
      x.write(line);
    }
  }
}

/// A piece of one channel of one atom: added to `values` [components(D)].
template <int P, int D, typename Real>
inline void gather_atom(const AtomStencil<P, D, Real> &s, int piece, const Real *grid, int64_t plane,
                        Real *values)
{
  Line<P, Real> z[D + 1][D + 1];    // sums over the axes 0 and 1 with the derivatives (a, b)
  for (int i = 0; i < P; ++i) {
    Line<P, Real> y[D + 1];
    const Real *here = grid + s.row0[i] * plane + s.column[piece];
#pragma GCC unroll 10
    for (int j = 0; j < P; ++j) {
      const auto x = Line<P, Real>::read(here + s.row1[j]);
      for (int b = 0; b <= D; ++b) y[b].add(s.weight(1, b, j), x);
    }
    for (int a = 0; a <= D; ++a)
      for (int b = 0; a + b <= D; ++b) z[a][b].add(s.weight(0, a, i), y[b]);
  }
  for (int a = 0; a <= D; ++a)
    for (int b = 0; a + b <= D; ++b)
      for (int c = 0; a + b + c <= D; ++c) values[place(a, b, c)] += s.weights[piece][c].dot(z[a][b]);
}

/// f(row, channel) for all rows and channels, one channel after the other for a chunk of rows: neighbours
/// share the points of one channel in the smallest cache, and what belongs to an atom stays in the next.
template <typename F> inline void for_chunks(int64_t begin, int64_t end, int64_t channels, F &&f)
{
  constexpr int64_t chunk = 64;
  for (int64_t first = begin; first < end; first += chunk)
    for (int64_t channel = 0; channel < channels; ++channel)
      for (int64_t row = first; row < first + chunk && row < end; ++row) f(row, channel);
}

/// Asks for the numbers of the atom that is worked on a few rows later: neighbours need not lie together in
/// memory.
template <typename Real>
inline void fetch(const Stencils &atoms, int64_t row, const Real *values, int64_t numbers)
{
  constexpr int64_t ahead = 8;
  if (row + ahead >= atoms.count) return;
  const int64_t atom = atoms.sequence[row + ahead];
  __builtin_prefetch(atoms.coordinates + 3 * atom);
  __builtin_prefetch(values + atom * numbers);
}

template <int P, int D, typename Real>
void spread_all(const SplineMesh &mesh, const Stencils &atoms, const Real *values, int64_t channels,
                int64_t first_plane, int64_t last_plane, Real *grid)
{
  constexpr int J = components(D);
  const int64_t plane = mesh.size[1] * mesh.size[2], volume = mesh.size[0] * plane;
  const bool all = first_plane <= 0 && last_plane >= mesh.size[0];
  AtomStencil<P, D, Real> s{};
  for_chunks(0, atoms.count, channels, [&](int64_t row, int64_t channel) {
    const int64_t atom = atoms.sequence[row];
    if (!all) {
      const int64_t x = first_point<P>(mesh, 0, atoms.coordinates[3 * atom]);
      bool touched = false;
      for (int j = 0; j < P; ++j) {
        const int64_t i = wrapped(x + j, mesh.period[0]);
        touched = touched || (i >= first_plane && i < last_plane);
      }
      if (!touched) return;
    }
    fetch(atoms, row, values, channels * J);
    s.read(mesh, atoms, row);
    const Real *v = values + (atom * channels + channel) * J;
    for (int piece = 0; piece < s.pieces; ++piece)
      spread_atom(s, piece, v, plane, first_plane, last_plane, grid + channel * volume);
  });
}

template <int P, int D, typename Real>
void gather_all(const SplineMesh &mesh, const Stencils &atoms, const Real *grid, int64_t channels,
                int64_t begin, int64_t end, Real *values)
{
  constexpr int J = components(D);
  const int64_t plane = mesh.size[1] * mesh.size[2], volume = mesh.size[0] * plane;
  AtomStencil<P, D, Real> s{};
  for_chunks(begin, end, channels, [&](int64_t row, int64_t channel) {
    const int64_t atom = atoms.sequence[row];
    fetch(atoms, row, values, channels * J);
    s.read(mesh, atoms, row);
    Real *out = values + (atom * channels + channel) * J;
    for (int k = 0; k < J; ++k) out[k] = 0;
    for (int piece = 0; piece < s.pieces; ++piece) gather_atom(s, piece, grid + channel * volume, plane, out);
  });
}

template <int P, typename Real>
void tabulate_all(const Stencils &atoms, int64_t begin, int64_t end, Real *table)
{
  for (int64_t row = begin; row < end; ++row)
    for (int a = 0; a < 3; ++a)
      splines<P, 1, Real>(atoms.coordinates[3 * static_cast<int64_t>(atoms.sequence[row]) + a],
                          table + (row * 3 + a) * 2 * P);
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

namespace FIXEDPOINT_INSTRUCTION_SET {

extern const SplineKernels<double> spline_in_double;
extern const SplineKernels<float> spline_in_float;
const SplineKernels<double> spline_in_double{&tabulate<double>, &spread<double>, &gather<double>};
const SplineKernels<float> spline_in_float{&tabulate<float>, &spread<float>, &gather<float>};

}    // namespace FIXEDPOINT_INSTRUCTION_SET

}    // namespace fixedpoint
