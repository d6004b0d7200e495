/// What only some of the ranks see.
#pragma once

#include <string>

namespace LAMMPS_NS {
class LAMMPS;
}

namespace fixedpoint {

/// error->all with the message of the lowest rank that has one; returns if none has. Collective.
void agree(LAMMPS_NS::LAMMPS *lmp, const std::string &message);

/// The text that rank `from` has. Collective.
std::string broadcast(LAMMPS_NS::LAMMPS *lmp, const std::string &text, int from);

}    // namespace fixedpoint
