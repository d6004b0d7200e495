/// What the C++ and the Python half of fp_potential both know, as literal values: everything of the plugin
/// takes it from here, and tests/lammps/test_interface.py reads this file and compares it with Python's own.
#pragma once

#include <array>
#include <cstdint>

namespace fixedpoint {

/// The archives of fp_potential/export.py. Versions other than this one are refused.
inline constexpr auto FORMAT = "fp_potential";
inline constexpr int64_t FORMAT_VERSION = 2;
inline constexpr auto METADATA_FILE = "metadata.json";
inline constexpr auto CHECKSUMS_FILE = "checksums.txt";

/// Keys of the metadata.
namespace key {
inline constexpr auto FORMAT = "format";
inline constexpr auto FORMAT_VERSION = "format_version";
inline constexpr auto ELEMENTS = "elements";
inline constexpr auto CUTOFF = "cutoff";
inline constexpr auto COMM_WIDTH = "comm_width";
inline constexpr auto DTYPE = "dtype";
inline constexpr auto SCF = "scf";
inline constexpr auto TRAINING = "training";
inline constexpr auto RANGES = "ranges";    ///< of TRAINING
}    // namespace key

/// Keys of the ranges of the training, `training/ranges`, all of which may be absent.
namespace range_key {
inline constexpr auto CHARGE_PER_ATOM = "charge_per_atom";
inline constexpr auto FERMI_LEVEL = "fermi_level";
inline constexpr auto FIELD = "field";
inline constexpr auto DISTANCES = "distances";
inline constexpr auto DENSITY = "density";
}    // namespace range_key

/// How much of its width, or of its largest value, a range is wider than what was in the training.
inline constexpr double WIDER = 0.5;
/// At least by this.
namespace range_floor {
inline constexpr double CHARGE_PER_ATOM = 0.02;    ///< e
inline constexpr double FERMI_LEVEL = 1.0;         ///< V
inline constexpr double FIELD = 0.05;              ///< V/Å
inline constexpr double DENSITY = 0.1;             ///< e and e Å
}    // namespace range_floor
/// Distances are short below this times the shortest of the training.
inline constexpr double NEARER = 0.85;

/// Keys of its entry `scf`.
namespace scf_key {
inline constexpr auto NUM_SCF_STEPS = "num_scf_steps";
inline constexpr auto SCF_TOLERANCE = "scf_tolerance";
inline constexpr auto MIXING_PARAMETER = "mixing_parameter";
inline constexpr auto SOLVER = "solver";
}    // namespace scf_key

/// How the self-consistent loop ended.
enum class Status : int64_t {
  CONVERGED = 0,
  MAX_STEPS = 1,
  DIVERGED = 2,
  UNSTABLE = 3,
  NO_CHARGE_RESPONSE = 4,
  NO_FERMI_LEVEL = 5
};

inline constexpr std::array DTYPES = {"float64", "float32"};
inline constexpr std::array SOLVERS = {"anderson", "linear"};
inline constexpr std::array KSPACE_METHODS = {"auto", "reciprocal", "mesh", "open"};    ///< by their numbers

inline constexpr double LOOSEST_ACCURACY = 0.1;      ///< relative rms force error of the mesh
inline constexpr double ATTAINABLE = 1e-14;          ///< residual that double precision reaches, e,
inline constexpr double ATTAINABLE_SINGLE = 1e-6;    ///< and that single precision does
inline constexpr double LARGEST_MIXING = 1.0;
inline constexpr double THINNEST_SLAB = 0.1;    ///< of a jellium, Å
inline constexpr double SAME_PLACE = 0.01;      ///< atoms nearer than this are in the same place, Å

}    // namespace fixedpoint
