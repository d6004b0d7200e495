/// Whether the rest of the simulation fits to pair_style fixedpoint: settings, masses, other styles and
/// fixes.

#include "pair_style/elements.h"
#include "pair_style/pair_fixedpoint.h"

#include "atom.h"
#include "comm.h"
#include "compute.h"
#include "domain.h"
#include "fix.h"
#include "force.h"
#include "modify.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace LAMMPS_NS;

namespace {

/// Relative difference of a mass from its element's: above those of enriched isotopes of all but hydrogen.
constexpr double OTHER_MASS = 0.2;
constexpr double SAME_MASS = 0.01;

/// Words in the names of pair styles that read atom->q.
constexpr std::array READS_CHARGES = {"coul",   "tip4p", "thole", "dipole",
                                      "reaxff", "comb",  "smtbq", "eff/cut"};

struct SubStyle {
  Pair *pair;
  std::string name;
};

/// The styles of pair_style hybrid in the order in which they are computed, but for those whose names begin
/// with h, none of which reads charges; none if there is no hybrid.
std::vector<SubStyle> sub_styles(Force *force)
{
  std::vector<SubStyle> out;
  if (!utils::strmatch(force->pair_style, "^hybrid")) return out;
  for (int k = 1;; ++k) {
    Pair *pair = force->pair_match("^[a-gi-z]", 0, k);
    if (pair == nullptr || (!out.empty() && pair == out.back().pair)) return out;
    const char *name = force->pair_match_ptr(pair);
    out.push_back({pair, name ? name : "?"});
  }
}

bool reads_charges(const SubStyle &style)
{
  if (style.pair->ewaldflag || style.pair->pppmflag || style.pair->msmflag) return true;
  return std::any_of(READS_CHARGES.begin(), READS_CHARGES.end(),
                     [&](const char *word) { return style.name.find(word) != std::string::npos; });
}

bool mass_fits(double mass, double expected, const std::string &element)
{
  if (std::abs(mass - expected) <= OTHER_MASS * expected) return true;
  const auto &isotopes = fixedpoint::HYDROGEN_ISOTOPES;
  return element == "H" && std::any_of(isotopes.begin(), isotopes.end(), [&](double isotope) {
           return std::abs(mass - isotope) <= SAME_MASS * isotope;
         });
}

}    // namespace

void PairFixedPoint::check_simulation()
{
  if (strcmp(update->unit_style, "metal") != 0 && strcmp(update->unit_style, "real") != 0)
    error->all(FLERR, "pair fixedpoint needs units metal or real, not {}", update->unit_style);
  if (force->newton_pair == 0) error->all(FLERR, "pair fixedpoint needs newton on for pair interactions");
  if (utils::strmatch(update->integrate_style, "^respa") && update->whichflag != 2)
    error->all(FLERR, "pair fixedpoint does not work with run_style respa; use run_style verlet");
  if (settings_.jellium && domain->xperiodic + domain->yperiodic + domain->zperiodic != 2)
    error->all(
        FLERR,
        "pair fixedpoint: the keyword jellium is for slabs, with two periodic axes and an open one; use "
        "the command boundary, such as boundary p p f");
  if (domain->dimension != 3) error->all(FLERR, "pair fixedpoint needs a system of dimension 3");
  const bool bonds = atom->nbonds > 0 || atom->molecular == Atom::TEMPLATE;
  for (int k = 1; k < 4 && bonds; ++k)
    if (force->special_lj[k] != 1.0 || force->special_coul[k] != 1.0)
      error->all(FLERR,
                 "pair fixedpoint needs all neighbors, but the system has bonds and special_bonds removes or "
                 "scales theirs; use: special_bonds lj/coul 1.0 1.0 1.0");
  check_neighbors(false);
  check_strains();
  check_charge_readers();
}

void PairFixedPoint::check_strains() const
{
  // These strain the atoms by less than a vector of the box and leave the box: right only without images.
  if (!domain->xperiodic && !domain->yperiodic && !domain->zperiodic) return;
  std::string what;
  for (const auto *fix : modify->get_fix_by_style("^numdiff/virial"))
    what = fmt::format("fix {} {}", fix->id, fix->style);
  for (const auto *compute : modify->get_compute_by_style("^born/matrix"))
    what = fmt::format("compute {} {}", compute->id, compute->style);
  if (!what.empty())
    error->all(
        FLERR,
        "pair fixedpoint: {} strains the atoms and not the box, which is wrong for the long range along "
        "periodic axes. The analytic virial is in compute pressure; for elastic constants use "
        "change_box ... remap and the pressure of run 0",
        what);
}

void PairFixedPoint::check_charge_readers() const
{
  if (!modify->get_fix_by_style("^charge/regulation").empty())
    error->all(FLERR,
               "pair fixedpoint does not work with fix charge/regulation, which changes charges q that the "
               "model finds by itself");
  if (announced_) return;
  const auto warn = [&](const std::string &text) {
    if (comm->me == 0) error->warning(FLERR, "pair fixedpoint: " + text);
  };
  for (const char *style : {"^qeq", "^acks2", "^electrode"})
    for (const auto *fix : modify->get_fix_by_style(style))
      warn(fmt::format("fix {} {} finds charges q of its own, which the model neither reads nor keeps{}",
                       fix->id, fix->style, settings_.write_q ? "; write_q no leaves q to the fix" : ""));
  for (const auto *fix : modify->get_fix_by_style("^efield"))
    warn(fmt::format("fix {} {} acts on the charges q as if they were fixed, and not on the self-consistent "
                     "density; use the keyword efield",
                     fix->id, fix->style));
  if (!settings_.write_q || !atom->q_flag) return;
  bool after_this = false;
  for (const auto &style : sub_styles(force)) {
    if (style.pair == this) {
      after_this = true;
      continue;
    }
    const auto *other = dynamic_cast<const PairFixedPoint *>(style.pair);
    if (other && other->settings_.write_q && after_this)
      warn("several pair styles fixedpoint write their charges into q, where those of the last remain; give "
           "the "
           "others write_q no");
    if (!reads_charges(style)) continue;
    if (!after_this)
      error->all(
          FLERR,
          "pair fixedpoint: {} comes before it in pair_style {} and would read the charges q of the step "
          "before; name fixedpoint first, or give it write_q no",
          style.name, force->pair_style);
    warn(fmt::format(
        "{} reads the charges q that the model writes at every step; its forces hold them fixed, so "
        "that the energy is not conserved. write_q no leaves q as it is",
        style.name));
  }
}

void PairFixedPoint::warn_of_masses() const
{
  const auto &elements = model_->metadata().elements;
  for (int type = 1; type <= atom->ntypes && atom->mass && comm->me == 0; ++type) {
    const auto &element = elements[type_to_species_[type]];
    const double mass = atom->mass[type], expected = fixedpoint::atomic_mass(element);
    if (!atom->mass_setflag[type] || expected == 0.0 || mass_fits(mass, expected, element)) continue;
    error->warning(
        FLERR,
        "pair fixedpoint: atom type {} is {} in pair_coeff and has the mass {:g}, but {} has {:g}: are "
        "the elements in the order of the types?",
        type, element, mass, element, expected);
  }
}
