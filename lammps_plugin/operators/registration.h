/// Adding operators to the library, and calling them.
#pragma once

#include <torch/library.h>

#include <memory>

namespace fixedpoint {

/// Adds operators to those of communication.cpp when the library is loaded: f(definition, kernels,
/// derivatives), with kernels for `key`. Like the registration there it throws nothing out of dlopen:
/// communication.cpp reports why operators could not be registered. The libraries are never deleted: at the
/// end of the process torch's dispatcher may be gone before.
struct MoreOperators {
  template <typename F> MoreOperators(c10::DispatchKey key, const char *file, F &&f) noexcept
  {
    try {
      using torch::Library;
      auto add = [&](Library::Kind kind, std::optional<c10::DispatchKey> for_key) {
        return std::make_unique<Library>(kind, "fixedpoint", for_key, file, __LINE__);
      };
      auto definition = add(Library::FRAGMENT, std::nullopt);
      auto kernels = add(Library::IMPL, key);
      auto derivatives = add(Library::IMPL, c10::DispatchKey::Autograd);
      f(*definition, *kernels, *derivatives);
      definition.release();
      kernels.release();
      derivatives.release();
    } catch (const std::exception &) {
    }
  }
};

/// The operator of that name with the signature of a function. Called through the dispatcher, its derivatives
/// have derivatives.
template <typename Operator> auto find_operator(const char *name)
{
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Operator>();
}

}    // namespace fixedpoint
