#include "model/archive.h"

#include "model/interface.h"
#include "model/sha256.h"

#include <caffe2/serialize/inline_container.h>
#include <caffe2/serialize/istream_adapter.h>

#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace fixedpoint {

namespace {

using caffe2::serialize::PyTorchStreamReader;
using Sums = std::map<std::string, std::string>;    // of records, by their names below the archive's root

const std::string EXTRA = "extra/";
const std::string NO_SUM = "  ";    // which no line of a list can hold

/// Calls what reads the zip file, with our message for all that it throws.
template <typename F> void readable(F &&read)
{
  try {
    read();
  } catch (const std::exception &) {
    throw std::runtime_error(
        "it is not a model archive, or it is damaged; write one with `fixedpoint export`");
  }
}

std::string read_text(PyTorchStreamReader &reader, const std::string &record)
{
  const auto [data, size] = reader.getRecord(record);
  return {static_cast<const char *>(data.get()), size};
}

/// Of lines "<SHA-256>  <record>".
Sums listed_sums(const std::string &text)
{
  Sums out;
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line))
    if (const auto gap = line.find("  "); gap != std::string::npos)
      out[line.substr(gap + 2)] = line.substr(0, gap);
  return out;
}

/// Of every record but the list; NO_SUM where a record cannot be read, or where two have one name.
Sums found_sums(PyTorchStreamReader &reader, const std::string &list)
{
  Sums out;
  for (const auto &name : reader.getAllRecords()) {
    if (name == list) continue;
    std::string sum = NO_SUM;
    try {
      const auto [data, size] = reader.getRecord(name);
      sum = sha256(data.get(), size);
    } catch (const std::exception &) {
      // damaged
    }
    if (const auto [place, first] = out.emplace(name, sum); !first) place->second = NO_SUM;
  }
  return out;
}

/// Records whose sums differ, or that only one of both has.
std::vector<std::string> altered(const Sums &wanted, const Sums &found)
{
  Sums all = wanted;
  all.insert(found.begin(), found.end());
  std::vector<std::string> out;
  for (const auto &entry : all) {
    const auto one = wanted.find(entry.first), other = found.find(entry.first);
    if (one == wanted.end() || other == found.end() || one->second != other->second)
      out.push_back(entry.first);
  }
  return out;
}

void demand_unaltered(const std::vector<std::string> &names)
{
  if (names.empty()) return;
  constexpr std::size_t shown = 3;
  std::string text;
  for (std::size_t k = 0; k < names.size() && k < shown; ++k) text += (k > 0 ? ", " : "") + names[k];
  if (names.size() > shown) text += ", ...";
  throw std::runtime_error("it is not as it was exported: the checksums of " + std::to_string(names.size()) +
                           " records differ (" + text +
                           "); it is damaged or was edited: copy it again, or export it again from its run "
                           "folder with `fixedpoint export`");
}

}    // namespace

ArchiveContents read_contents(const std::string &archive)
{
  std::istringstream in(archive);
  std::unique_ptr<PyTorchStreamReader> reader;
  const auto list = EXTRA + CHECKSUMS_FILE, metadata = EXTRA + METADATA_FILE;
  ArchiveContents out;
  Sums wanted, found;
  readable([&] {
    reader = std::make_unique<PyTorchStreamReader>(&in);
    out.checked = reader->hasRecord(list);
    if (!out.checked) return;
    wanted = listed_sums(read_text(*reader, list));
    found = found_sums(*reader, list);
  });
  if (out.checked) demand_unaltered(altered(wanted, found));
  if (!reader->hasRecord(metadata))
    throw std::runtime_error(std::string("it has no ") + METADATA_FILE +
                             " and was not written by `fixedpoint export`");
  readable([&] { out.metadata = read_text(*reader, metadata); });
  return out;
}

}    // namespace fixedpoint
