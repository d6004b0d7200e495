// Chooses among the compiled versions of the kernels of this folder.
#include "kernels/mesh_convolution_kernels.h"
#include "kernels/neighbour_convolution_kernels.h"
#include "kernels/spline_kernels.h"

namespace fixedpoint {

#define FIXEDPOINT_DECLARE(set)                                                                              \
  namespace set {                                                                                            \
  extern const SplineKernels<double> spline_in_double;                                                       \
  extern const SplineKernels<float> spline_in_float;                                                         \
  extern const FilterKernels<double> filter_in_double;                                                       \
  extern const FilterKernels<float> filter_in_float;                                                         \
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

// The version of a table of kernels that this processor runs.
#ifdef FIXEDPOINT_X86_KERNELS
#define FIXEDPOINT_BEST(kernels)                                                                             \
  (available == InstructionSet::AVX512 ? avx512::kernels                                                     \
   : available == InstructionSet::AVX2 ? avx2::kernels                                                       \
                                       : generic::kernels)
#else
#define FIXEDPOINT_BEST(kernels) generic::kernels
#endif

template <> const SplineKernels<double> &spline_kernels<double>()
{
  return FIXEDPOINT_BEST(spline_in_double);
}
template <> const SplineKernels<float> &spline_kernels<float>() { return FIXEDPOINT_BEST(spline_in_float); }

template <> const FilterKernels<double> &filter_kernels<double>()
{
  return FIXEDPOINT_BEST(filter_in_double);
}
template <> const FilterKernels<float> &filter_kernels<float>() { return FIXEDPOINT_BEST(filter_in_float); }

template <> const ConvolutionKernels<double> &convolution_kernels<double>()
{
  return FIXEDPOINT_BEST(convolution_in_double);
}

template <> const ConvolutionKernels<float> &convolution_kernels<float>()
{
  return FIXEDPOINT_BEST(convolution_in_float);
}

#undef FIXEDPOINT_BEST

}    // namespace fixedpoint
