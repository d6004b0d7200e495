/// Keywords of `pair_style fixedpoint`.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace fixedpoint {

/// A number, or the name of an equal-style variable.
struct FieldComponent {
  double value = 0.0;
  std::string variable;
};

/// What is done where the simulation leaves the ranges of the training.
enum class Outside {
  ERROR,
  WARN,
  IGNORE
};

/// What the user said; what is not said comes from the model's metadata.
struct PairSettings {
  std::optional<double> total_charge;    ///< e; 0 if neither charge nor fermi is given
  std::optional<double> fermi_level;     ///< V
  std::optional<int64_t> num_scf_steps;
  std::optional<double> scf_tolerance;    ///< e
  std::optional<double> mixing_parameter;
  std::optional<std::string> solver;
  std::optional<std::array<FieldComponent, 3>> efield;    ///< physical electric field, V/Å
  std::optional<std::array<double, 3>> field_origin;      ///< where the potential of efield is zero, Å
  std::optional<std::array<double, 2>> jellium;           ///< heights of the faces of a compensating slab, Å
  std::optional<std::string> kspace;
  std::optional<double> kspace_accuracy;    ///< relative rms force error
  bool remove_net_force = false;            ///< of the mesh
  std::string device = "auto";
  bool error_on_nonconverged = true;
  bool write_q = true;    ///< the model's charges into LAMMPS' atom property q
  Outside outside = Outside::WARN;
};

/// The word after the keyword outside.
const char *name(Outside outside);

/// Reads the words after `pair_style fixedpoint`.
/// Throws std::invalid_argument with a message that names the keyword and what it expects.
PairSettings parse_pair_settings(int narg, char **arg);

}    // namespace fixedpoint
