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

const auto RANGES_PLACE = std::string(key::TRAINING) + "/" + key::RANGES;

[[noreturn]] void fail_in_ranges(const std::string &name, const std::string &expected)
{
  fail("its metadata key '" + RANGES_PLACE + "' has a '" + name + "' that is not " + expected);
}

std::optional<std::array<double, 2>> range(const Json &object, const char *name)
{
  const auto value = object.find(name);
  if (value == object.end()) return {};
  if (!value->is_array() || value->size() != 2 || !(*value)[0].is_number() || !(*value)[1].is_number() ||
      (*value)[0].get<double>() > (*value)[1].get<double>())
    fail_in_ranges(name, "a smallest and a largest number");
  return std::array<double, 2>{(*value)[0].get<double>(), (*value)[1].get<double>()};
}

/// Of {"O-H": Å, …}.
std::vector<double> smallest_distances(const Json &object, const std::vector<std::string> &elements)
{
  const auto pairs = object.find(range_key::DISTANCES);
  if (pairs == object.end()) return {};
  if (!pairs->is_object()) fail_in_ranges(range_key::DISTANCES, "a list of pairs of elements");
  const auto n = elements.size();
  std::vector<double> out(n * n, 0.0);
  for (const auto &[name, value] : pairs->items()) {
    const auto dash = std::min(name.find('-'), name.size());
    const auto place = [&](const std::string &symbol) {
      return static_cast<std::size_t>(std::find(elements.begin(), elements.end(), symbol) - elements.begin());
    };
    const auto one = place(name.substr(0, dash)), other = place(name.substr(std::min(dash + 1, name.size())));
    if (one == n || other == n || !value.is_number() || !(value.get<double>() > 0.0))
      fail_in_ranges(std::string(range_key::DISTANCES) + "/" + name,
                     "a positive distance of two of the model's elements");
    out[one * n + other] = out[other * n + one] = value.get<double>();
  }
  return out;
}

/// Of {"O": [e, e Å], …}.
std::vector<std::array<double, 2>> largest_multipoles(const Json &object,
                                                      const std::vector<std::string> &elements)
{
  const auto entry = object.find(range_key::DENSITY);
  if (entry == object.end()) return {};
  if (!entry->is_object()) fail_in_ranges(range_key::DENSITY, "a list of elements");
  std::vector<std::array<double, 2>> out(elements.size(), {-1.0, -1.0});
  for (std::size_t k = 0; k < elements.size(); ++k) {
    const auto value = entry->find(elements[k]);
    if (value == entry->end()) continue;
    if (!value->is_array() || value->size() != 2 || !(*value)[0].is_number() || !(*value)[1].is_number())
      fail_in_ranges(std::string(range_key::DENSITY) + "/" + elements[k], "a largest charge and dipole");
    out[k] = {(*value)[0].get<double>(), (*value)[1].get<double>()};
  }
  return out;
}

/// Null if there are none.
Json find_ranges(const Json &root)
{
  const auto training = root.find(key::TRAINING);
  if (training == root.end() || !training->is_object()) return {};
  const auto entry = training->find(key::RANGES);
  return entry == training->end() ? Json() : *entry;
}

TrainingRanges training_ranges(const Json &root, const std::vector<std::string> &elements)
{
  TrainingRanges out;
  const Json ranges = find_ranges(root);
  const auto *entry = &ranges;
  if (entry->is_null()) return out;
  if (!entry->is_object()) fail("its metadata key '" + RANGES_PLACE + "' is not a list of names and ranges");
  out.charge_per_atom = range(*entry, range_key::CHARGE_PER_ATOM);
  out.density = largest_multipoles(*entry, elements);
  out.fermi_level = range(*entry, range_key::FERMI_LEVEL);
  if (entry->contains(range_key::FIELD)) {
    const auto &field = (*entry)[range_key::FIELD];
    if (!field.is_number() || field.get<double>() < 0.0)
      fail_in_ranges(range_key::FIELD, "a magnitude of at least zero");
    out.field = field.get<double>();
  }
  out.distances = smallest_distances(*entry, elements);
  return out;
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
  out.training = training_ranges(root, out.elements);
  return out;
}

}    // namespace fixedpoint
