/// Vectors of numbers for the kernels, which are compiled once per instruction set. Everything is in an
/// unnamed namespace, so that the linker cannot take one set's version for all of the library.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512F__)
#define FIXEDPOINT_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define FIXEDPOINT_VECTOR_BYTES 32
#else
#define FIXEDPOINT_VECTOR_BYTES 16
#endif

namespace fixedpoint {

namespace {

template <typename Real, int n> struct VectorOf {
  typedef Real type __attribute__((vector_size(n * sizeof(Real))));
};

/// The vector of the instruction set, and its number of lanes.
template <typename Real> constexpr int lanes = FIXEDPOINT_VECTOR_BYTES / sizeof(Real);
template <typename Real> using vector = typename VectorOf<Real, lanes<Real>>::type;

/// A vector from and to memory of any alignment.
template <typename V> inline V load_as(const void *p)
{
  V v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

template <typename Real> inline vector<Real> load(const Real *p) { return load_as<vector<Real>>(p); }

template <typename V> inline void store(void *p, const V &v) { std::memcpy(p, &v, sizeof(v)); }

/// a0 b0 a1 b1 ... of the first halves of two vectors.
template <typename V, int... i> inline V zip_low(const V &a, const V &b, std::integer_sequence<int, i...>)
{
  constexpr int n = sizeof...(i);
  return __builtin_shufflevector(a, b, ((i & 1) * n + i / 2)...);
}

template <typename V, int... i> inline V zip_high(const V &a, const V &b, std::integer_sequence<int, i...>)
{
  constexpr int n = sizeof...(i);
  return __builtin_shufflevector(a, b, (n / 2 + (i & 1) * n + i / 2)...);
}

/// Row i of the square in column i.
template <typename Real> inline void transpose(vector<Real> *v)
{
  constexpr int n = lanes<Real>;
  using indices = std::make_integer_sequence<int, n>;
  for (int step = 1; step < n; step *= 2) {
    vector<Real> t[n];
    for (int i = 0; i < n / 2; ++i) {
      t[2 * i] = zip_low(v[i], v[i + n / 2], indices{});
      t[2 * i + 1] = zip_high(v[i], v[i + n / 2], indices{});
    }
    for (int i = 0; i < n; ++i) v[i] = t[i];
  }
}

}    // namespace

}    // namespace fixedpoint
