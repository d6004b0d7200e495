/// The metadata an exported model carries in its archive (written by fp_potential/export.py).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fixedpoint {

/// The `format_version` this plugin reads.
constexpr int64_t FORMAT_VERSION = 2;

struct Metadata {
  std::vector<std::string> elements;    ///< chemical symbols, in the order of the model's species
  double cutoff = 0.0;                  ///< Å
  int64_t comm_width = 0;    ///< largest number of values per atom in one ghost exchange, 0 = not said
  bool single_precision = false;
  // Defaults of the self-consistent loop.
  int64_t num_scf_steps = 100;
  double scf_tolerance = 1e-6;    ///< e
  double mixing_parameter = 0.25;
  std::string solver = "anderson";
};

/// Reads metadata.json.
/// Throws std::runtime_error that names what is wrong: not JSON, not of this project, a newer format, a
/// missing key.
Metadata parse_metadata(const std::string &text);

}    // namespace fixedpoint
