// Compiled once per instruction set, with FIXEDPOINT_INSTRUCTION_SET the name of the set. Nothing here
// may be an inline function of another header: the linker could take this file's version for all of the
// library.
#include "kernels/neighbour_convolution_kernels.h"
#include "kernels/vectors.h"

namespace fixedpoint::FIXEDPOINT_INSTRUCTION_SET {

namespace {

/// Channels c ... c + lanes - 1 of a row; beyond the last channel (`full` false) zero.
template <bool full, typename T> inline vector<T> load(const T *p, int64_t n)
{
  vector<T> v{};
  std::memcpy(&v, p, full ? sizeof(v) : n * sizeof(T));
  return v;
}

template <bool full, typename T> inline void store(T *p, const vector<T> &v, int64_t n)
{
  std::memcpy(p, &v, full ? sizeof(v) : n * sizeof(T));
}

/// Rows of numbers, `stride` apart.
template <typename T> struct Rows {
  T *data;
  int64_t stride;

  T *operator[](int64_t row) const { return data + row * stride; }
};

/// One path, one m1 and one group of channels: rows m2 of S, which stay in registers.
template <int d2, bool full, typename T>
inline void sum_rows(int64_t begin, int64_t end, const int64_t *sender, const Rows<const T> radial,
                     const Rows<const T> harmonics, const Rows<const T> features, const Rows<T> out,
                     int64_t n)
{
  vector<T> sum[d2]{};
  for (int64_t e = begin; e < end; ++e) {
    const vector<T> product = load<full>(radial[e - begin], n) * load<full>(features[sender[e]], n);
    const T *y = harmonics[e];
    for (int m2 = 0; m2 < d2; ++m2) sum[m2] += y[m2] * product;
  }
  for (int m2 = 0; m2 < d2; ++m2) store<full>(out[m2], sum[m2], n);
}

/// All blocks of one l2, for one receiver.
template <int d2, typename T>
void forward_ell(const ConvolutionShape &s, int64_t begin, int64_t end, const T *radial, const T *harmonics,
                 const T *features, T *sums, const int64_t *paths)
{
  constexpr int64_t n_lanes = lanes<T>;
  const int64_t c = s.channels, width = (s.l_in + 1) * (s.l_in + 1);
  const Rows<const T> y{harmonics, (s.max_ell + 1) * (s.max_ell + 1)};
  for (int l1 = 0; l1 <= s.l_in; ++l1) {
    const int64_t n3 = paths[l1], d1 = 2 * l1 + 1;
    for (int64_t t = 0; t < n3; ++t)
      for (int64_t m1 = 0; m1 < d1; ++m1)
        for (int64_t k = 0; k < c; k += n_lanes) {
          const Rows<const T> r{radial + t * c + k, s.n_paths * c};
          const Rows<const T> h{features + (l1 * l1 + m1) * c + k, width * c};
          const Rows<T> out{sums + (t * d1 + m1) * c + k, n3 * d1 * c};
          if (k + n_lanes <= c)
            sum_rows<d2, true>(begin, end, s.sender, r, y, h, out, n_lanes);
          else
            sum_rows<d2, false>(begin, end, s.sender, r, y, h, out, c - k);
        }
    radial += n3 * c;
    sums += d2 * n3 * d1 * c;
  }
}

/// One path and one group of channels of one edge.
template <int d2, bool full, typename T>
inline void edge_gradients(const T *y, const T *radial, const T *features, int64_t d1, int64_t channels,
                           const Rows<const T> gradient, T *radial_gradient, T *features_gradient,
                           vector<T> (&by_harmonics)[d2], int64_t n)
{
  const vector<T> r = load<full>(radial, n);
  vector<T> by_radial{};
  for (int64_t m1 = 0; m1 < d1; ++m1) {
    const vector<T> h = load<full>(features + m1 * channels, n);
    const vector<T> product = r * h;
    vector<T> contracted{};
    for (int m2 = 0; m2 < d2; ++m2) {
      const vector<T> g = load<full>(gradient[m2] + m1 * channels, n);
      contracted += y[m2] * g;
      by_harmonics[m2] += product * g;
    }
    by_radial += h * contracted;
    if (features_gradient != nullptr) {
      T *target = features_gradient + m1 * channels;
      store<full>(target, load<full>(target, n) + r * contracted, n);
    }
  }
  if (radial_gradient != nullptr) store<full>(radial_gradient, by_radial, n);
}

/// All blocks of one l2, for one edge; the features begin at the sender's.
template <int d2, typename T>
void backward_ell(const ConvolutionShape &s, const T *gradient, const T *radial, const T *y,
                  const T *features, T *radial_gradient, T *harmonics_gradient, T *features_gradient,
                  const int64_t *paths)
{
  constexpr int64_t n_lanes = lanes<T>;
  const int64_t c = s.channels;
  vector<T> by_harmonics[d2]{};
  for (int l1 = 0; l1 <= s.l_in; ++l1) {
    const int64_t n3 = paths[l1], d1 = 2 * l1 + 1;
    for (int64_t t = 0; t < n3; ++t)
      for (int64_t k = 0; k < c; k += n_lanes) {
        const T *r = radial + t * c + k;
        const T *h = features + l1 * l1 * c + k;
        const Rows<const T> g{gradient + t * d1 * c + k, n3 * d1 * c};
        T *by_radial = radial_gradient == nullptr ? nullptr : radial_gradient + t * c + k;
        T *by_features = features_gradient == nullptr ? nullptr : features_gradient + l1 * l1 * c + k;
        if (k + n_lanes <= c)
          edge_gradients<d2, true>(y, r, h, d1, c, g, by_radial, by_features, by_harmonics, n_lanes);
        else
          edge_gradients<d2, false>(y, r, h, d1, c, g, by_radial, by_features, by_harmonics, c - k);
      }
    radial += n3 * c;
    if (radial_gradient != nullptr) radial_gradient += n3 * c;
    gradient += d2 * n3 * d1 * c;
  }
  if (harmonics_gradient == nullptr) return;
  for (int m2 = 0; m2 < d2; ++m2) {
    T sum = 0;
    for (int64_t k = 0; k < n_lanes; ++k) sum += by_harmonics[m2][k];
    harmonics_gradient[m2] = sum;
  }
}

/// Paths and rows of S of the blocks of one l2.
struct Extent {
  int64_t paths = 0, rows = 0;
  Extent(const ConvolutionShape &s, int l2, const int64_t *paths_of)
  {
    for (int l1 = 0; l1 <= s.l_in; ++l1) {
      paths += paths_of[l1];
      rows += paths_of[l1] * (2 * l1 + 1) * (2 * l2 + 1);
    }
  }
};

template <typename T, int l2 = 0>
void forward_receiver(const ConvolutionShape &s, int64_t begin, int64_t end, const T *radial,
                      const T *harmonics, const T *features, T *sums)
{
  if (l2 > s.max_ell) return;
  const int64_t *paths = s.paths + l2 * (s.l_in + 1);
  forward_ell<2 * l2 + 1>(s, begin, end, radial, harmonics + l2 * l2, features, sums, paths);
  if constexpr (l2 < LARGEST_ELL) {
    const Extent extent(s, l2, paths);
    forward_receiver<T, l2 + 1>(s, begin, end, radial + extent.paths * s.channels, harmonics, features,
                                sums + extent.rows * s.channels);
  }
}

template <typename T, int l2 = 0>
void backward_edge(const ConvolutionShape &s, const T *gradient, const T *radial, const T *y,
                   const T *features, T *radial_gradient, T *harmonics_gradient, T *features_gradient)
{
  if (l2 > s.max_ell) return;
  const int64_t *paths = s.paths + l2 * (s.l_in + 1);
  T *by_harmonics = harmonics_gradient == nullptr ? nullptr : harmonics_gradient + l2 * l2;
  backward_ell<2 * l2 + 1>(s, gradient, radial, y + l2 * l2, features, radial_gradient, by_harmonics,
                           features_gradient, paths);
  if constexpr (l2 < LARGEST_ELL) {
    const Extent extent(s, l2, paths);
    backward_edge<T, l2 + 1>(
        s, gradient + extent.rows * s.channels, radial + extent.paths * s.channels, y, features,
        radial_gradient == nullptr ? nullptr : radial_gradient + extent.paths * s.channels,
        harmonics_gradient, features_gradient);
  }
}

template <typename T>
void forward(const ConvolutionShape &s, int64_t lo, int64_t hi, const T *radial, const T *harmonics,
             const T *features, T *sums)
{
  for (int64_t i = lo; i < hi; ++i)
    forward_receiver(s, s.first[i], s.first[i + 1],
                     radial + (s.first[i] - s.first[lo]) * s.n_paths * s.channels, harmonics, features,
                     sums + i * s.rows * s.channels);
}

template <typename T>
void backward(const ConvolutionShape &s, int64_t lo, int64_t hi, const T *gradient, const T *radial,
              const T *harmonics, const T *features, T *radial_gradient, T *harmonics_gradient,
              T *features_gradient)
{
  const int64_t radial_width = s.n_paths * s.channels;
  const int64_t harmonics_width = (s.max_ell + 1) * (s.max_ell + 1);
  const int64_t features_width = (s.l_in + 1) * (s.l_in + 1) * s.channels;
  for (int64_t i = lo; i < hi; ++i)
    for (int64_t e = s.first[i]; e < s.first[i + 1]; ++e) {
      const int64_t place = (e - s.first[lo]) * radial_width, from = s.sender[e] * features_width;
      backward_edge(s, gradient + i * s.rows * s.channels, radial + place, harmonics + e * harmonics_width,
                    features + from, radial_gradient == nullptr ? nullptr : radial_gradient + place,
                    harmonics_gradient == nullptr ? nullptr : harmonics_gradient + e * harmonics_width,
                    features_gradient == nullptr ? nullptr : features_gradient + from);
    }
}

}    // namespace

extern const ConvolutionKernels<float> convolution_in_float{&forward<float>, &backward<float>};
extern const ConvolutionKernels<double> convolution_in_double{&forward<double>, &backward<double>};

}    // namespace fixedpoint::FIXEDPOINT_INSTRUCTION_SET
