#include "model/model_runner.h"

#include "model/archive.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/AutogradState.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <dlfcn.h>
#include <malloc.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace fixedpoint {

namespace {

using at::Tensor;

/// The sentence that matters of an error of torch: no stack traces.
std::string brief(const std::string &text)
{
  // An exception raised by scripted code ends a trace; other errors begin with their message.
  static const char *markers[] = {"RuntimeError: ", "builtins.ValueError: ", "ValueError: ", "Error: "};
  if (text.find("TorchScript interpreter") != std::string::npos)
    for (const auto *marker : markers) {
      const auto at = text.rfind(marker);
      if (at != std::string::npos) return brief(text.substr(at + std::string(marker).size()));
    }
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line))
    if (line.find_first_not_of(" \t\r") != std::string::npos) return line.substr(0, 500);
  return "unknown error";
}

template <typename F> auto translated(F &&f) -> decltype(f())
{
  try {
    return f();
  } catch (const c10::Error &e) {
    throw std::runtime_error(brief(e.what_without_backtrace()));
  } catch (const std::exception &e) {
    throw std::runtime_error(brief(e.what()));
  }
}

/// Settings of torch for the duration of a call; the process may be a user's Python with settings of its own.
class CallScope {
public:
  explicit CallScope(int threads) :
      grad_(true), optimizer_(false), threads_(at::get_num_threads()),
      multithreading_(c10::AutogradState::get_tls_state().get_multithreading_enabled())
  {
    if (threads > 0 && threads != threads_) at::set_num_threads(threads);
    // One thread runs the whole backward pass: communication is possible only there.
    c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
  }
  ~CallScope()
  {
    c10::AutogradState::get_tls_state().set_multithreading_enabled(multithreading_);
    if (at::get_num_threads() != threads_) at::set_num_threads(threads_);
  }
  CallScope(const CallScope &) = delete;
  CallScope &operator=(const CallScope &) = delete;

private:
  c10::AutoGradMode grad_;
  // Profiling and optimising the code costs seconds in the first calls and gains less than a tenth later.
  torch::jit::GraphOptimizerEnabledGuard optimizer_;
  int threads_;
  bool multithreading_;
};

/// LAMMPS links only the CPU half of torch; the CUDA half registers itself when it is loaded.
void load_cuda_library()
{
  Dl_info info;
  if (dladdr(reinterpret_cast<void *>(&at::get_num_threads), &info) == 0 || info.dli_fname == nullptr) return;
  const auto path = std::filesystem::path(info.dli_fname).parent_path() / "libtorch_cuda.so";
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
}

/// Keeps freed memory in the process: a force call allocates and frees the same large arrays every time, and
/// returning them to the system costs a page fault per 4 kB, about a tenth of a step.
void keep_memory()
{
#ifdef __GLIBC__
  constexpr int limit = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, limit);
  mallopt(M_TRIM_THRESHOLD, limit);
  mallopt(M_TOP_PAD, 1 << 26);
#endif
}

using Result = c10::Dict<c10::IValue, c10::IValue>;

Tensor entry(const Result &result, const char *key)
{
  if (!result.contains(key)) throw std::runtime_error(std::string("the model returned no '") + key + "'");
  return result.at(key).toTensor();
}

template <typename Container>
void copy_out(const Result &result, const char *key, Container &out, std::size_t expected)
{
  const Tensor t = entry(result, key).detach().to(at::kCPU, at::kDouble).contiguous();
  if (static_cast<std::size_t>(t.numel()) != expected)
    throw std::runtime_error("the model returned " + std::to_string(t.numel()) + " values for '" + key +
                             "', expected " + std::to_string(expected));
  if constexpr (requires { out.resize(expected); }) out.resize(expected);
  std::copy_n(t.data_ptr<double>(), expected, out.data());
}

/// Numbers of the result, the same on every rank.
constexpr std::pair<const char *, double ModelOutput::*> SCALARS[] = {
    {"energy", &ModelOutput::energy},
    {"energy_local", &ModelOutput::energy_local},
    {"energy_nonlocal", &ModelOutput::energy_nonlocal},
    {"energy_coulomb", &ModelOutput::energy_coulomb},
    {"energy_field", &ModelOutput::energy_field},
    {"fermi_level", &ModelOutput::fermi_level},
    {"total_charge", &ModelOutput::total_charge},
    {"residual", &ModelOutput::residual},
    {"adjoint_residual", &ModelOutput::adjoint_residual},
};

void read_result(const Result &result, const ModelInput &in, ModelOutput &out)
{
  for (const auto &[key, member] : SCALARS) out.*member = entry(result, key).to(at::kDouble).item<double>();
  out.scf_steps = entry(result, "scf_steps").item<int64_t>();
  out.status = static_cast<Status>(entry(result, "status").item<int64_t>());
  // Archives of earlier versions do not say; their charges always follow a level.
  out.conducts = !result.contains("conducts") || entry(result, "conducts").item<bool>();
  copy_out(result, "dipole", out.dipole, 3);
  out.kspace = {-1, 0, 0, 0};
  if (result.contains("kspace")) {
    const Tensor chosen = entry(result, "kspace").to(at::kCPU, at::kLong).contiguous();
    std::copy_n(chosen.data_ptr<int64_t>(), std::min<int64_t>(chosen.numel(), 4), out.kspace.data());
  }
  out.mesh_net_force = {};
  if (result.contains("mesh_net_force")) copy_out(result, "mesh_net_force", out.mesh_net_force, 3);
  copy_out(result, "strain_gradient", out.strain_gradient, 9);
  copy_out(result, "forces", out.forces, 3 * static_cast<std::size_t>(in.n_total));
  copy_out(result, "atomic_energies", out.atomic_energies, static_cast<std::size_t>(in.n_owned));
  copy_out(result, "density", out.density, 4 * static_cast<std::size_t>(in.n_owned));
  copy_out(result, "potentials", out.potentials, static_cast<std::size_t>(in.n_owned));
}

/// The arguments of the model's forward by their names; their order is that of the archive.
torch::jit::Kwargs arguments_of(const ModelInput &in, at::Device device, at::ScalarType dtype)
{
  const auto real = at::TensorOptions().dtype(dtype).device(device);
  const auto integer = at::TensorOptions().dtype(at::kLong);
  const auto edges = static_cast<int64_t>(in.receivers.size());
  // from_blob does not copy; `to` does where device or dtype differ. Arrays without elements have no address.
  const auto view = [](const void *data, at::IntArrayRef sizes, at::ScalarType type) {
    if (c10::multiply_integers(sizes) == 0) return at::empty(sizes, at::TensorOptions().dtype(type));
    return at::from_blob(const_cast<void *>(data), sizes, at::TensorOptions().dtype(type));
  };
  const auto number = [&](double x) { return at::full({1}, x, real); };
  Tensor edge_index = at::empty({2, edges}, integer);
  std::copy(in.receivers.begin(), in.receivers.end(), edge_index.data_ptr<int64_t>());
  std::copy(in.senders.begin(), in.senders.end(), edge_index.data_ptr<int64_t>() + edges);
  Tensor pbc = at::empty({1, 3}, at::kBool);
  for (int d = 0; d < 3; ++d) pbc[0][d] = in.pbc[d];
  return {
      {"positions", view(in.positions, {in.n_total, 3}, at::kDouble).to(real)},
      {"species", view(in.species.data(), {in.n_total}, at::kLong).to(device)},
      {"edge_index", edge_index.to(device)},
      {"edge_shifts", at::zeros({1, 3}, real).expand({edges, 3})},    // ghosts are images
      {"batch", at::zeros({in.n_owned}, integer.device(device))},
      {"cell", view(in.cell.data(), {1, 3, 3}, at::kDouble).to(real)},
      {"pbc", pbc.to(device)},
      {"total_charge", number(in.total_charge)},
      {"fermi_level", number(in.fermi_level)},
      {"external_field", view(in.external_field.data(), {1, 3}, at::kDouble).to(real)},
      {"distributed", true},
      {"num_scf_steps", in.num_scf_steps},
      {"scf_tolerance", in.scf_tolerance},
      {"mixing_parameter", in.mixing_parameter},
      {"solver", in.solver},
      {"constant_charge", in.constant_charge},
      {"use_autograd_forces", true},                   // forces with the response of the density
      {"initial_density", at::zeros({0, 4}, real)},    // from the local guess
      {"initial_level", at::zeros({0}, real)},
  };
}

/// The names in one set and not in the other.
std::string without(const std::set<std::string> &names, const std::set<std::string> &others)
{
  std::string out;
  for (const auto &name : names)
    if (!others.count(name)) out += (out.empty() ? "" : ", ") + name;
  return out;
}

}    // namespace

struct ModelRunner::Implementation {
  Metadata metadata;
  bool checked = false;
  torch::jit::Module module;
  at::Device device = at::kCPU;
  std::string kspace;              // of the archive
  double kspace_accuracy = 0.0;    // of the archive
  std::string chosen_kspace;
  double chosen_accuracy = 0.0;

  torch::jit::Kwargs arguments(const ModelInput &in) const
  {
    return arguments_of(in, device, metadata.single_precision ? at::kFloat : at::kDouble);
  }

  /// Calls a method that archives of older versions do not have, which matters only if it was asked for.
  void call(const char *name, bool asked, const char *what, std::vector<c10::IValue> arguments)
  {
    const auto method = module.find_method(name);
    if (method)
      translated([&] { (*method)(std::move(arguments)); });
    else if (asked)
      throw std::runtime_error(
          std::string("the model file was written by a version of fp-potential without ") + what +
          "; export it again from its run folder with `fixedpoint export`");
  }
};

ModelRunner::ModelRunner(const std::string &archive) : self_(std::make_unique<Implementation>())
{
  translated([&] {
    const auto contents = read_contents(archive);
    self_->checked = contents.checked;
    self_->metadata = parse_metadata(contents.metadata);
  });
  try {
    std::istringstream in(archive);
    self_->module = translated([&] { return torch::jit::load(in, at::kCPU); });
  } catch (const std::exception &e) {
    throw std::runtime_error(std::string("its code cannot be loaded by this version of torch: ") + e.what());
  }
  self_->module.eval();
  if (self_->module.find_method("set_kspace")) {
    const auto own = self_->module.attr("model").toModule().attr("electrostatics").toModule();
    self_->kspace = own.attr("method").toStringRef();
    self_->kspace_accuracy = own.attr("accuracy").toDouble();
  }
  keep_memory();
}

ModelRunner::~ModelRunner() = default;

const Metadata &ModelRunner::metadata() const { return self_->metadata; }
bool ModelRunner::checked() const { return self_->checked; }

std::string ModelRunner::set_device(const std::string &name, int local_rank)
{
  return translated([&]() -> std::string {
    int count = 0;
    if (name != "cpu") {
      load_cuda_library();
      if (at::hasCUDA()) count = static_cast<int>(at::detail::getCUDAHooks().deviceCount());
    }
    if (name == "cuda" && count == 0)
      throw std::runtime_error(
          "device cuda was asked for, but this torch finds no CUDA device; use device cpu or "
          "install a CUDA build of torch");
    self_->device =
        count > 0 ? at::Device(at::kCUDA, static_cast<at::DeviceIndex>(local_rank % count)) : at::kCPU;
    self_->module.to(self_->device);
    return self_->device.str();
  });
}

void ModelRunner::set_kspace(const std::optional<std::string> &method, std::optional<double> accuracy,
                             bool remove_net_force)
{
  const bool asked = method || accuracy || remove_net_force;
  self_->chosen_kspace = method.value_or(self_->kspace);
  self_->chosen_accuracy = accuracy.value_or(self_->kspace_accuracy);
  self_->call("set_kspace", asked, "a choice of the k-space method",
              {self_->chosen_kspace, self_->chosen_accuracy, remove_net_force});
}

const std::string &ModelRunner::kspace_method() const { return self_->chosen_kspace; }
double ModelRunner::kspace_accuracy() const { return self_->chosen_accuracy; }

void ModelRunner::set_jellium(const std::optional<std::array<double, 2>> &bounds)
{
  c10::List<double> faces;
  if (bounds)
    for (const double face : *bounds) faces.push_back(face);
  self_->call("set_jellium", bounds.has_value(), "a compensating jellium", {faces});
}

void ModelRunner::check_arguments() const
{
  std::set<std::string> given, taken, needed;
  for (const auto &argument : self_->arguments({})) given.insert(argument.first);
  if (const auto forward = self_->module.find_method("forward"))
    for (const auto &argument : forward->function().getSchema().arguments()) {
      if (argument.name() == "self") continue;
      taken.insert(argument.name());
      if (!argument.default_value()) needed.insert(argument.name());
    }
  if (const auto names = without(needed, given); !names.empty())
    throw std::runtime_error("the model file takes arguments that this plugin does not know (" + names +
                             "); update fp-potential, or export the model with the version of this plugin");
  if (const auto names = without(given, taken); !names.empty())
    throw std::runtime_error("the model file does not take arguments that this plugin gives it (" + names +
                             "); export it again from its run folder with `fixedpoint export`");
}

void ModelRunner::run(const ModelInput &in, int threads, ModelOutput &out)
{
  const CallScope scope(threads);
  translated([&] {
    const Result result = self_->module.forward({}, self_->arguments(in)).toGenericDict();
    read_result(result, in, out);
  });
}

}    // namespace fixedpoint
