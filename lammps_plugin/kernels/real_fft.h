/// Transforms of the real rows of a plane to their waves and back, and the memory that the kernels of
/// mesh_convolution_kernels.cpp work in: as in vectors.h everything is in an unnamed namespace.
#pragma once

#include "kernels/fft.h"

namespace fixedpoint {

namespace {

/// Places of a thread: several series of the longest axis, a row of zeros, and the waves of a plane.
template <typename Real> struct Scratch {
  static constexpr int series = 4;
  Series<Real> x[series];
  const Real *zeros;
  Real *plane;

  static int64_t longest(const FilterMesh<Real> &mesh)
  {
    int64_t n = mesh.width + lanes<Real>;
    for (int a = 0; a < 3; ++a) n = mesh.size[a] > n ? mesh.size[a] : n;
    return n;
  }
  static int64_t size(const FilterMesh<Real> &mesh)
  {
    return ((2 * series + 1) * longest(mesh) + 1) * lanes<Real> + 2 * mesh.width * mesh.size[1];
  }
  Scratch(const FilterMesh<Real> &mesh, Real *memory)
  {
    const auto address = reinterpret_cast<uintptr_t>(memory);
    auto *v = reinterpret_cast<vector<Real> *>((address + FIXEDPOINT_VECTOR_BYTES - 1) /
                                               FIXEDPOINT_VECTOR_BYTES * FIXEDPOINT_VECTOR_BYTES);
    const int64_t n = longest(mesh);
    for (int k = 0; k < series; ++k) x[k] = {v + 2 * k * n, v + (2 * k + 1) * n};
    v += 2 * series * n;
    std::memset(v, 0, n * sizeof(*v));
    zeros = reinterpret_cast<const Real *>(v);
    plane = reinterpret_cast<Real *>(v + n);
  }
};

/// Real rows of a plane, two in every lane as real and imaginary part, and what separates their spectra:
/// A(k) = [Z(k) + conj Z(-k)] / 2, B(k) = [Z(k) - conj Z(-k)] / 2i.
template <typename Real>
void rows_to_waves(const FilterMesh<Real> &mesh, const Real *plane, Real *spectrum, const Scratch<Real> &s)
{
  using V = vector<Real>;
  constexpr int n_lanes = lanes<Real>;
  const int64_t n = mesh.size[2];
  for (int64_t y = 0; y < mesh.size[1]; y += 2 * n_lanes) {
    const Real *row[2 * n_lanes];
    for (int l = 0; l < 2 * n_lanes; ++l) row[l] = y + l < mesh.size[1] ? plane + (y + l) * n : s.zeros;
    int64_t z = 0;
    for (; z + n_lanes <= n; z += n_lanes)
      for (int part = 0; part < 2; ++part) {
        V v[n_lanes];
        for (int l = 0; l < n_lanes; ++l) v[l] = load(row[part * n_lanes + l] + z);
        transpose<Real>(v);
        V *to = (part == 0 ? s.x[0].re : s.x[0].im) + z;
        for (int l = 0; l < n_lanes; ++l) to[l] = v[l];
      }
    for (; z < n; ++z)
      for (int l = 0; l < n_lanes; ++l) {
        s.x[0].re[z][l] = row[l][z];
        s.x[0].im[z][l] = row[n_lanes + l][z];
      }
    const Series<Real> f = transform(mesh.along[2], s.x[0], s.x[1]);
    for (int64_t k0 = 0; k0 < mesh.width; k0 += n_lanes) {
      V a_re[n_lanes]{}, a_im[n_lanes]{}, b_re[n_lanes]{}, b_im[n_lanes]{};
      for (int64_t k = k0; k < k0 + n_lanes && k < mesh.waves[2]; ++k) {
        const int64_t back = k == 0 ? 0 : n - k, l = k - k0;
        const Real half = 0.5;
        a_re[l] = half * (f.re[k] + f.re[back]);
        a_im[l] = half * (f.im[k] - f.im[back]);
        b_re[l] = half * (f.im[k] + f.im[back]);
        b_im[l] = half * (f.re[back] - f.re[k]);
      }
      transpose<Real>(a_re);
      transpose<Real>(a_im);
      transpose<Real>(b_re);
      transpose<Real>(b_im);
      for (int l = 0; l < n_lanes; ++l) {
        Real *a = spectrum + (y + l) * 2 * mesh.width + k0, *b = a + n_lanes * 2 * mesh.width;
        if (y + l < mesh.size[1]) {
          store(a, a_re[l]);
          store(a + mesh.width, a_im[l]);
        }
        if (y + n_lanes + l < mesh.size[1]) {
          store(b, b_re[l]);
          store(b + mesh.width, b_im[l]);
        }
      }
    }
  }
}

/// The way back from `rows_to_waves`: Z = A + i B; the imaginary parts of waves that are their own conjugates
/// play no part.
template <typename Real>
void waves_to_rows(const FilterMesh<Real> &mesh, const Real *spectrum, Real *plane, const Scratch<Real> &s)
{
  using V = vector<Real>;
  constexpr int n_lanes = lanes<Real>;
  const int64_t n = mesh.size[2];
  for (int64_t y = 0; y < mesh.size[1]; y += 2 * n_lanes) {
    const int64_t left_out = n - 2 * mesh.waves[2] + 1;
    if (left_out > 0) {
      std::memset(s.x[0].re + mesh.waves[2], 0, left_out * sizeof(V));
      std::memset(s.x[0].im + mesh.waves[2], 0, left_out * sizeof(V));
    }
    for (int64_t k0 = 0; k0 < mesh.width; k0 += n_lanes) {
      V a_re[n_lanes], a_im[n_lanes], b_re[n_lanes], b_im[n_lanes];
      for (int l = 0; l < n_lanes; ++l) {
        const Real *a = y + l < mesh.size[1] ? spectrum + (y + l) * 2 * mesh.width + k0 : s.zeros;
        const Real *b =
            y + n_lanes + l < mesh.size[1] ? spectrum + (y + n_lanes + l) * 2 * mesh.width + k0 : s.zeros;
        a_re[l] = load(a);
        a_im[l] = load(a + mesh.width);
        b_re[l] = load(b);
        b_im[l] = load(b + mesh.width);
      }
      transpose<Real>(a_re);
      transpose<Real>(a_im);
      transpose<Real>(b_re);
      transpose<Real>(b_im);
      for (int64_t k = k0; k < k0 + n_lanes && k < mesh.waves[2]; ++k) {
        const int64_t back = n - k, l = k - k0;
        if (k == 0 || back == k) {
          s.x[0].re[k] = a_re[l];
          s.x[0].im[k] = b_re[l];
        } else {
          s.x[0].re[k] = a_re[l] - b_im[l];
          s.x[0].im[k] = a_im[l] + b_re[l];
          s.x[0].re[back] = a_re[l] + b_im[l];
          s.x[0].im[back] = b_re[l] - a_im[l];
        }
      }
    }
    const Series<Real> f = exchanged(transform(mesh.along[2], exchanged(s.x[0]), exchanged(s.x[1])));
    int64_t z = 0;
    for (; z + n_lanes <= n; z += n_lanes)
      for (int part = 0; part < 2; ++part) {
        V v[n_lanes];
        const V *from = (part == 0 ? f.re : f.im) + z;
        for (int l = 0; l < n_lanes; ++l) v[l] = from[l];
        transpose<Real>(v);
        for (int l = 0; l < n_lanes; ++l)
          if (y + part * n_lanes + l < mesh.size[1]) store(plane + (y + part * n_lanes + l) * n + z, v[l]);
      }
    for (; z < n; ++z)
      for (int l = 0; l < n_lanes; ++l) {
        if (y + l < mesh.size[1]) plane[(y + l) * n + z] = f.re[z][l];
        if (y + n_lanes + l < mesh.size[1]) plane[(y + n_lanes + l) * n + z] = f.im[z][l];
      }
  }
}

}    // namespace

}    // namespace fixedpoint
