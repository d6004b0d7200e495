/// Complex transforms of one length, one in every lane of a vector, for the kernels: as in vectors.h
/// everything is in an unnamed namespace.
#pragma once

#include "kernels/mesh_convolution_kernels.h"
#include "kernels/vectors.h"

namespace fixedpoint {

namespace {

/// cos and sin of 2 pi j / R for j = 1 ... (R - 1) / 2.
template <int R> struct Root;
template <> struct Root<3> {
  static constexpr double cosine[] = {-0.5}, sine[] = {0.86602540378443864676};
};
template <> struct Root<5> {
  static constexpr double cosine[] = {0.30901699437494742410, -0.80901699437494742410};
  static constexpr double sine[] = {0.95105651629515357212, 0.58778525229247312917};
};
template <> struct Root<7> {
  static constexpr double cosine[] = {0.62348980185873353053, -0.22252093395631440429,
                                      -0.90096886790241912624};
  static constexpr double sine[] = {0.78183148246802980871, 0.97492791218182360702, 0.43388373911755812048};
};

/// sum_k x_k exp(-2 pi i j k / R) in place, for odd R: pairs k, R - k share their products.
template <int R, typename Real> inline void butterfly(vector<Real> *re, vector<Real> *im)
{
  using V = vector<Real>;
  constexpr int half = (R - 1) / 2;
  V sum_re[half], sum_im[half], difference_re[half], difference_im[half];
  for (int k = 0; k < half; ++k) {
    sum_re[k] = re[k + 1] + re[R - 1 - k];
    sum_im[k] = im[k + 1] + im[R - 1 - k];
    difference_re[k] = re[k + 1] - re[R - 1 - k];
    difference_im[k] = im[k + 1] - im[R - 1 - k];
  }
  const V first_re = re[0], first_im = im[0];
  for (int k = 0; k < half; ++k) {
    re[0] += sum_re[k];
    im[0] += sum_im[k];
  }
  for (int j = 1; j <= half; ++j) {
    V a_re = first_re, a_im = first_im, b_re{}, b_im{};
    for (int k = 1; k <= half; ++k) {
      const int turn = j * k % R;
      const int place = (turn <= half ? turn : R - turn) - 1;
      const Real c = static_cast<Real>(Root<R>::cosine[place]);
      const Real s = static_cast<Real>(turn <= half ? Root<R>::sine[place] : -Root<R>::sine[place]);
      a_re += c * sum_re[k - 1];
      a_im += c * sum_im[k - 1];
      b_re += s * difference_re[k - 1];
      b_im += s * difference_im[k - 1];
    }
    re[j] = a_re + b_im;
    im[j] = a_im - b_re;
    re[R - j] = a_re - b_im;
    im[R - j] = a_im + b_re;
  }
}

template <typename Real> inline void butterfly2(vector<Real> *re, vector<Real> *im)
{
  const vector<Real> a = re[0], b = im[0];
  re[0] = a + re[1];
  im[0] = b + im[1];
  re[1] = a - re[1];
  im[1] = b - im[1];
}

template <typename Real> inline void butterfly4(vector<Real> *re, vector<Real> *im)
{
  using V = vector<Real>;
  const V s_re = re[0] + re[2], s_im = im[0] + im[2], d_re = re[0] - re[2], d_im = im[0] - im[2];
  const V t_re = re[1] + re[3], t_im = im[1] + im[3], e_re = re[1] - re[3], e_im = im[1] - im[3];
  re[0] = s_re + t_re;
  im[0] = s_im + t_im;
  re[2] = s_re - t_re;
  im[2] = s_im - t_im;
  re[1] = d_re + e_im;
  im[1] = d_im - e_re;
  re[3] = d_re - e_im;
  im[3] = d_im + e_re;
}

/// Numbers (real and imaginary parts) of one length, one transform in every lane.
template <typename Real> struct Series {
  vector<Real> *re, *im;
};

/// A pass of Stockham's transform (decimation in frequency): `stride` transforms of length R m become R
/// stride ones of length m.
template <int R, typename Real>
void pass(int64_t m, int64_t stride, const Real *twiddles, const Series<Real> &x, const Series<Real> &y)
{
  for (int64_t p = 0; p < m; ++p)
    for (int64_t q = 0; q < stride; ++q) {
      vector<Real> re[R], im[R];
      for (int k = 0; k < R; ++k) {
        re[k] = x.re[q + stride * (p + m * k)];
        im[k] = x.im[q + stride * (p + m * k)];
      }
      if constexpr (R == 2)
        butterfly2<Real>(re, im);
      else if constexpr (R == 4)
        butterfly4<Real>(re, im);
      else
        butterfly<R, Real>(re, im);
      const int64_t to = q + stride * R * p;
      y.re[to] = re[0];
      y.im[to] = im[0];
      if (p == 0)
        for (int j = 1; j < R; ++j) {
          y.re[to + stride * j] = re[j];
          y.im[to + stride * j] = im[j];
        }
      else
        for (int j = 1; j < R; ++j) {
          const Real c = twiddles[2 * ((R - 1) * p + j - 1)], s = twiddles[2 * ((R - 1) * p + j - 1) + 1];
          y.re[to + stride * j] = c * re[j] - s * im[j];
          y.im[to + stride * j] = s * re[j] + c * im[j];
        }
    }
}

/// sum_j x_j exp(-2 pi i j k / n) of every lane; the result is in what is returned, x or y. With real and
/// imaginary parts exchanged in x and y it is the transform with exp(+...).
template <typename Real> Series<Real> transform(const Transform<Real> &t, Series<Real> x, Series<Real> y)
{
  int64_t m = t.length, stride = 1;
  const Real *w = t.twiddles;
  for (int k = 0; k < t.passes; ++k) {
    const int r = t.radix[k];
    m /= r;
    switch (r) {
    case 2: pass<2, Real>(m, stride, w, x, y); break;
    case 3: pass<3, Real>(m, stride, w, x, y); break;
    case 4: pass<4, Real>(m, stride, w, x, y); break;
    case 5: pass<5, Real>(m, stride, w, x, y); break;
    default: pass<7, Real>(m, stride, w, x, y); break;
    }
    w += 2 * (r - 1) * m;
    stride *= r;
    const Series<Real> z = x;
    x = y;
    y = z;
  }
  return x;
}

template <typename Real> Series<Real> exchanged(const Series<Real> &x) { return {x.im, x.re}; }

}    // namespace

}    // namespace fixedpoint
