/// The metadata an exported model carries in its archive (written by fp_potential/export.py).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace fixedpoint {

/// What the frames of the training had; what is absent is not known.
struct TrainingRanges {
  std::optional<std::array<double, 2>> charge_per_atom;    ///< smallest and largest, e
  std::optional<std::array<double, 2>> fermi_level;        ///< smallest and largest, V
  std::optional<double> field;                             ///< largest magnitude, V/Å
  std::vector<double> distances;    ///< [elements][elements] smallest, Å, 0: not known; empty: none known

  std::vector<std::array<double, 2>> density;    ///< [elements] largest |q|, e, and |d|, e Å, <0: not known

  bool any() const
  {
    return charge_per_atom || fermi_level || field || !distances.empty() || !density.empty();
  }
};

struct Metadata {
  std::vector<std::string> elements;    ///< chemical symbols, in the order of the model's species
  double cutoff = 0.0;                  ///< Å
  int64_t comm_width = 0;    ///< largest number of values per atom in one ghost exchange, 0 = not said
  bool single_precision = false;
  // Defaults of the self-consistent loop.
  int64_t num_scf_steps = 0;
  double scf_tolerance = 0.0;    ///< e
  double mixing_parameter = 0.0;
  std::string solver;
  TrainingRanges training;
};

/// Reads metadata.json.
/// Throws std::runtime_error that names what is wrong: not JSON, not of this project, a newer format, a
/// missing key.
Metadata parse_metadata(const std::string &text);

}    // namespace fixedpoint
