#include "pair_style/pair_settings.h"

#include <cmath>
#include <cstdlib>
#include <locale>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace fixedpoint {

namespace {

constexpr const char *KEYWORDS =
    "charge, fermi, efield, field_origin, jellium, num_scf_steps, scf_tolerance, mixing_parameter, solver, "
    "kspace, kspace_accuracy, kspace_net_force, device, on_nonconverged";
constexpr double LARGEST_ACCURACY = 0.1;    // a larger error is none that a mesh could be chosen by
constexpr double THINNEST_SLAB = 0.1;       // Å

[[noreturn]] void fail(const std::string &message) { throw std::invalid_argument(message); }

template <typename T> T read(const std::string &keyword, const std::string &word, const char *expected)
{
  std::istringstream in(word);
  in.imbue(std::locale::classic());
  T value{};
  if (!(in >> value) || in.peek() != std::istringstream::traits_type::eof() ||
      !std::isfinite(static_cast<double>(value)))
    fail("the keyword " + keyword + " expects " + expected + ", got '" + word + "'");
  return value;
}

double positive(const std::string &keyword, const std::string &word)
{
  const auto value = read<double>(keyword, word, "a positive number");
  if (!(value > 0.0)) fail("the keyword " + keyword + " expects a positive number, got '" + word + "'");
  return value;
}

std::string one_of(const std::string &keyword, const std::string &word,
                   const std::vector<std::string> &choices)
{
  std::string list;
  for (const auto &choice : choices) {
    if (word == choice) return word;
    list += (list.empty() ? "" : " or ") + choice;
  }
  fail("the keyword " + keyword + " expects " + list + ", got '" + word + "'");
}

std::array<double, 2> slab_faces(const std::string &lower, const std::string &upper)
{
  const auto *expected = "two heights (Angstrom)";
  const std::array<double, 2> out = {read<double>("jellium", lower, expected),
                                     read<double>("jellium", upper, expected)};
  if (out[1] - out[0] < THINNEST_SLAB)
    fail("the keyword jellium expects the heights of the slab's lower and upper face, at least 0.1 Angstrom "
         "apart, got '" +
         lower + "' and '" + upper + "'");
  return out;
}

int number_of_values(const std::string &keyword)
{
  if (keyword == "efield" || keyword == "field_origin") return 3;
  return keyword == "jellium" ? 2 : 1;
}

FieldComponent field_component(const std::string &word)
{
  if (word.rfind("v_", 0) == 0 && word.size() > 2) return {0.0, word.substr(2)};
  return {read<double>("efield", word, "three numbers (V/Angstrom) or variables v_name"), {}};
}

}    // namespace

PairSettings parse_pair_settings(int narg, char **arg)
{
  PairSettings out;
  for (int i = 0, count = 1; i < narg; i += 1 + count) {
    const std::string keyword = arg[i];
    const bool known = (std::string(", ") + KEYWORDS + ",").find(", " + keyword + ",") != std::string::npos;
    if (!known) fail("unknown keyword '" + keyword + "'; the keywords are " + KEYWORDS);
    count = number_of_values(keyword);
    if (i + count >= narg)
      fail("the keyword " + keyword + " needs " +
           (count == 1 ? "a value" : std::to_string(count) + " values"));
    const std::string word = arg[i + 1];
    if (keyword == "charge")
      out.total_charge = read<double>(keyword, word, "the total charge of the cell in e");
    else if (keyword == "fermi")
      out.fermi_level = read<double>(keyword, word, "the Fermi level in V");
    else if (keyword == "num_scf_steps") {
      out.num_scf_steps = read<int64_t>(keyword, word, "a positive whole number");
      if (*out.num_scf_steps < 1)
        fail("the keyword num_scf_steps expects a positive whole number, got '" + word + "'");
    } else if (keyword == "scf_tolerance")
      out.scf_tolerance = positive(keyword, word);
    else if (keyword == "mixing_parameter") {
      out.mixing_parameter = positive(keyword, word);
      if (*out.mixing_parameter > 1.0)
        fail("the keyword mixing_parameter expects a number in (0, 1], got '" + word + "'");
    } else if (keyword == "solver")
      out.solver = one_of(keyword, word, {"anderson", "linear"});
    else if (keyword == "efield")
      out.efield = {field_component(word), field_component(arg[i + 2]), field_component(arg[i + 3])};
    else if (keyword == "field_origin") {
      out.field_origin.emplace();
      for (int d = 0; d < 3; ++d)
        (*out.field_origin)[d] = read<double>(keyword, arg[i + 1 + d], "three numbers (Angstrom)");
    } else if (keyword == "jellium")
      out.jellium = slab_faces(word, arg[i + 2]);
    else if (keyword == "kspace")
      out.kspace = one_of(keyword, word, {"auto", "reciprocal", "mesh", "open"});
    else if (keyword == "kspace_accuracy") {
      out.kspace_accuracy = positive(keyword, word);
      if (*out.kspace_accuracy >= LARGEST_ACCURACY)
        fail("the keyword kspace_accuracy expects a relative force error below 0.1, got '" + word + "'");
    } else if (keyword == "kspace_net_force")
      out.remove_net_force = one_of(keyword, word, {"keep", "remove"}) == "remove";
    else if (keyword == "device")
      out.device = one_of(keyword, word, {"auto", "cpu", "cuda"});
    else
      out.error_on_nonconverged = one_of(keyword, word, {"error", "warn"}) == "error";
  }
  if (out.total_charge && out.fermi_level)
    fail("the keywords charge and fermi exclude each other: either the total charge is fixed or the Fermi "
         "level");
  if (out.field_origin && out.jellium)
    fail("the keywords field_origin and jellium exclude each other: with jellium the potential of efield is "
         "zero in the middle of the slab");
  if (out.remove_net_force && out.jellium)
    fail("the keywords kspace_net_force remove and jellium exclude each other: the slab pulls at the atoms, "
         "whose net force is not zero");
  if (out.field_origin && !out.efield)
    fail("the keyword field_origin is where the potential of efield is zero, and there is no efield");
  return out;
}

}    // namespace fixedpoint
