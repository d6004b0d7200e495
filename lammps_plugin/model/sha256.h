/// SHA-256 (FIPS 180-4), which neither torch nor LAMMPS offers.
#pragma once

#include <cstddef>
#include <string>

namespace fixedpoint {

/// The digest of some bytes as 64 hexadecimal digits, as `sha256sum` prints it.
std::string sha256(const void *bytes, std::size_t size);

}    // namespace fixedpoint
