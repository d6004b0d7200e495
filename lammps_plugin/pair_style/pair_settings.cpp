#include "pair_style/pair_settings.h"

#include "model/interface.h"

#include "utils.h"

#include <algorithm>
#include <cmath>
#include <locale>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace fixedpoint {

namespace {

constexpr std::array DEVICES = {"auto", "cpu", "cuda"};
constexpr std::array NET_FORCE = {"keep", "remove"};
constexpr std::array ON_NONCONVERGED = {"error", "warn"};
constexpr std::array OUTSIDE = {"error", "warn", "ignore"};    // in the order of Outside
constexpr std::array YES_NO = {"yes", "no"};

[[noreturn]] void fail(const std::string &message) { throw std::invalid_argument(message); }

/// "a or b or ..."
template <typename Choices> std::string any_of(const Choices &choices)
{
  return LAMMPS_NS::utils::join_words({choices.begin(), choices.end()}, " or ");
}

class Values;

/// A keyword of pair_style.
struct Keyword {
  const char *name;
  int values;    ///< number of words after it
  std::string expected;
  void (*read)(const Values &values, PairSettings &settings);
};

/// The words after a keyword.
class Values {
public:
  Values(const Keyword &keyword, char **first) : keyword_(keyword), words_(first, first + keyword.values) {}

  /// Refuses some of the words, those that are `wrong`.
  [[noreturn]] void refuse(const std::string &wrong, const std::string &expected) const
  {
    fail(fmt::format("the keyword {} expects {}, got {}", keyword_.name, expected, wrong));
  }
  [[noreturn]] void refuse(int k) const { refuse(quoted(k), keyword_.expected); }

  std::string quoted(int k = 0) const { return "'" + words_[k] + "'"; }

  double number(int k = 0) const
  {
    if (!LAMMPS_NS::utils::is_double(words_[k])) refuse(k);
    return converted<double>(k);
  }
  int64_t whole_number() const
  {
    if (!LAMMPS_NS::utils::is_integer(words_[0])) refuse(0);
    return converted<int64_t>(0);
  }
  template <std::size_t n> std::array<double, n> numbers() const
  {
    std::array<double, n> out;
    for (std::size_t k = 0; k < n; ++k) out[k] = number(static_cast<int>(k));
    return out;
  }
  /// A number above zero.
  double positive() const
  {
    const double value = number();
    if (!(value > 0.0)) refuse(0);
    return value;
  }
  template <typename Choices> std::string one_of(const Choices &choices) const
  {
    if (std::find(choices.begin(), choices.end(), words_[0]) == choices.end()) refuse(0);
    return words_[0];
  }
  /// A number, or an equal-style variable v_name.
  FieldComponent component(int k) const
  {
    if (words_[k].rfind("v_", 0) == 0 && words_[k].size() > 2) return {0.0, words_[k].substr(2)};
    return {number(k), {}};
  }

private:
  /// The value of a word with the form of a number; refuses what is beyond the range of the type. The decimal
  /// point is not that of the user's language.
  template <typename Number> Number converted(int k) const
  {
    std::istringstream in(words_[k]);
    in.imbue(std::locale::classic());
    Number value{};
    if (!(in >> value) || !std::isfinite(static_cast<double>(value))) refuse(k);
    return value;
  }

  const Keyword &keyword_;
  std::vector<std::string> words_;
};

void read_num_scf_steps(const Values &values, PairSettings &settings)
{
  const auto steps = values.whole_number();
  if (steps < 1) values.refuse(0);
  settings.num_scf_steps = steps;
}

void read_mixing_parameter(const Values &values, PairSettings &settings)
{
  const double mixing = values.positive();
  if (mixing > LARGEST_MIXING) values.refuse(0);
  settings.mixing_parameter = mixing;
}

void read_jellium(const Values &values, PairSettings &settings)
{
  const auto faces = values.numbers<2>();
  if (faces[1] - faces[0] < THINNEST_SLAB)
    values.refuse(values.quoted(0) + " and " + values.quoted(1),
                  fmt::format("the heights of the slab's lower and upper face, at least {:g} Angstrom apart",
                              THINNEST_SLAB));
  settings.jellium = faces;
}

void read_kspace_accuracy(const Values &values, PairSettings &settings)
{
  const double accuracy = values.positive();
  if (accuracy > LOOSEST_ACCURACY)
    values.refuse(values.quoted(), fmt::format("a relative force error of at most {:g}", LOOSEST_ACCURACY));
  settings.kspace_accuracy = accuracy;
}

void read_outside(const Values &values, PairSettings &settings)
{
  const auto word = values.one_of(OUTSIDE);
  settings.outside = static_cast<Outside>(std::find(OUTSIDE.begin(), OUTSIDE.end(), word) - OUTSIDE.begin());
}

const std::vector<Keyword> &keywords()
{
  using V = const Values &;
  using S = PairSettings &;
  static const std::vector<Keyword> all = {
      {"charge", 1, "the total charge of the cell in e", [](V v, S s) { s.total_charge = v.number(); }},
      {"fermi", 1, "the Fermi level in V", [](V v, S s) { s.fermi_level = v.number(); }},
      {"efield", 3, "three numbers (V/Angstrom) or variables v_name",
       [](V v, S s) { s.efield = {v.component(0), v.component(1), v.component(2)}; }},
      {"field_origin", 3, "three numbers (Angstrom)", [](V v, S s) { s.field_origin = v.numbers<3>(); }},
      {"jellium", 2, "two heights (Angstrom)", &read_jellium},
      {"num_scf_steps", 1, "a positive whole number", &read_num_scf_steps},
      {"scf_tolerance", 1, "a positive number", [](V v, S s) { s.scf_tolerance = v.positive(); }},
      {"mixing_parameter", 1, fmt::format("a number in (0, {:g}]", LARGEST_MIXING), &read_mixing_parameter},
      {"solver", 1, any_of(SOLVERS), [](V v, S s) { s.solver = v.one_of(SOLVERS); }},
      {"kspace", 1, any_of(KSPACE_METHODS), [](V v, S s) { s.kspace = v.one_of(KSPACE_METHODS); }},
      {"kspace_accuracy", 1, "a positive number", &read_kspace_accuracy},
      {"kspace_net_force", 1, any_of(NET_FORCE),
       [](V v, S s) { s.remove_net_force = v.one_of(NET_FORCE) == "remove"; }},
      {"device", 1, any_of(DEVICES), [](V v, S s) { s.device = v.one_of(DEVICES); }},
      {"on_nonconverged", 1, any_of(ON_NONCONVERGED),
       [](V v, S s) { s.error_on_nonconverged = v.one_of(ON_NONCONVERGED) == "error"; }},
      {"write_q", 1, any_of(YES_NO), [](V v, S s) { s.write_q = v.one_of(YES_NO) == "yes"; }},
      {"outside", 1, any_of(OUTSIDE), &read_outside},
  };
  return all;
}

const Keyword &find_keyword(const std::string &name)
{
  std::vector<std::string> names;
  for (const auto &keyword : keywords()) {
    if (name == keyword.name) return keyword;
    names.emplace_back(keyword.name);
  }
  fail(fmt::format("unknown keyword '{}'; the keywords are {}", name,
                   LAMMPS_NS::utils::join_words(names, ", ")));
}

void check_together(const PairSettings &settings)
{
  if (settings.total_charge && settings.fermi_level)
    fail("the keywords charge and fermi exclude each other: either the total charge is fixed or the Fermi "
         "level");
  if (settings.field_origin && settings.jellium)
    fail("the keywords field_origin and jellium exclude each other: with jellium the potential of efield is "
         "zero in the middle of the slab");
  if (settings.remove_net_force && settings.jellium)
    fail("the keywords kspace_net_force remove and jellium exclude each other: the slab pulls at the atoms, "
         "whose net force is not zero");
  if (settings.field_origin && !settings.efield)
    fail("the keyword field_origin is where the potential of efield is zero, and there is no efield");
}

}    // namespace

const char *name(Outside outside) { return OUTSIDE[static_cast<std::size_t>(outside)]; }

PairSettings parse_pair_settings(int narg, char **arg)
{
  PairSettings out;
  for (int i = 0; i < narg;) {
    const Keyword &keyword = find_keyword(arg[i++]);
    if (i + keyword.values > narg)
      fail(fmt::format("the keyword {} needs {}", keyword.name,
                       keyword.values == 1 ? "a value" : fmt::format("{} values", keyword.values)));
    keyword.read(Values(keyword, arg + i), out);
    i += keyword.values;
  }
  check_together(out);
  return out;
}

}    // namespace fixedpoint
