/// What is read of a model archive before anything of it runs, as fp_potential/archive.py does.
#pragma once

#include <string>

namespace fixedpoint {

struct ArchiveContents {
  std::string metadata;    ///< the text of METADATA_FILE
  bool checked = false;    ///< whether there are checksums; archives of earlier versions have none
};

/// Reads the metadata of an archive and compares its records with its checksums.
/// @param archive the bytes of the file
/// Throws std::runtime_error that names the records that are not as they were exported, or says that this is
/// no archive of this project.
ArchiveContents read_contents(const std::string &archive);

}    // namespace fixedpoint
