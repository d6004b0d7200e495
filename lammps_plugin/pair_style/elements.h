/// Masses of the elements, to find types of atoms that are given to the wrong one.
#pragma once

#include <array>
#include <string>
#include <utility>

namespace fixedpoint {

/// Standard atomic weights, of long-lived isotopes where there are none, u; as in ASE (tests/lammps
/// compares).
inline constexpr std::array<std::pair<const char *, double>, 118> ATOMIC_MASSES = {{
    {"H", 1.008},     {"He", 4.002602}, {"Li", 6.94},     {"Be", 9.012183}, {"B", 10.81},
    {"C", 12.011},    {"N", 14.007},    {"O", 15.999},    {"F", 18.9984},   {"Ne", 20.1797},
    {"Na", 22.98977}, {"Mg", 24.305},   {"Al", 26.98154}, {"Si", 28.085},   {"P", 30.97376},
    {"S", 32.06},     {"Cl", 35.45},    {"Ar", 39.948},   {"K", 39.0983},   {"Ca", 40.078},
    {"Sc", 44.95591}, {"Ti", 47.867},   {"V", 50.9415},   {"Cr", 51.9961},  {"Mn", 54.93804},
    {"Fe", 55.845},   {"Co", 58.93319}, {"Ni", 58.6934},  {"Cu", 63.546},   {"Zn", 65.38},
    {"Ga", 69.723},   {"Ge", 72.63},    {"As", 74.92159}, {"Se", 78.971},   {"Br", 79.904},
    {"Kr", 83.798},   {"Rb", 85.4678},  {"Sr", 87.62},    {"Y", 88.90584},  {"Zr", 91.224},
    {"Nb", 92.90637}, {"Mo", 95.95},    {"Tc", 97.90721}, {"Ru", 101.07},   {"Rh", 102.9055},
    {"Pd", 106.42},   {"Ag", 107.8682}, {"Cd", 112.414},  {"In", 114.818},  {"Sn", 118.71},
    {"Sb", 121.76},   {"Te", 127.6},    {"I", 126.9045},  {"Xe", 131.293},  {"Cs", 132.9055},
    {"Ba", 137.327},  {"La", 138.9055}, {"Ce", 140.116},  {"Pr", 140.9077}, {"Nd", 144.242},
    {"Pm", 144.9128}, {"Sm", 150.36},   {"Eu", 151.964},  {"Gd", 157.25},   {"Tb", 158.9254},
    {"Dy", 162.5},    {"Ho", 164.9303}, {"Er", 167.259},  {"Tm", 168.9342}, {"Yb", 173.054},
    {"Lu", 174.9668}, {"Hf", 178.49},   {"Ta", 180.9479}, {"W", 183.84},    {"Re", 186.207},
    {"Os", 190.23},   {"Ir", 192.217},  {"Pt", 195.084},  {"Au", 196.9666}, {"Hg", 200.592},
    {"Tl", 204.38},   {"Pb", 207.2},    {"Bi", 208.9804}, {"Po", 208.9824}, {"At", 209.9872},
    {"Rn", 222.0176}, {"Fr", 223.0197}, {"Ra", 226.0254}, {"Ac", 227.0277}, {"Th", 232.0377},
    {"Pa", 231.0359}, {"U", 238.0289},  {"Np", 237.0482}, {"Pu", 244.0642}, {"Am", 243.0614},
    {"Cm", 247.0703}, {"Bk", 247.0703}, {"Cf", 251.0796}, {"Es", 252.083},  {"Fm", 257.0951},
    {"Md", 258.0984}, {"No", 259.101},  {"Lr", 262.11},   {"Rf", 267.122},  {"Db", 268.126},
    {"Sg", 271.134},  {"Bh", 270.133},  {"Hs", 269.1338}, {"Mt", 278.156},  {"Ds", 281.165},
    {"Rg", 281.166},  {"Cn", 285.177},  {"Nh", 286.182},  {"Fl", 289.19},   {"Mc", 289.194},
    {"Lv", 293.204},  {"Ts", 293.208},  {"Og", 294.214},
}};

/// Isotopes that have names of their own: deuterium and tritium.
inline constexpr std::array HYDROGEN_ISOTOPES = {2.014, 3.016};

/// Mass of an element, u; 0 if the symbol is none.
inline double atomic_mass(const std::string &symbol)
{
  for (const auto &[name, mass] : ATOMIC_MASSES)
    if (symbol == name) return mass;
  return 0.0;
}

}    // namespace fixedpoint
