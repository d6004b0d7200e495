/// The equivariant convolution over neighbours as an operator of torch:
///
///   convolve(radial, weight, harmonics, features, sender, first, paths) -> S
///
/// with R = radial weight and S as in convolution_kernel.h: sums over the edges of each receiver of products of
/// spherical harmonics, radial weights and senders' features. R is made for a few receivers at a time and never
/// stored. It is differentiable to any order by its first four arguments.
#pragma once

namespace torch {
class Library;
}

namespace fixedpoint {

/// Adds the operator, its kernels for the CPU and its derivatives to the library of operators.
void register_convolution(torch::Library &definition, torch::Library &cpu, torch::Library &autograd);

}    // namespace fixedpoint
