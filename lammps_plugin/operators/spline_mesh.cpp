/// Operators of the B-spline mesh (docs/electrostatics.md), registered with those of communication.cpp:
///   mesh_stencil(u, order, part) -> (sequence, table): the work list of the atoms at u, without derivative;
///   mesh_gather(u, sequence, table, grid, order, degree, part) -> derivatives of the interpolated grid at u,
///     value[i, c, abc] = sum_m d^abc W(u_i - m) grid[c, m];
///   mesh_spread(u, sequence, table, values, order, degree, part) -> its adjoint in the grid,
///     grid[c, m] = sum_i sum_abc values[i, c, abc] d^abc W(u_i - m).
/// `part` holds lower, size and period of the part of the mesh, nine numbers. The derivative of a gather by u
/// is a gather of one degree more, and that of a spread too: both are differentiable as often as the degree
/// allows.
#include "kernels/spline_kernels.h"
#include "operators/registration.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <tuple>
#include <vector>

namespace fixedpoint {

namespace {

using at::IntArrayRef;
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

SplineMesh spline_mesh(int64_t order, int64_t degree, IntArrayRef part)
{
  TORCH_CHECK_VALUE(order == 4 || order == 6 || order == 8 || order == 10,
                    "the order of the mesh's splines is 4, 6, 8 or 10, got ", order);
  TORCH_CHECK_VALUE(degree >= 0 && degree <= MAX_DEGREE, "derivatives of the mesh's splines go up to degree ",
                    MAX_DEGREE, ", got ", degree);
  TORCH_CHECK_VALUE(part.size() == 9,
                    "expected lower, size and period of a part of the mesh, nine numbers, got ", part.size());
  SplineMesh mesh;
  mesh.order = static_cast<int>(order);
  mesh.degree = static_cast<int>(degree);
  for (int a = 0; a < 3; ++a) {
    mesh.lower[a] = part[a];
    mesh.size[a] = part[3 + a];
    mesh.period[a] = part[6 + a];
    TORCH_CHECK_VALUE(mesh.size[a] >= 0 && mesh.size[a] <= mesh.period[a], "a part of ", mesh.size[a],
                      " points of a mesh of ", mesh.period[a], " points along axis ", a);
  }
  return mesh;
}

/// Raises where the stencil of an atom leaves the part of the mesh: memory would be overwritten.
void check_inside(const SplineMesh &mesh, const double *u, int64_t n)
{
  for (int a = 0; a < 3; ++a) {
    if (mesh.size[a] == mesh.period[a]) continue;
    const auto first = static_cast<double>(mesh.lower[a] + mesh.order / 2 - 1);
    const auto last = static_cast<double>(mesh.lower[a] + mesh.size[a] - mesh.order / 2);
    for (int64_t i = 0; i < n; ++i)
      TORCH_CHECK_VALUE(u[3 * i + a] >= first && u[3 * i + a] < last, "atom ", i,
                        " lies outside this process's part of the mesh");
  }
}

std::tuple<Tensor, Tensor> stencil_kernel(const Tensor &u, int64_t order, IntArrayRef part, bool single)
{
  const auto mesh = spline_mesh(order, 1, part);
  const int64_t n = u.size(0);
  const auto options = at::TensorOptions().device(at::kCPU);
  if (!u.is_cpu()) return {at::empty({0}, options.dtype(at::kInt)), at::empty({0}, options)};
  const Tensor coordinates = u.detach().to(at::kDouble).contiguous();
  const auto *x = coordinates.const_data_ptr<double>();
  for (int64_t k = 0; k < 3 * n; ++k)
    TORCH_CHECK_VALUE(std::isfinite(x[k]), "non-finite position of atom ", k / 3, ": check the structure");
  check_inside(mesh, x, n);
  // Atoms of neighbouring columns of the mesh one after the other: what they touch stays in the cache.
  Tensor sequence = at::empty({n}, options.dtype(at::kInt));
  auto *order_of = sequence.mutable_data_ptr<int32_t>();
  std::iota(order_of, order_of + n, 0);
  std::vector<int64_t> column(n);
  for (int64_t i = 0; i < n; ++i) {
    int64_t cell[3];
    for (int a = 0; a < 3; ++a) {
      const auto m = static_cast<int64_t>(std::floor(x[3 * i + a])) - mesh.lower[a];
      cell[a] = ((m % mesh.period[a]) + mesh.period[a]) % mesh.period[a];
    }
    column[i] = ((cell[0] / 4) * mesh.period[1] + cell[1]) * mesh.period[2] + cell[2];
  }
  std::sort(order_of, order_of + n,
            [&](int32_t a, int32_t b) { return column[a] < column[b] || (column[a] == column[b] && a < b); });
  const Stencils atoms{n, x, order_of, nullptr};
  Tensor table = at::empty({n, 3, 2, order}, options.dtype(single ? at::kFloat : at::kDouble));
  at::parallel_for(0, n, 512, [&](int64_t begin, int64_t end) {
    if (single)
      spline_kernels<float>().tabulate(mesh, atoms, begin, end, table.mutable_data_ptr<float>());
    else
      spline_kernels<double>().tabulate(mesh, atoms, begin, end, table.mutable_data_ptr<double>());
  });
  return {sequence, table};
}

/// Whether the kernels do it, which need a table; without one torch does, on any device.
bool tabulated(const Tensor &table) { return table.numel() > 0; }

void check_arguments(const Tensor &u, const Tensor &sequence, const Tensor &table, int64_t order)
{
  const int64_t n = u.size(0);
  TORCH_CHECK(u.dim() == 2 && u.size(1) == 3 && u.scalar_type() == at::kDouble,
              "expected mesh coordinates (n, 3) in double precision");
  TORCH_CHECK(!tabulated(table) || (sequence.numel() == n && table.numel() == 6 * n * order),
              "the stencils are those of other atoms or of another order");
}

/// Indices (n, P^3) into a flat part of the mesh and the products of splines (n, P^3) per derivative, with
/// torch alone: where there is no table.
class TensorStencil {
public:
  TensorStencil(const SplineMesh &mesh, const Tensor &u, at::ScalarType real) : mesh_(mesh)
  {
    const int p = mesh.order, d_max = mesh.degree;
    const Tensor whole = u.detach().floor();
    const Tensor f = (u.detach() - whole);
    const Tensor j = at::arange(p, u.options());
    std::vector<Tensor> v{at::ones_like(f).unsqueeze(2)};    // M_k(f + t), t = 0 ... k-1
    for (int k = 2; k <= p; ++k) {
      const Tensor t = at::arange(k, u.options());
      const Tensor here = at::constant_pad_nd(v.back(), {0, 1}),
                   before = at::constant_pad_nd(v.back(), {1, 0});
      v.push_back(((f.unsqueeze(2) + t) * here + (k - f.unsqueeze(2) - t) * before) / (k - 1));
    }
    for (int d = 0; d <= d_max; ++d) {
      Tensor x = p - d >= 1 ? v[p - d - 1] : at::zeros_like(v[p - 1]);
      for (int step = 0; step < d && p - d >= 1; ++step)
        x = at::constant_pad_nd(x, {0, 1}) - at::constant_pad_nd(x, {1, 0});
      weights_.push_back(x.flip(2).to(real));    // (n, 3, P)
    }
    Tensor index;
    for (int a = 0; a < 3; ++a) {
      const Tensor m = (whole.select(1, a).unsqueeze(1) + j - (p / 2 - 1 + mesh.lower[a])).to(at::kLong);
      const Tensor i = at::remainder(m, mesh.period[a]);
      if (a == 0)
        index = i;
      else
        index = (index.unsqueeze(-1) * mesh.size[a] +
                 i.reshape(a == 1 ? IntArrayRef{-1, 1, p} : IntArrayRef{-1, 1, 1, p}));
    }
    index_ = index.reshape({-1});
  }
  const Tensor &index() const { return index_; }
  Tensor product(int a, int b, int c) const
  {
    auto axis = [&](int d, int k, IntArrayRef shape) { return weights_[d].select(1, k).reshape(shape); };
    const int p = mesh_.order;
    return (axis(a, 0, {-1, p, 1, 1}) * axis(b, 1, {-1, 1, p, 1}) * axis(c, 2, {-1, 1, 1, p}))
        .reshape({-1, static_cast<int64_t>(p) * p * p});
  }

private:
  SplineMesh mesh_;
  std::vector<Tensor> weights_;
  Tensor index_;
};

template <typename F> void for_each_derivative(int degree, F f)
{
  int place = 0;
  for (int d = 0; d <= degree; ++d)
    for (int a = d; a >= 0; --a)
      for (int b = d - a; b >= 0; --b) f(place++, a, b, d - a - b);
}

Tensor gather_kernel(const Tensor &u, const Tensor &sequence, const Tensor &table, const Tensor &grid,
                     int64_t order, int64_t degree, IntArrayRef part)
{
  check_arguments(u, sequence, table, order);
  const auto mesh = spline_mesh(order, degree, part);
  const int64_t n = u.size(0), channels = grid.size(0), j = components(mesh.degree);
  TORCH_CHECK(grid.dim() == 4 && grid.size(1) == part[3] && grid.size(2) == part[4] &&
                  grid.size(3) == part[5],
              "the grid does not have the size of the part of the mesh");
  const Tensor in = grid.detach().contiguous(), x = u.detach().contiguous();
  if (n == 0) return at::zeros({n, channels, j}, in.options());
  if (!tabulated(table)) {
    const TensorStencil stencil(mesh, x, in.scalar_type());
    const Tensor points =
        in.reshape({channels, -1}).index_select(1, stencil.index()).reshape({channels, n, -1});
    std::vector<Tensor> columns;
    for_each_derivative(mesh.degree, [&](int, int a, int b, int c) {
      columns.push_back((points * stencil.product(a, b, c)).sum(2).t());
    });
    return at::stack(columns, 2);
  }
  Tensor out = at::empty({n, channels, j}, in.options());
  const Stencils atoms{n, x.const_data_ptr<double>(), sequence.const_data_ptr<int32_t>(),
                       table.const_data_ptr()};
  at::parallel_for(0, n, 256, [&](int64_t begin, int64_t end) {
    if (in.scalar_type() == at::kFloat)
      spline_kernels<float>().gather(mesh, atoms, in.const_data_ptr<float>(), channels, begin, end,
                                     out.mutable_data_ptr<float>());
    else
      spline_kernels<double>().gather(mesh, atoms, in.const_data_ptr<double>(), channels, begin, end,
                                      out.mutable_data_ptr<double>());
  });
  return out;
}

Tensor spread_kernel(const Tensor &u, const Tensor &sequence, const Tensor &table, const Tensor &values,
                     int64_t order, int64_t degree, IntArrayRef part)
{
  check_arguments(u, sequence, table, order);
  const auto mesh = spline_mesh(order, degree, part);
  const int64_t n = u.size(0), channels = values.size(1);
  TORCH_CHECK(values.dim() == 3 && values.size(0) == n && values.size(2) == components(mesh.degree),
              "expected values (n, channels, ", components(mesh.degree), ") to spread");
  const Tensor in = values.detach().contiguous(), x = u.detach().contiguous();
  Tensor out = at::zeros({channels, part[3], part[4], part[5]}, in.options());
  if (n == 0) return out;
  if (!tabulated(table)) {
    const TensorStencil stencil(mesh, x, in.scalar_type());
    Tensor points;
    for_each_derivative(mesh.degree, [&](int place, int a, int b, int c) {
      const Tensor term = in.select(2, place).t().unsqueeze(2) * stencil.product(a, b, c);
      points = points.defined() ? points + term : term;
    });
    out.reshape({channels, -1}).index_add_(1, stencil.index(), points.reshape({channels, -1}));
    return out;
  }
  const Stencils atoms{n, x.const_data_ptr<double>(), sequence.const_data_ptr<int32_t>(),
                       table.const_data_ptr()};
  // Every thread adds to planes of its own.
  at::parallel_for(0, mesh.size[0], n < 2048 ? mesh.size[0] : 1, [&](int64_t first, int64_t last) {
    if (in.scalar_type() == at::kFloat)
      spline_kernels<float>().spread(mesh, atoms, in.const_data_ptr<float>(), channels, first, last,
                                     out.mutable_data_ptr<float>());
    else
      spline_kernels<double>().spread(mesh, atoms, in.const_data_ptr<double>(), channels, first, last,
                                      out.mutable_data_ptr<double>());
  });
  return out;
}

using MeshOperator = Tensor(const Tensor &, const Tensor &, const Tensor &, const Tensor &, int64_t, int64_t,
                            IntArrayRef);

// Called through the dispatcher: the derivatives of the derivatives exist, too.
Tensor gather(const Tensor &u, const Tensor &sequence, const Tensor &table, const Tensor &grid, int64_t order,
              int64_t degree, IntArrayRef part)
{
  static auto op = find_operator<MeshOperator>("fixedpoint::mesh_gather");
  return op.call(u, sequence, table, grid, order, degree, part);
}

Tensor spread(const Tensor &u, const Tensor &sequence, const Tensor &table, const Tensor &values,
              int64_t order, int64_t degree, IntArrayRef part)
{
  static auto op = find_operator<MeshOperator>("fixedpoint::mesh_spread");
  return op.call(u, sequence, table, values, order, degree, part);
}

/// sum over channels and derivatives of weights (n, c, J) times the next derivative by each coordinate: (n,
/// 3), from derivatives (n, c, J') of one degree more.
Tensor slope(const Tensor &weights, const Tensor &derivatives, int64_t degree)
{
  std::vector<int64_t> next(3 * components(static_cast<int>(degree)));
  const int j = components(static_cast<int>(degree));
  std::vector<std::array<int, 3>> all(components(static_cast<int>(degree) + 1));
  for_each_derivative(static_cast<int>(degree) + 1,
                      [&](int place, int a, int b, int c) { all[place] = {a, b, c}; });
  for (int axis = 0; axis < 3; ++axis)
    for (int k = 0; k < j; ++k) {
      auto raised = all[k];
      ++raised[axis];
      next[axis * j + k] = std::find(all.begin(), all.end(), raised) - all.begin();
    }
  const Tensor index = at::tensor(next, at::TensorOptions().dtype(at::kLong).device(weights.device()));
  const Tensor raised = derivatives.index_select(2, index).reshape({weights.size(0), weights.size(1), 3, j});
  return (weights.unsqueeze(2) * raised).sum(IntArrayRef{1, 3}).to(at::kDouble);
}

template <bool spreads> struct MeshFunction : public torch::autograd::Function<MeshFunction<spreads>> {
  static Tensor forward(AutogradContext *ctx, const Tensor &u, const Tensor &sequence, const Tensor &table,
                        const Tensor &x, int64_t order, int64_t degree, IntArrayRef part)
  {
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({u, sequence, table, x});
    ctx->saved_data["order"] = order;
    ctx->saved_data["degree"] = degree;
    ctx->saved_data["part"] = part.vec();
    ctx->saved_data["moves"] = u.requires_grad();
    ctx->saved_data["varies"] = x.requires_grad();
    return spreads ? spread(u, sequence, table, x, order, degree, part)
                   : gather(u, sequence, table, x, order, degree, part);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads)
  {
    const auto saved = ctx->get_saved_variables();
    const Tensor &u = saved[0], &sequence = saved[1], &table = saved[2], &x = saved[3];
    const auto order = ctx->saved_data["order"].toInt(), degree = ctx->saved_data["degree"].toInt();
    const auto part = ctx->saved_data["part"].toIntVector();
    const bool moves = ctx->saved_data["moves"].toBool(), varies = ctx->saved_data["varies"].toBool();
    const Tensor &grad = grads[0];
    Tensor by_u, by_x;
    if constexpr (spreads) {
      const Tensor derivatives = gather(u, sequence, table, grad, order, moves ? degree + 1 : degree, part);
      if (moves) by_u = slope(x, derivatives, degree);
      if (varies) by_x = derivatives.narrow(2, 0, components(static_cast<int>(degree)));
    } else {
      if (moves) by_u = slope(grad, gather(u, sequence, table, x, order, degree + 1, part), degree);
      if (varies) by_x = spread(u, sequence, table, grad, order, degree, part);
    }
    return {by_u, Tensor(), Tensor(), by_x, Tensor(), Tensor(), Tensor()};
  }
};

template <bool spreads>
Tensor with_derivative(const Tensor &u, const Tensor &sequence, const Tensor &table, const Tensor &x,
                       int64_t order, int64_t degree, IntArrayRef part)
{
  return MeshFunction<spreads>::apply(u, sequence, table, x, order, degree, part);
}

const Operators operators(
    OperatorGroup::COMPUTATION, c10::DispatchKey::CompositeExplicitAutograd, __FILE__, [](OperatorList &add) {
      add("mesh_stencil(Tensor u, int order, int[] part, bool single) -> (Tensor, Tensor)", &stencil_kernel);
      add("mesh_gather(Tensor u, Tensor sequence, Tensor table, Tensor x, int order, int degree, int[] part) "
          "-> Tensor",
          &gather_kernel, &with_derivative<false>);
      add("mesh_spread(Tensor u, Tensor sequence, Tensor table, Tensor x, int order, int degree, int[] part) "
          "-> Tensor",
          &spread_kernel, &with_derivative<true>);
    });

}    // namespace

}    // namespace fixedpoint
