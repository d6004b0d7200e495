/// What the C++ and the Python half of fp_potential both know, as literal values: everything of the plugin
/// takes it from here, and tests/lammps/test_interface.py reads this file and compares it with Python's own.
#pragma once

#include <array>
#include <cstdint>

namespace fixedpoint {

/// The archives of fp_potential/export.py. Versions other than this one are refused.
constexpr auto FORMAT = "fp_potential";
constexpr int64_t FORMAT_VERSION = 2;
constexpr auto METADATA_FILE = "metadata.json";

/// Keys of the metadata.
namespace key {
constexpr auto FORMAT = "format";
constexpr auto FORMAT_VERSION = "format_version";
constexpr auto ELEMENTS = "elements";
constexpr auto CUTOFF = "cutoff";
constexpr auto COMM_WIDTH = "comm_width";
constexpr auto DTYPE = "dtype";
constexpr auto SCF = "scf";
}    // namespace key

/// Keys of its entry `scf`.
namespace scf_key {
constexpr auto NUM_SCF_STEPS = "num_scf_steps";
constexpr auto SCF_TOLERANCE = "scf_tolerance";
constexpr auto MIXING_PARAMETER = "mixing_parameter";
constexpr auto SOLVER = "solver";
}    // namespace scf_key

/// How the self-consistent loop ended.
enum class Status : int64_t {
  CONVERGED = 0,
  MAX_STEPS = 1,
  DIVERGED = 2,
  UNSTABLE = 3,
  NO_CHARGE_RESPONSE = 4
};

constexpr std::array DTYPES = {"float64", "float32"};
constexpr std::array SOLVERS = {"anderson", "linear"};
constexpr std::array KSPACE_METHODS = {"auto", "reciprocal", "mesh", "open"};

constexpr double LOOSEST_ACCURACY = 0.1;    ///< relative rms force error of the mesh
constexpr double LARGEST_MIXING = 1.0;
constexpr double THINNEST_SLAB = 0.1;    ///< of a jellium, Å

}    // namespace fixedpoint
