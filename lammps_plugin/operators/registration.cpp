#include "operators/registration.h"

#include "operators/communication.h"

#include <exception>

namespace fixedpoint {

namespace {

using torch::Library;

/// Made at its first use: the operators of other files may be registered before anything of this one.
std::string &failure()
{
  static std::string reason;
  return reason;
}

void keep_failure(const std::string &reason)
{
  if (failure().empty()) failure() = reason;
}

std::unique_ptr<Library> library(Library::Kind kind, std::optional<c10::DispatchKey> key, const char *file)
{
  return std::make_unique<Library>(kind, "fixedpoint", key, file, __LINE__);
}

}    // namespace

OperatorList::OperatorList(OperatorGroup group, c10::DispatchKey key, const char *file) :
    group_(group),
    definition_(library(group == OperatorGroup::COMMUNICATION ? Library::DEF : Library::FRAGMENT,
                        std::nullopt, file)),
    kernels_(library(Library::IMPL, key, file)),
    derivatives_(library(Library::IMPL, c10::DispatchKey::Autograd, file))
{
}

std::string OperatorList::define(const char *schema)
{
  // Conservative: or else TorchScript computes what depends on constants only when it compiles, in a single
  // process, and stores that.
  definition_->def(torch::schema(schema, group_ == OperatorGroup::COMMUNICATION
                                             ? c10::AliasAnalysisKind::CONSERVATIVE
                                             : c10::AliasAnalysisKind::FROM_SCHEMA));
  const std::string text = schema;
  return text.substr(0, text.find('('));
}

void OperatorList::keep()
{
  // Never deleted: at the end of the process torch's dispatcher may be gone before this library.
  definition_.release();
  kernels_.release();
  derivatives_.release();
}

Operators::Operators(OperatorGroup group, c10::DispatchKey key, const char *file,
                     void (*add_all)(OperatorList &add)) noexcept
{
  try {
    OperatorList list(group, key, file);
    add_all(list);
    list.keep();
  } catch (const c10::Error &e) {
    keep_failure(e.what_without_backtrace());
  } catch (const std::exception &e) {
    keep_failure(e.what());
  }
}

const std::string &registration_error() { return failure(); }

}    // namespace fixedpoint
