/// The convolutions of mesh_convolution.cpp by the compiled kernels, on all threads of torch.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace fixedpoint {

/// The mesh of some grids, and the waves that are kept of it: of the axes 0 and 1 those up to some wave
/// number, in the order 0 ... m, -m ... -1, of axis 2 the first ones.
struct MeshSizes {
  int64_t n[3], waves[3];

  /// Throws c10::Error, in the name of an operator, if they do not fit.
  MeshSizes(const char *name, const at::Tensor &grids, at::IntArrayRef kept);

  /// Waves of the axis 0 or 1 from 0 on, the others, and those between them that are not kept.
  int64_t low(int axis) const { return waves[axis] - high(axis); }
  int64_t high(int axis) const { return waves[axis] / 2; }
  int64_t left_out(int axis) const { return n[axis] - waves[axis]; }
};

/// Whether the kernels do it: in host memory, for lengths without prime factors above 7.
bool has_kernels(const at::Tensor &grids, const MeshSizes &sizes);

at::Tensor convolve_compiled(const MeshSizes &sizes, const at::Tensor &grid, const at::Tensor &filters);
at::Tensor convolve_transposed_compiled(const MeshSizes &sizes, const at::Tensor &grids,
                                        const at::Tensor &filters);
at::Tensor correlate_compiled(const MeshSizes &sizes, const at::Tensor &grids, const at::Tensor &grid);

}    // namespace fixedpoint
