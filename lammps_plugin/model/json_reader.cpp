#include "model/json_reader.h"

#include <clocale>
#include <cstddef>
#include <limits>
#include <locale>
#include <sstream>
#include <stdexcept>

namespace fixedpoint {

namespace {

class Reader {
public:
  explicit Reader(const std::string &source) : s_(source) {}

  Json document()
  {
    Json out = value(0);
    space();
    if (at_ != s_.size()) fail();
    return out;
  }

private:
  const std::string &s_;
  std::size_t at_ = 0;

  [[noreturn]] void fail() const
  {
    throw std::runtime_error("its metadata is not valid JSON (character " + std::to_string(at_) + ")");
  }
  void space()
  {
    while (at_ < s_.size() && (s_[at_] == ' ' || s_[at_] == '\n' || s_[at_] == '\r' || s_[at_] == '\t'))
      ++at_;
  }
  char peek()
  {
    space();
    if (at_ >= s_.size()) fail();
    return s_[at_];
  }
  void expect(char c)
  {
    if (peek() != c) fail();
    ++at_;
  }
  bool word(const char *w)
  {
    const std::string expected(w);
    if (s_.compare(at_, expected.size(), expected) != 0) return false;
    at_ += expected.size();
    return true;
  }

  Json value(int depth)
  {
    if (depth > 100) fail();
    Json out;
    const char c = peek();
    if (c == '{') {
      out.kind = Json::OBJECT;
      ++at_;
      while (peek() != '}') {
        if (!out.members.empty()) expect(',');
        if (peek() != '"') fail();
        auto key = string();
        expect(':');
        out.members.emplace_back(std::move(key), value(depth + 1));
      }
      ++at_;
    } else if (c == '[') {
      out.kind = Json::ARRAY;
      ++at_;
      while (peek() != ']') {
        if (!out.items.empty()) expect(',');
        out.items.push_back(value(depth + 1));
      }
      ++at_;
    } else if (c == '"') {
      out.kind = Json::STRING;
      out.text = string();
    } else if (word("true")) {
      out.kind = Json::BOOLEAN;
      out.number = 1.0;
    } else if (word("false")) {
      out.kind = Json::BOOLEAN;
    } else if (word("null")) {
      out.kind = Json::NONE;
    } else {
      out.kind = Json::NUMBER;
      out.number = number();
    }
    return out;
  }

  double number()
  {
    if (word("NaN")) return std::numeric_limits<double>::quiet_NaN();
    if (word("Infinity")) return std::numeric_limits<double>::infinity();
    if (word("-Infinity")) return -std::numeric_limits<double>::infinity();
    const auto start = at_;
    at_ = s_.find_first_not_of("+-0123456789.eE", at_);
    if (at_ == std::string::npos) at_ = s_.size();
    // A stream of its own locale: strtod would read the decimal point of the user's language.
    std::istringstream in(s_.substr(start, at_ - start));
    in.imbue(std::locale::classic());
    double out = 0.0;
    if (!(in >> out) || in.peek() != std::istringstream::traits_type::eof()) fail();
    return out;
  }

  std::string string()
  {
    std::string out;
    ++at_;
    while (true) {
      if (at_ >= s_.size()) fail();
      const char c = s_[at_++];
      if (c == '"') return out;
      if (c != '\\') {
        out += c;
        continue;
      }
      if (at_ >= s_.size()) fail();
      const char e = s_[at_++];
      switch (e) {
      case 'n': out += '\n'; break;
      case 't': out += '\t'; break;
      case 'r': out += '\r'; break;
      case 'b': out += '\b'; break;
      case 'f': out += '\f'; break;
      case 'u':    // only names and free text can have them: kept as a placeholder
        if (at_ + 4 > s_.size()) fail();
        at_ += 4;
        out += '?';
        break;
      default: out += e;
      }
    }
  }
};

}    // namespace

const Json *Json::find(const std::string &key) const
{
  for (const auto &member : members)
    if (member.first == key) return &member.second;
  return nullptr;
}

Json parse_json(const std::string &source) { return Reader(source).document(); }

}    // namespace fixedpoint
