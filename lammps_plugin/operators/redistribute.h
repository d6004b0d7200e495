/// Boxes of a periodic array over ranks: what the operators `redistribute` and `gather_ranks` do.
#pragma once

#include "operators/communication.h"

#include <ATen/ATen.h>

namespace fixedpoint {

/// The rows x[k] (int64 or double) of all ranks [P, k]; `communicator` is nullptr in a single process.
/// Collective.
at::Tensor gather_rows(Communicator *communicator, const at::Tensor &x);

/// Sums boxes of a periodic array of `period` points into other boxes. Collective.
/// @param x this rank's source box [m, a, b, c], float or complex
/// @param source, target [P, 6] int64, row p: rank p's box lo1, hi1, lo2, hi2, lo3, hi3 in unwrapped indices
/// @return this rank's target box: at every point the sum, in the order of the ranks, of all source boxes
///   that hold it or one of its images
at::Tensor sum_boxes(Communicator *communicator, const at::Tensor &x, const at::Tensor &source,
                     const at::Tensor &target, at::IntArrayRef period);

}    // namespace fixedpoint
