// Compiled once per instruction set, with FIXEDPOINT_INSTRUCTION_SET the name of the set. Nothing here may be
// an inline function of another header: the linker could take this file's version for all of the library.
#include "kernels/mesh_convolution_kernels.h"
#include "kernels/real_fft.h"

namespace fixedpoint::FIXEDPOINT_INSTRUCTION_SET {

namespace {

/// The kept waves of axis 0 or 1: `low` ones from 0 on, then, `left_out` later, the others.
template <typename Real> struct Kept {
  int64_t low, high, left_out;
  Kept(const FilterMesh<Real> &mesh, int axis) :
      low(mesh.waves[axis] - mesh.waves[axis] / 2), high(mesh.waves[axis] / 2),
      left_out(mesh.size[axis] - mesh.waves[axis])
  {
  }
};

/// A column of vectors: numbers of the spectrum at a stride, from and to a series.
template <typename Real>
inline void read_column(const Real *p, int64_t n, int64_t stride, int64_t width, const Series<Real> &x)
{
  for (int64_t i = 0; i < n; ++i) {
    x.re[i] = load(p + i * stride);
    x.im[i] = load(p + i * stride + width);
  }
}

template <typename Real>
inline void write_column(const Series<Real> &x, int64_t n, int64_t stride, int64_t width, Real *p)
{
  for (int64_t i = 0; i < n; ++i) {
    store(p + i * stride, x.re[i]);
    store(p + i * stride + width, x.im[i]);
  }
}

template <typename Real>
void planes(const FilterMesh<Real> &mesh, const Real *grid, int64_t first, int64_t last, Real *spectrum,
            Real *scratch)
{
  const Scratch<Real> s(mesh, scratch);
  const Kept<Real> kept(mesh, 1);
  const int64_t stride = 2 * mesh.width;
  for (int64_t i = first; i < last; ++i) {
    rows_to_waves(mesh, grid + i * mesh.size[1] * mesh.size[2], s.plane, s);
    for (int64_t k = 0; k < mesh.width; k += lanes<Real>) {
      read_column(s.plane + k, mesh.size[1], stride, mesh.width, s.x[0]);
      const Series<Real> f = transform(mesh.along[1], s.x[0], s.x[1]);
      Real *to = spectrum + i * mesh.plane + k;
      const int64_t high = kept.low + kept.left_out;
      write_column(f, kept.low, stride, mesh.width, to);
      write_column(Series<Real>{f.re + high, f.im + high}, kept.high, stride, mesh.width,
                   to + kept.low * stride);
    }
  }
}

template <typename Real>
void planes_back(const FilterMesh<Real> &mesh, const Real *spectrum, int64_t first, int64_t last, Real *grid,
                 Real *scratch)
{
  const Scratch<Real> s(mesh, scratch);
  const Kept<Real> kept(mesh, 1);
  const int64_t stride = 2 * mesh.width;
  for (int64_t i = first; i < last; ++i) {
    for (int64_t k = 0; k < mesh.width; k += lanes<Real>) {
      const Real *from = spectrum + i * mesh.plane + k;
      const Series<Real> x = s.x[0];
      const int64_t high = kept.low + kept.left_out;
      read_column(from, kept.low, stride, mesh.width, x);
      std::memset(x.re + kept.low, 0, kept.left_out * sizeof(*x.re));
      std::memset(x.im + kept.low, 0, kept.left_out * sizeof(*x.im));
      read_column(from + kept.low * stride, kept.high, stride, mesh.width,
                  Series<Real>{x.re + high, x.im + high});
      const auto back = transform(mesh.along[1], exchanged(x), exchanged(s.x[1]));
      write_column(exchanged(back), mesh.size[1], stride, mesh.width, s.plane + k);
    }
    waves_to_rows(mesh, s.plane, grid + i * mesh.size[1] * mesh.size[2], s);
  }
}

/// The filters of one row of waves.
template <typename Real> struct FilterRow {
  const FilterMesh<Real> &mesh;
  const Kept<Real> kept;    // along axis 0
  const int64_t slab;       // stride of axis 0
  const int64_t size;       // numbers in a filter
  const int64_t at;         // of the row

  FilterRow(const FilterMesh<Real> &m, int64_t row) :
      mesh(m), kept(m, 0), slab(m.waves[1] * m.waves[2]), size(m.waves[0] * slab), at(row * m.waves[2])
  {
  }
  /// y = filter x, or y += filter x, for the waves k ... k + lanes - 1; nothing is kept of the others along
  /// axis 0.
  void multiply(const Real *filter, int64_t k, const Series<Real> &x, bool add, const Series<Real> &y) const
  {
    const int64_t left = mesh.waves[2] - k;
    auto run = [&](int64_t first, int64_t last, int64_t shift) {
      for (int64_t i = first; i < last; ++i) {
        const Real *p = filter + (i - shift) * slab + at + k;
        vector<Real> w{};
        if (left >= lanes<Real>)
          w = load(p);
        else if (left > 0)
          std::memcpy(&w, p, left * sizeof(Real));
        y.re[i] = add ? y.re[i] + w * x.re[i] : w * x.re[i];
        y.im[i] = add ? y.im[i] + w * x.im[i] : w * x.im[i];
      }
    };
    run(0, kept.low, 0);
    std::memset(y.re + kept.low, 0, kept.left_out * sizeof(*y.re));
    std::memset(y.im + kept.low, 0, kept.left_out * sizeof(*y.im));
    run(kept.low + kept.left_out, mesh.size[0], kept.left_out);
  }
};

/// The waves of a column of a spectrum along axis 0, made in x and y.
template <typename Real>
inline Series<Real> column_to_waves(const FilterMesh<Real> &mesh, const Real *column, const Series<Real> &x,
                                    const Series<Real> &y)
{
  read_column(column, mesh.size[0], mesh.plane, mesh.width, x);
  return transform(mesh.along[0], x, y);
}

/// A column of waves x, transformed back; y is overwritten.
template <typename Real>
inline void waves_to_column(const FilterMesh<Real> &mesh, const Series<Real> &x, const Series<Real> &y,
                            Real *column)
{
  const Series<Real> back = exchanged(transform(mesh.along[0], exchanged(x), exchanged(y)));
  write_column(back, mesh.size[0], mesh.plane, mesh.width, column);
}

/// f(scratch, filters of the row, first wave k, place in a spectrum) for all columns of rows first ... last
/// - 1.
template <typename Real, typename F>
inline void for_columns(const FilterMesh<Real> &mesh, int64_t first, int64_t last, Real *scratch, F &&f)
{
  const Scratch<Real> s(mesh, scratch);
  for (int64_t row = first; row < last; ++row) {
    const FilterRow<Real> filter(mesh, row);
    for (int64_t k = 0; k < mesh.width; k += lanes<Real>) f(s, filter, k, row * 2 * mesh.width + k);
  }
}

template <typename Real>
void rows(const FilterMesh<Real> &mesh, const Real *source, const Real *filters, int64_t channels,
          int64_t first, int64_t last, Real *spectra, Real *scratch)
{
  for_columns(mesh, first, last, scratch, [&](const auto &s, const auto &filter, int64_t k, int64_t at) {
    const Series<Real> f = column_to_waves(mesh, source + at, s.x[0], s.x[1]);
    for (int64_t channel = 0; channel < channels; ++channel) {
      filter.multiply(filters + channel * filter.size, k, f, false, s.x[2]);
      waves_to_column(mesh, s.x[2], s.x[3], spectra + channel * mesh.spectrum + at);
    }
  });
}

template <typename Real>
void rows_transposed(const FilterMesh<Real> &mesh, const Real *spectra, const Real *filters, int64_t channels,
                     int64_t first, int64_t last, Real *target, Real *scratch)
{
  for_columns(mesh, first, last, scratch, [&](const auto &s, const auto &filter, int64_t k, int64_t at) {
    for (int64_t channel = 0; channel < channels; ++channel) {
      const Series<Real> f = column_to_waves(mesh, spectra + channel * mesh.spectrum + at, s.x[0], s.x[1]);
      filter.multiply(filters + channel * filter.size, k, f, channel > 0, s.x[2]);
    }
    waves_to_column(mesh, s.x[2], s.x[3], target + at);
  });
}

template <typename Real>
void rows_correlated(const FilterMesh<Real> &mesh, const Real *spectra, const Real *source, int64_t channels,
                     int64_t first, int64_t last, Real *filters, Real *scratch)
{
  for_columns(mesh, first, last, scratch, [&](const auto &s, const auto &filter, int64_t k, int64_t at) {
    const Series<Real> f = column_to_waves(mesh, source + at, s.x[0], s.x[1]);
    for (int64_t channel = 0; channel < channels; ++channel) {
      const Series<Real> g = column_to_waves(mesh, spectra + channel * mesh.spectrum + at, s.x[2], s.x[3]);
      for (int64_t wave = 0; wave < mesh.waves[0]; ++wave) {
        const int64_t i = wave < filter.kept.low ? wave : wave + filter.kept.left_out;
        const vector<Real> product = f.re[i] * g.re[i] + f.im[i] * g.im[i];
        Real *out = filters + channel * filter.size + wave * filter.slab + filter.at + k;
        for (int64_t l = 0; l < lanes<Real> && k + l < mesh.waves[2]; ++l) {
          const bool own_conjugate = k + l == 0 || 2 * (k + l) == mesh.size[2];
          out[l] = own_conjugate ? product[l] : 2 * product[l];
        }
      }
    }
  });
}

template <typename Real> constexpr FilterKernels<Real> table()
{
  return {lanes<Real>, &Scratch<Real>::size,   &planes<Real>,         &planes_back<Real>,
          &rows<Real>, &rows_transposed<Real>, &rows_correlated<Real>};
}

}    // namespace

extern const FilterKernels<float> filter_in_float;
extern const FilterKernels<double> filter_in_double;
const FilterKernels<float> filter_in_float = table<float>();
const FilterKernels<double> filter_in_double = table<double>();

}    // namespace fixedpoint::FIXEDPOINT_INSTRUCTION_SET
