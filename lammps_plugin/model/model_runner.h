/// Loads and runs an exported model. The only class of the plugin that knows how models are stored and
/// executed.
#pragma once

#include "model/interface.h"
#include "model/metadata.h"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace fixedpoint {

/// One configuration, this rank's part of it. Owned atoms come first, ghosts after them. Å, e, V.
struct ModelInput {
  int64_t n_owned = 0;
  int64_t n_total = 0;
  const double *positions = nullptr;    ///< [n_total][3]
  std::vector<int64_t> species;         ///< [n_total], index into Metadata::elements
  std::vector<int64_t> receivers;       ///< edges: owned atom i ...
  std::vector<int64_t> senders;         ///< ... and its neighbour j, owned or ghost
  std::array<double, 9> cell{};         ///< rows are the vectors of the cell
  std::array<bool, 3> pbc{true, true, true};
  bool constant_charge = true;
  double total_charge = 0.0;                 ///< e, at constant charge
  double fermi_level = 0.0;                  ///< V, at constant Fermi level
  std::array<double, 3> external_field{};    ///< V/Å, gradient of the potential; zero at the origin
  int64_t num_scf_steps = 0;
  double scf_tolerance = 0.0;
  double mixing_parameter = 0.0;
  std::string solver;
};

/// Energies in eV. Everything but the per-atom arrays is the same on every rank.
struct ModelOutput {
  double energy = 0.0, energy_local = 0.0, energy_nonlocal = 0.0, energy_coulomb = 0.0, energy_field = 0.0;
  double fermi_level = 0.0, total_charge = 0.0, residual = 0.0, adjoint_residual = 0.0;
  std::array<double, 3> dipole{};             ///< e Å, Cartesian, about the origin
  std::array<double, 3> mesh_net_force{};     ///< eV/Å, the sum of all forces that a mesh leaves
  std::array<double, 9> strain_gradient{};    ///< dE/d(strain), eV
  int64_t scf_steps = 0;
  Status status = Status::CONVERGED;
  bool conducts = true;    ///< whether there is a Fermi level
  /// How potentials were summed: index into KSPACE_METHODS, -1 if the archive does not say, and the points of
  /// the mesh, zero without one.
  std::array<int64_t, 4> kspace{-1, 0, 0, 0};
  std::vector<double> forces;             ///< [n_total][3], eV/Å, to be added to the owners of the ghosts
  std::vector<double> atomic_energies;    ///< [n_owned]
  std::vector<double> density;            ///< [n_owned][4]: q, d_y, d_z, d_x
  std::vector<double> potentials;         ///< [n_owned], V
};

class ModelRunner {
public:
  /// Throws std::runtime_error with one sentence that completes "cannot use the model file: ...".
  explicit ModelRunner(const std::string &archive);
  ~ModelRunner();

  const Metadata &metadata() const;

  /// Whether the archive carries checksums, which have been compared then.
  bool checked() const;

  /// Chooses where the model runs.
  /// @param name auto (CUDA if there is any), cpu or cuda
  /// @param local_rank rank within the node: ranks of a node take its GPUs in turn
  /// @return description of the device. Throws std::runtime_error if there is no CUDA and it was asked for.
  std::string set_device(const std::string &name, int local_rank);

  /// Chooses how potentials are summed; what is not given is as the archive has it.
  /// @param method one of KSPACE_METHODS
  /// @param accuracy relative rms force error of the mesh
  /// @param remove_net_force subtract the mean of the mesh's forces
  /// Throws std::runtime_error with the model's own message.
  void set_kspace(const std::optional<std::string> &method, std::optional<double> accuracy,
                  bool remove_net_force);

  /// What was chosen, or is in the archive.
  const std::string &kspace_method() const;
  double kspace_accuracy() const;

  /// Puts minus the total charge into a uniform slab between two heights (Å) along the normal of the periodic
  /// vectors; none takes it away. Throws std::runtime_error if the archive is too old for it.
  void set_jellium(const std::optional<std::array<double, 2>> &bounds);

  /// Throws std::runtime_error if the model's arguments are not those that run() gives it by their names.
  void check_arguments() const;

  /// Runs the model; collective. Throws std::runtime_error with the model's own message.
  /// @param threads number of threads torch may use
  void run(const ModelInput &input, int threads, ModelOutput &output);

private:
  struct Implementation;
  std::unique_ptr<Implementation> self_;
};

}    // namespace fixedpoint
