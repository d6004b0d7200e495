/// Adding operators to the library, and calling them.
#pragma once

#include <torch/library.h>

#include <memory>
#include <string>

namespace fixedpoint {

enum class OperatorGroup {
  COMMUNICATION,    ///< the first operators of the namespace; what they give depends on the run
  COMPUTATION
};

/// Takes operators one by one: add(schema, kernel), or add(schema, kernel, autograd) with a function that is
/// called where derivatives may be wanted.
class OperatorList {
public:
  OperatorList(OperatorGroup group, c10::DispatchKey key, const char *file);

  template <typename Kernel> void operator()(const char *schema, Kernel *kernel)
  {
    const auto name = define(schema);
    kernels_->impl(name.c_str(), kernel);
  }
  template <typename Kernel, typename Autograd>
  void operator()(const char *schema, Kernel *kernel, Autograd *autograd)
  {
    const auto name = define(schema);
    kernels_->impl(name.c_str(), kernel);
    derivatives_->impl(name.c_str(), autograd);
  }

  /// Until then all of them are taken back when the list goes out of scope.
  void keep();

private:
  std::string define(const char *schema);

  OperatorGroup group_;
  std::unique_ptr<torch::Library> definition_, kernels_, derivatives_;
};

/// Registers operators when the library is loaded, their kernels for `key`. Unlike TORCH_LIBRARY it throws
/// nothing out of dlopen when somebody else has registered them: the first failure is kept for
/// registration_error() (communication.h).
struct Operators {
  Operators(OperatorGroup group, c10::DispatchKey key, const char *file,
            void (*add_all)(OperatorList &add)) noexcept;
};

/// The operator of that name with the signature of a function. Called through the dispatcher, its derivatives
/// have derivatives.
template <typename Operator> auto find_operator(const char *name)
{
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Operator>();
}

}    // namespace fixedpoint
