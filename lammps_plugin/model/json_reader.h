/// A reader for the JSON that Python's json module writes.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace fixedpoint {

struct Json {
  enum Kind {
    NONE,
    BOOLEAN,
    NUMBER,
    STRING,
    ARRAY,
    OBJECT
  };
  Kind kind = NONE;
  double number = 0.0;    ///< also 0 or 1 for a boolean
  std::string text;
  std::vector<Json> items;
  std::vector<std::pair<std::string, Json>> members;

  /// Member of an object, or nullptr.
  const Json *find(const std::string &key) const;
};

/// Throws std::runtime_error with the position of the first character that is not JSON.
Json parse_json(const std::string &source);

}    // namespace fixedpoint
