/// Vectors of numbers for the kernels, which are compiled once per instruction set. Everything is in an
/// unnamed namespace, so that the linker cannot take one set's version for all of the library.
#pragma once

#include <cstdint>
#include <cstring>

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

}    // namespace

}    // namespace fixedpoint
