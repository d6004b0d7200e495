/// Keywords of `pair_style fixedpoint`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace fixedpoint {

/// What the user said; what is not said comes from the model's metadata.
struct PairSettings {
  std::optional<double> total_charge;    ///< e; 0 if neither charge nor fermi is given
  std::optional<double> fermi_level;     ///< V
  std::optional<int64_t> num_scf_steps;
  std::optional<double> scf_tolerance;    ///< e
  std::optional<double> mixing_parameter;
  std::optional<std::string> solver;
  std::string device = "auto";
  bool error_on_nonconverged = true;
};

/// Reads the words after `pair_style fixedpoint`.
/// Throws std::invalid_argument with a message that names the keyword and what it expects.
PairSettings parse_pair_settings(int narg, char **arg);

}    // namespace fixedpoint
