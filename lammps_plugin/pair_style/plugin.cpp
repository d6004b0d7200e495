/// The library that LAMMPS loads at the start of every run in its environment. It registers the pair style
/// and opens what is behind it, the implementation and torch, only when a script uses the style.

#include "pair_style/agree.h"

#include "lammps.h"

#include <dlfcn.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

#if __has_include("version.h")
#include "version.h"
#endif

using namespace LAMMPS_NS;

namespace {

/// The record LAMMPS' plugin interface expects, as documented in its programmer guide
/// (declared here because packages of LAMMPS do not always carry lammpsplugin.h).
struct PluginRecord {
  const char *version;
  const char *style;
  const char *name;
  const char *info;
  const char *author;
  union {
    void *(*v1)(void *);                  // pair: (LAMMPS *)
    void *(*v2)(void *, int, char **);    // fix, compute, command: (LAMMPS *, narg, arg)
  } creator;
  void *handle;
};
using Register = void (*)(PluginRecord *, void *);
using Creator = void *(*)(void *);

// Not *plugin.so: LAMMPS must not take it for a plugin.
constexpr const char *IMPLEMENTATION = "libfixedpoint_pair.so";

/// Path of the implementation, beside this library. Called at load time: a relative path does not survive
/// `shell cd` in a script.
std::filesystem::path beside_plugin()
{
  Dl_info self;
  if (dladdr(reinterpret_cast<void *>(&beside_plugin), &self) == 0) return IMPLEMENTATION;
  std::error_code ignored;
  return std::filesystem::absolute(self.dli_fname, ignored).replace_filename(IMPLEMENTATION);
}

std::filesystem::path implementation;

#ifdef RTLD_DEEPBIND
/// Whether the process uses another definition of `symbol` than that of its library.
bool replaced(const char *symbol, const char *library)
{
  void *handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
  const bool other = handle == nullptr || dlsym(handle, symbol) != dlsym(RTLD_DEFAULT, symbol);
  if (handle != nullptr) dlclose(handle);
  return other;
}
#endif

/// Loads torch bound to its own BLAS. Otherwise the symbols of the process come first, and with LAMMPS'
/// reference BLAS a step takes half as long again. Does nothing if torch is loaded already.
void load_torch()
{
#ifdef RTLD_DEEPBIND
  if (dlsym(RTLD_DEFAULT, "dgemm_") == nullptr) return;
  // Torch would miss these replacements as well, and two allocators or sets of streams in a process crash it.
  if (replaced("malloc", "libc.so.6") || replaced("_ZSt4cerr", "libstdc++.so.6")) return;
  // No check: where this fails, so does the implementation, which links torch, and with the same reason.
  dlopen("libtorch_cpu.so", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
#endif
}

/// Finds the function that creates the pair style. Returns an empty error, or the reason why it cannot.
std::string load_implementation(Creator &creator)
{
  load_torch();
  void *library = dlopen(implementation.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library != nullptr) creator = reinterpret_cast<Creator>(dlsym(library, "fixedpoint_create_pair"));
  if (creator != nullptr) return {};
  const char *reason = dlerror();
  return std::string("cannot be loaded: ") + (reason ? reason : implementation.c_str()) +
         ". Install fp_potential again, or build its plugin again, with the torch of this environment";
}

void *create_pair(void *lmp)
{
  static Creator creator = nullptr;
  std::string failure;
  if (creator == nullptr) failure = load_implementation(creator);
  fixedpoint::agree(static_cast<LAMMPS *>(lmp), failure);
  return creator(lmp);
}

}    // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void *lmp, void *handle,
                                                                         void *register_function)
{
  PluginRecord record{};
#if defined(LAMMPS_VERSION)
  record.version = LAMMPS_VERSION;
#else
  record.version = static_cast<LAMMPS *>(lmp)->version;
#if defined(FIXEDPOINT_LAMMPS_VERSION)
  // C++ objects of another version have another layout: nothing good can come of using them.
  if (static_cast<LAMMPS *>(lmp)->num_ver != FIXEDPOINT_LAMMPS_VERSION) {
    std::fprintf(stderr,
                 "The fixedpoint plugin was built for another version of LAMMPS (%d) and is not loaded\n",
                 FIXEDPOINT_LAMMPS_VERSION);
    return;
  }
#endif
#endif
  implementation = beside_plugin();
  record.style = "pair";
  record.name = "fixedpoint";
  record.info = "self-consistent machine-learned potential (fp_potential)";
  record.author = "The fp_potential authors";
  record.creator.v1 = &create_pair;
  record.handle = handle;
  reinterpret_cast<Register>(register_function)(&record, lmp);
}
