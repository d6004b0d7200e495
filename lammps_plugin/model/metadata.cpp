#include "model/metadata.h"

#include "model/json_reader.h"

#include <stdexcept>

namespace fixedpoint {

namespace {

const Json &required(const Json &object, const std::string &key)
{
  const auto *value = object.find(key);
  if (value == nullptr) throw std::runtime_error("its metadata lacks the key '" + key + "'");
  return *value;
}

double number(const Json &object, const std::string &key)
{
  const auto &value = required(object, key);
  if (value.kind != Json::NUMBER) throw std::runtime_error("its metadata key '" + key + "' is not a number");
  return value.number;
}

std::string text(const Json &object, const std::string &key)
{
  const auto &value = required(object, key);
  if (value.kind != Json::STRING) throw std::runtime_error("its metadata key '" + key + "' is not a string");
  return value.text;
}

}    // namespace

Metadata parse_metadata(const std::string &source)
{
  const Json root = parse_json(source);
  const auto *format = root.find("format");
  if (format == nullptr || format->text != "fp_potential")
    throw std::runtime_error("it was not written by `fixedpoint export` (its metadata names another format)");
  const auto version = static_cast<int64_t>(number(root, "format_version"));
  if (version > FORMAT_VERSION)
    throw std::runtime_error("it has format version " + std::to_string(version) +
                             " and this plugin reads up to " + std::to_string(FORMAT_VERSION) +
                             ": update fp-potential, or export the model with the older one");
  if (version < FORMAT_VERSION)
    throw std::runtime_error("it has format version " + std::to_string(version) + " and this plugin reads " +
                             std::to_string(FORMAT_VERSION) +
                             ": export it again from its run folder with `fixedpoint export`");

  Metadata out;
  const auto &elements = required(root, "elements");
  for (const auto &element : elements.items) out.elements.push_back(element.text);
  if (out.elements.empty()) throw std::runtime_error("its metadata lists no elements");
  out.cutoff = number(root, "cutoff");
  if (!(out.cutoff > 0.0)) throw std::runtime_error("its metadata has a cutoff that is not positive");
  const auto dtype = text(root, "dtype");
  if (dtype != "float64" && dtype != "float32")
    throw std::runtime_error("its metadata has the dtype '" + dtype + "', expected float64 or float32");
  out.single_precision = dtype == "float32";
  if (root.find("comm_width")) out.comm_width = static_cast<int64_t>(number(root, "comm_width"));
  const auto &scf = required(root, "scf");
  out.num_scf_steps = static_cast<int64_t>(number(scf, "num_scf_steps"));
  out.scf_tolerance = number(scf, "scf_tolerance");
  out.mixing_parameter = number(scf, "mixing_parameter");
  out.solver = text(scf, "solver");
  return out;
}

}    // namespace fixedpoint
