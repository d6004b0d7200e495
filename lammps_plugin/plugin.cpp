/// Registration with LAMMPS: the function `lammpsplugin_init` that LAMMPS looks for in a plugin.

#include "pair_fixedpoint.h"

#include "error.h"
#include "lammps.h"

#include <cstdio>

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

void *create_pair(void *lmp) { return new PairFixedPoint(static_cast<LAMMPS *>(lmp)); }

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
  record.style = "pair";
  record.name = "fixedpoint";
  record.info = "self-consistent machine-learned potential (fp_potential)";
  record.author = "The fp_potential authors";
  record.creator.v1 = &create_pair;
  record.handle = handle;
  reinterpret_cast<Register>(register_function)(&record, lmp);
}
