#include "model/metadata.h"

#include "model/interface.h"

#include "json.h"

#include <algorithm>
#include <cctype>
#include <stdexcept>

namespace fixedpoint {

namespace {

using Json = LAMMPS_NS::json;

[[noreturn]] void fail(const std::string &message) { throw std::runtime_error(message); }

/// Says where a text is not JSON, and what of Python's JSON is none.
[[noreturn]] void fail_at(const std::string &source, std::size_t place)
{
  const auto in_word = [&](std::size_t k) {
    return std::isalpha(static_cast<unsigned char>(source[k])) || source[k] == '-';
  };
  std::size_t first = std::min(place, source.size()), last = first;
  while (first > 0 && in_word(first - 1)) --first;
  while (last < source.size() && in_word(last)) ++last;
  const auto word = source.substr(first, last - first);
  if (word == "NaN" || word == "Infinity" || word == "-Infinity")
    fail("its metadata holds a number that is not finite, " + word + " (character " + std::to_string(first) +
         "), which JSON does not have; export it again from its run folder with `fixedpoint export`");
  fail("its metadata is not valid JSON (character " + std::to_string(place) + ")");
}

Json parse_json(const std::string &source)
{
  try {
    return Json::parse(source);
  } catch (const Json::parse_error &e) {
    fail_at(source, e.byte > 0 ? e.byte - 1 : 0);
  }
}

const Json &required(const Json &object, const char *key)
{
  const auto value = object.find(key);
  if (value == object.end()) fail(std::string("its metadata lacks the key '") + key + "'");
  return *value;
}

template <typename Number> Number number(const Json &object, const char *key)
{
  const auto &value = required(object, key);
  if (!value.is_number()) fail(std::string("its metadata key '") + key + "' is not a number");
  return value.get<Number>();
}

std::string text(const Json &object, const char *key)
{
  const auto &value = required(object, key);
  if (!value.is_string()) fail(std::string("its metadata key '") + key + "' is not a string");
  return value.get<std::string>();
}

void check_format(const Json &root)
{
  const auto format = root.find(key::FORMAT);
  if (format == root.end() || *format != FORMAT)
    fail("it was not written by `fixedpoint export` (its metadata names another format)");
  const auto version = number<int64_t>(root, key::FORMAT_VERSION);
  const auto ours = std::to_string(FORMAT_VERSION);
  if (version > FORMAT_VERSION)
    fail("it has format version " + std::to_string(version) + " and this plugin reads up to " + ours +
         ": update fp-potential, or export the model with the older one");
  if (version < FORMAT_VERSION)
    fail("it has format version " + std::to_string(version) + " and this plugin reads " + ours +
         ": export it again from its run folder with `fixedpoint export`");
}

}    // namespace

Metadata parse_metadata(const std::string &source)
{
  const Json root = parse_json(source);
  check_format(root);

  Metadata out;
  const auto &elements = required(root, key::ELEMENTS);
  if (!elements.is_array() || elements.empty()) fail("its metadata lists no elements");
  for (const auto &element : elements) {
    if (!element.is_string()) fail("its metadata lists an element that is not a chemical symbol");
    out.elements.push_back(element.get<std::string>());
  }
  out.cutoff = number<double>(root, key::CUTOFF);
  if (!(out.cutoff > 0.0)) fail("its metadata has a cutoff that is not positive");
  const auto dtype = text(root, key::DTYPE);
  if (std::find(DTYPES.begin(), DTYPES.end(), dtype) == DTYPES.end())
    fail("its metadata has the dtype '" + dtype + "', expected float64 or float32");
  out.single_precision = dtype == "float32";
  if (root.contains(key::COMM_WIDTH)) out.comm_width = number<int64_t>(root, key::COMM_WIDTH);
  const auto &scf = required(root, key::SCF);
  out.num_scf_steps = number<int64_t>(scf, scf_key::NUM_SCF_STEPS);
  out.scf_tolerance = number<double>(scf, scf_key::SCF_TOLERANCE);
  out.mixing_parameter = number<double>(scf, scf_key::MIXING_PARAMETER);
  out.solver = text(scf, scf_key::SOLVER);
  return out;
}

}    // namespace fixedpoint
