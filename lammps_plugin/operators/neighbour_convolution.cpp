// The equivariant convolution over neighbours as an operator of torch:
//
//   convolve(radial, weight, harmonics, features, sender, first, paths) -> S,
//
// S as in kernels/neighbour_convolution_kernels.h with R = radial weight. R is made for a few receivers at a
// time and never stored. S has derivatives of any order by its first four arguments.
#include "kernels/neighbour_convolution_kernels.h"
#include "operators/registration.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <memory>
#include <tuple>
#include <vector>

namespace fixedpoint {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

/// Radial weights made at a time, in elements: they stay in the second-level cache.
constexpr int64_t BUFFER = 1 << 16;

int square_root(int64_t n)
{
  int64_t root = 0;
  while (root * root < n) ++root;
  return root * root == n ? static_cast<int>(root) : -1;
}

/// The arguments, checked and contiguous.
struct Arguments {
  Tensor radial, weight, harmonics, features, sender, first;
  std::vector<int64_t> paths;
  ConvolutionShape shape{};
  int64_t receivers = 0, edges = 0;
  std::vector<int64_t> groups;    ///< receivers groups[k] ... groups[k+1] - 1 are treated at a time

  Arguments(const Tensor &radial_, const Tensor &weight_, const Tensor &harmonics_, const Tensor &features_,
            const Tensor &sender_, const Tensor &first_, at::IntArrayRef paths_) :
      radial(radial_.contiguous()), weight(weight_.contiguous()), harmonics(harmonics_.contiguous()),
      features(features_.contiguous()), sender(sender_.contiguous()), first(first_.contiguous()),
      paths(paths_.vec())
  {
    const auto dtype = radial.scalar_type();
    TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble,
                "fixedpoint::convolve: `radial` must be float32 or float64, got ", dtype);
    for (const auto *x : {&weight, &harmonics, &features})
      TORCH_CHECK(x->scalar_type() == dtype, "fixedpoint::convolve: arrays of one dtype expected, got ",
                  dtype, " and ", x->scalar_type());
    TORCH_CHECK(sender.scalar_type() == at::kLong && first.scalar_type() == at::kLong,
                "fixedpoint::convolve: `sender` and `first` must be int64");
    TORCH_CHECK(radial.dim() == 2 && weight.dim() == 2 && harmonics.dim() == 2 && features.dim() == 3 &&
                    sender.dim() == 1 && first.dim() == 1 && first.size(0) > 0,
                "fixedpoint::convolve: expected radial (E, H), weight (H, P C), harmonics (E, M), features "
                "(n, K, C), sender (E,), first (receivers + 1,)");
    edges = sender.size(0);
    receivers = first.size(0) - 1;
    shape.channels = features.size(2);
    shape.l_in = square_root(features.size(1)) - 1;
    shape.max_ell = square_root(harmonics.size(1)) - 1;
    TORCH_CHECK(
        shape.l_in >= 0 && shape.max_ell >= 0 && shape.max_ell <= LARGEST_ELL,
        "fixedpoint::convolve: features and harmonics must hold all components up to some l (harmonics "
        "up to ",
        LARGEST_ELL, "), got ", features.size(1), " and ", harmonics.size(1));
    TORCH_CHECK(static_cast<int64_t>(paths.size()) == (shape.l_in + 1) * (shape.max_ell + 1),
                "fixedpoint::convolve: `paths` must have one number per (l1, l2)");
    auto block = paths.begin();
    for (int l2 = 0; l2 <= shape.max_ell; ++l2)
      for (int l1 = 0; l1 <= shape.l_in; ++l1, ++block) {
        shape.n_paths += *block;
        shape.rows += *block * (2 * l1 + 1) * (2 * l2 + 1);
      }
    TORCH_CHECK(radial.size(0) == edges && harmonics.size(0) == edges && weight.size(0) == radial.size(1) &&
                    weight.size(1) == shape.n_paths * shape.channels,
                "fixedpoint::convolve: sizes do not fit: radial ", radial.sizes(), ", weight ",
                weight.sizes(), ", harmonics ", harmonics.sizes(), ", features ", features.sizes(), ", ",
                edges, " edges, ", shape.n_paths, " paths");
    shape.paths = paths.data();
    shape.sender = sender.data_ptr<int64_t>();
    shape.first = first.data_ptr<int64_t>();
    check_indices();
    group_receivers();
  }

  int64_t width() const { return shape.n_paths * shape.channels; }

private:
  void check_indices() const
  {
    TORCH_CHECK(shape.first[0] == 0 && shape.first[receivers] == edges,
                "fixedpoint::convolve: `first` must begin with 0 and end with the number of edges");
    TORCH_CHECK(std::is_sorted(shape.first, shape.first + receivers + 1),
                "fixedpoint::convolve: `first` must not decrease");
    if (edges == 0) return;
    const auto [low, high] = std::minmax_element(shape.sender, shape.sender + edges);
    TORCH_CHECK(*low >= 0 && *high < features.size(0), "fixedpoint::convolve: senders ", *low, " ... ", *high,
                " for ", features.size(0), " rows of features");
  }

  void group_receivers()
  {
    const int64_t most = std::max<int64_t>(1, BUFFER / std::max<int64_t>(1, width()));
    groups = {0};
    for (int64_t i = 0; i < receivers; ++i)
      if (shape.first[i + 1] - shape.first[groups.back()] > most && i > groups.back()) groups.push_back(i);
    if (receivers > 0) groups.push_back(receivers);
  }
};

template <typename T> Tensor forward_typed(const Arguments &a)
{
  const auto &s = a.shape;
  Tensor out = at::empty({a.receivers, s.rows, s.channels}, a.features.options());
  at::parallel_for(0, static_cast<int64_t>(a.groups.size()) - 1, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;    // of this thread, too
    Tensor buffer = at::empty({0}, a.radial.options());
    for (int64_t k = begin; k < end; ++k) {
      const int64_t lo = a.groups[k], hi = a.groups[k + 1], edge = s.first[lo], n = s.first[hi] - edge;
      buffer.resize_({n, a.width()});
      at::mm_out(buffer, a.radial.narrow(0, edge, n), a.weight);
      convolution_kernels<T>().forward(s, lo, hi, buffer.data_ptr<T>(), a.harmonics.data_ptr<T>(),
                                       a.features.data_ptr<T>(), out.data_ptr<T>());
    }
  });
  return out;
}

template <typename T>
Gradients backward_typed(const Arguments &a, const Tensor &gradient, const std::array<bool, 4> &wanted)
{
  const auto &s = a.shape;
  Tensor by_radial, by_weight, by_harmonics, by_features;
  if (wanted[0]) by_radial = at::empty_like(a.radial);
  if (wanted[2]) by_harmonics = at::empty_like(a.harmonics);
  // Several groups add to the same rows: one copy per thread.
  std::vector<Tensor> weights(at::get_num_threads()), features(at::get_num_threads());
  auto data = [](const Tensor &x) { return x.defined() ? x.data_ptr<T>() : nullptr; };
  at::parallel_for(0, static_cast<int64_t>(a.groups.size()) - 1, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;    // of this thread, too
    const int thread = at::get_thread_num();
    Tensor buffer = at::empty({0}, a.radial.options());
    Tensor change = wanted[0] || wanted[1] ? at::empty({0}, a.radial.options()) : Tensor();
    if (wanted[1] && !weights[thread].defined()) weights[thread] = at::zeros_like(a.weight);
    if (wanted[3] && !features[thread].defined()) features[thread] = at::zeros_like(a.features);
    for (int64_t k = begin; k < end; ++k) {
      const int64_t lo = a.groups[k], hi = a.groups[k + 1], edge = s.first[lo], n = s.first[hi] - edge;
      const Tensor radial = a.radial.narrow(0, edge, n);
      buffer.resize_({n, a.width()});
      at::mm_out(buffer, radial, a.weight);
      if (change.defined()) change.resize_({n, a.width()});
      convolution_kernels<T>().backward(s, lo, hi, gradient.data_ptr<T>(), buffer.data_ptr<T>(),
                                        a.harmonics.data_ptr<T>(), a.features.data_ptr<T>(), data(change),
                                        data(by_harmonics), data(features[thread]));
      if (wanted[0]) {
        Tensor rows = by_radial.narrow(0, edge, n);
        at::mm_out(rows, change, a.weight.t());
      }
      if (wanted[1]) weights[thread].addmm_(radial.t(), change);
    }
  });
  auto total = [](const std::vector<Tensor> &parts, const Tensor &like) {
    Tensor sum;
    for (const auto &part : parts)
      if (part.defined()) sum = sum.defined() ? sum.add_(part) : part;
    return sum.defined() ? sum : at::zeros_like(like);
  };
  if (wanted[1]) by_weight = total(weights, a.weight);
  if (wanted[3]) by_features = total(features, a.features);
  return {by_radial, by_weight, by_harmonics, by_features};
}

Tensor forward_kernel(const Tensor &radial, const Tensor &weight, const Tensor &harmonics,
                      const Tensor &features, const Tensor &sender, const Tensor &first,
                      at::IntArrayRef paths)
{
  const Arguments a(radial, weight, harmonics, features, sender, first, paths);
  return radial.scalar_type() == at::kFloat ? forward_typed<float>(a) : forward_typed<double>(a);
}

Gradients backward_kernel(const Tensor &gradient, const Tensor &radial, const Tensor &weight,
                          const Tensor &harmonics, const Tensor &features, const Tensor &sender,
                          const Tensor &first, at::IntArrayRef paths, std::array<bool, 4> wanted)
{
  const Arguments a(radial, weight, harmonics, features, sender, first, paths);
  const Tensor g = gradient.contiguous();
  TORCH_CHECK(g.sizes() == at::IntArrayRef({a.receivers, a.shape.rows, a.shape.channels}) &&
                  g.scalar_type() == radial.scalar_type(),
              "fixedpoint::convolve_backward: the gradient does not fit");
  return radial.scalar_type() == at::kFloat ? backward_typed<float>(a, g, wanted)
                                            : backward_typed<double>(a, g, wanted);
}

// Called through the dispatcher, so that derivatives have derivatives.
Tensor convolve(const std::array<Tensor, 4> &x, const Tensor &sender, const Tensor &first,
                const std::vector<int64_t> &paths)
{
  static auto op = find_operator<decltype(forward_kernel)>("fixedpoint::convolve");
  return op.call(x[0], x[1], x[2], x[3], sender, first, paths);
}

std::array<Tensor, 4> convolve_backward(const Tensor &gradient, const std::array<Tensor, 4> &x,
                                        const Tensor &sender, const Tensor &first,
                                        const std::vector<int64_t> &paths, const std::array<bool, 4> &wanted)
{
  static auto op = find_operator<decltype(backward_kernel)>("fixedpoint::convolve_backward");
  auto [a, b, c, d] = op.call(gradient, x[0], x[1], x[2], x[3], sender, first, paths, wanted);
  return {a, b, c, d};
}

void save_edges(AutogradContext *ctx, const Tensor &sender, const Tensor &first, at::IntArrayRef paths)
{
  ctx->saved_data["sender"] = sender;
  ctx->saved_data["first"] = first;
  ctx->saved_data["paths"] = paths.vec();
}

struct ConvolveFunction : public torch::autograd::Function<ConvolveFunction> {
  static Tensor forward(AutogradContext *ctx, const Tensor &radial, const Tensor &weight,
                        const Tensor &harmonics, const Tensor &features, const Tensor &sender,
                        const Tensor &first, at::IntArrayRef paths)
  {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({radial, weight, harmonics, features});
    save_edges(ctx, sender, first, paths);
    return convolve({radial, weight, harmonics, features}, sender, first, paths.vec());
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads)
  {
    const auto saved = ctx->get_saved_variables();
    std::array<bool, 4> wanted{};
    for (int k = 0; k < 4; ++k) wanted[k] = ctx->needs_input_grad(k);
    const auto out = convolve_backward(
        grads[0], {saved[0], saved[1], saved[2], saved[3]}, ctx->saved_data["sender"].toTensor(),
        ctx->saved_data["first"].toTensor(), ctx->saved_data["paths"].toIntVector(), wanted);
    return {out[0], out[1], out[2], out[3], Tensor(), Tensor(), Tensor()};
  }
};

/// The four gradients of <g, S>. S is linear in each of its four arguments, so the derivative along a
/// cotangent of one gradient is the same form with the cotangent in the place of that argument.
struct ConvolveBackwardFunction : public torch::autograd::Function<ConvolveBackwardFunction> {
  static variable_list forward(AutogradContext *ctx, const Tensor &gradient, const Tensor &radial,
                               const Tensor &weight, const Tensor &harmonics, const Tensor &features,
                               const Tensor &sender, const Tensor &first, at::IntArrayRef paths,
                               std::array<bool, 4> wanted)
  {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({gradient, radial, weight, harmonics, features});
    save_edges(ctx, sender, first, paths);
    std::vector<int64_t> places;
    for (int k = 0; k < 4; ++k)
      if (wanted[k]) places.push_back(k);
    ctx->saved_data["places"] = places;
    const auto all = convolve_backward(gradient, {radial, weight, harmonics, features}, sender, first,
                                       paths.vec(), wanted);
    variable_list out;
    for (const auto k : places) out.push_back(all[k]);
    return out;
  }

  static variable_list backward(AutogradContext *ctx, variable_list cotangents)
  {
    const auto saved = ctx->get_saved_variables();
    const auto sender = ctx->saved_data["sender"].toTensor(), first = ctx->saved_data["first"].toTensor();
    const auto paths = ctx->saved_data["paths"].toIntVector();
    const auto places = ctx->saved_data["places"].toIntVector();
    variable_list out(9);
    auto add = [&out](std::size_t k, const Tensor &x) {
      if (x.defined()) out[k] = out[k].defined() ? out[k] + x : x;
    };
    for (std::size_t n = 0; n < places.size(); ++n) {
      if (!cotangents[n].defined()) continue;
      const auto k = static_cast<std::size_t>(places[n]);
      std::array<Tensor, 4> arguments{saved[1], saved[2], saved[3], saved[4]};
      arguments[k] = cotangents[n];
      if (ctx->needs_input_grad(0)) add(0, convolve(arguments, sender, first, paths));
      std::array<bool, 4> wanted{};
      for (std::size_t j = 0; j < 4; ++j) wanted[j] = j != k && ctx->needs_input_grad(j + 1);
      if (std::none_of(wanted.begin(), wanted.end(), [](bool x) { return x; })) continue;
      const auto gradients = convolve_backward(saved[0], arguments, sender, first, paths, wanted);
      for (std::size_t j = 0; j < 4; ++j) add(j + 1, gradients[j]);
    }
    return out;
  }
};

Tensor forward_autograd(const Tensor &radial, const Tensor &weight, const Tensor &harmonics,
                        const Tensor &features, const Tensor &sender, const Tensor &first,
                        at::IntArrayRef paths)
{
  return ConvolveFunction::apply(radial, weight, harmonics, features, sender, first, paths);
}

Gradients backward_autograd(const Tensor &gradient, const Tensor &radial, const Tensor &weight,
                            const Tensor &harmonics, const Tensor &features, const Tensor &sender,
                            const Tensor &first, at::IntArrayRef paths, std::array<bool, 4> wanted)
{
  const auto found = ConvolveBackwardFunction::apply(gradient, radial, weight, harmonics, features, sender,
                                                     first, paths, wanted);
  std::array<Tensor, 4> out;
  std::size_t next = 0;
  for (std::size_t k = 0; k < 4; ++k)
    if (wanted[k]) out[k] = found[next++];
  return {out[0], out[1], out[2], out[3]};
}

const Operators operators(OperatorGroup::COMPUTATION, c10::DispatchKey::CPU, __FILE__, [](OperatorList &add) {
  add("convolve(Tensor radial, Tensor weight, Tensor harmonics, Tensor features, Tensor sender, "
      "Tensor first, int[] paths) -> Tensor",
      &forward_kernel, &forward_autograd);
  add("convolve_backward(Tensor gradient, Tensor radial, Tensor weight, Tensor harmonics, Tensor features, "
      "Tensor sender, Tensor first, int[] paths, bool[4] wanted) -> (Tensor, Tensor, Tensor, Tensor)",
      &backward_kernel, &backward_autograd);
});

}    // namespace

}    // namespace fixedpoint
