/// Inner loops of the equivariant convolution (operators/neighbour_convolution.cpp) over the edges of a range
/// of receivers.
///
/// With edges e of receiver i, their senders j, and blocks (l1, l2), l2 the outer loop, each with paths t:
///
///   S[i, (block, m2, t, m1), c] = sum_e Y[e, l2 m2] R[e, (block, t), c] h[j, l1 m1, c].
///
/// They are compiled once for each set of vector instructions and chosen when the library is loaded
/// (dispatch.cpp).
#pragma once

#include <cstdint>

namespace fixedpoint {

/// Sizes of a convolution and its edges, sorted by receiver.
struct ConvolutionShape {
  int64_t channels;
  int l_in;                 ///< largest l1
  int max_ell;              ///< largest l2
  const int64_t *paths;     ///< paths of each block
  int64_t n_paths;          ///< their sum
  int64_t rows;             ///< rows of S
  const int64_t *sender;    ///< [edges]
  const int64_t *first;     ///< [receivers + 1] first edge of each receiver
};

/// largest l2 the kernels are compiled for
constexpr int LARGEST_ELL = 5;

template <typename T> struct ConvolutionKernels {
  /// Sums of receivers lo ... hi - 1; `radial` begins at edge first[lo], the other arrays at their first row.
  void (*forward)(const ConvolutionShape &shape, int64_t lo, int64_t hi, const T *radial, const T *harmonics,
                  const T *features, T *sums);
  /// Derivatives of <gradient, S>. Each of the last three may be null; radial_gradient begins at edge
  /// first[lo] and is written, harmonics_gradient is written, features_gradient is added to.
  void (*backward)(const ConvolutionShape &shape, int64_t lo, int64_t hi, const T *gradient, const T *radial,
                   const T *harmonics, const T *features, T *radial_gradient, T *harmonics_gradient,
                   T *features_gradient);
};

/// The kernels for this processor.
template <typename T> const ConvolutionKernels<T> &convolution_kernels();

}    // namespace fixedpoint
