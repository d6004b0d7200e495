// Chooses among the compiled versions of mesh_kernels.cpp and convolution_kernel.cpp.
#include "convolution_kernel.h"
#include "mesh_kernels.h"

namespace fixedpoint {

#define FIXEDPOINT_DECLARE(set)                                                                              \
  namespace set {                                                                                            \
  extern const MeshKernels<double> in_double;                                                                \
  extern const MeshKernels<float> in_float;                                                                  \
  extern const ConvolutionKernels<double> convolution_in_double;                                             \
  extern const ConvolutionKernels<float> convolution_in_float;                                               \
  }
FIXEDPOINT_DECLARE(generic)
#ifdef FIXEDPOINT_X86_KERNELS
FIXEDPOINT_DECLARE(avx2)
FIXEDPOINT_DECLARE(avx512)
#endif
#undef FIXEDPOINT_DECLARE

namespace {

enum class InstructionSet {
  GENERIC,
  AVX2,
  AVX512
};

InstructionSet best_set()
{
#ifdef FIXEDPOINT_X86_KERNELS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
    return InstructionSet::AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return InstructionSet::AVX2;
#endif
  return InstructionSet::GENERIC;
}

const InstructionSet available = best_set();

}    // namespace

template <> const MeshKernels<double> &mesh_kernels<double>()
{
#ifdef FIXEDPOINT_X86_KERNELS
  if (available == InstructionSet::AVX512) return avx512::in_double;
  if (available == InstructionSet::AVX2) return avx2::in_double;
#endif
  return generic::in_double;
}

template <> const MeshKernels<float> &mesh_kernels<float>()
{
#ifdef FIXEDPOINT_X86_KERNELS
  if (available == InstructionSet::AVX512) return avx512::in_float;
  if (available == InstructionSet::AVX2) return avx2::in_float;
#endif
  return generic::in_float;
}

template <> const ConvolutionKernels<double> &convolution_kernels<double>()
{
#ifdef FIXEDPOINT_X86_KERNELS
  if (available == InstructionSet::AVX512) return avx512::convolution_in_double;
  if (available == InstructionSet::AVX2) return avx2::convolution_in_double;
#endif
  return generic::convolution_in_double;
}

template <> const ConvolutionKernels<float> &convolution_kernels<float>()
{
#ifdef FIXEDPOINT_X86_KERNELS
  if (available == InstructionSet::AVX512) return avx512::convolution_in_float;
  if (available == InstructionSet::AVX2) return avx2::convolution_in_float;
#endif
  return generic::convolution_in_float;
}

}    // namespace fixedpoint
