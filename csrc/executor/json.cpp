#include "executor/json.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>

#include <algorithm>

#include "executor/value.h"

namespace ferrule::executor {

namespace {

// Bytes that follow the first of a character, and the bits of it that count; false for what starts none.
bool read_lead(unsigned char lead, int* rest, uint32_t* code) {
  *rest = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  *code = lead & (lead < 0x80 ? 0x7F : 0x3F >> *rest);
  return lead < 0x80 || (lead >= 0xC2 && lead < 0xF5);
}

bool is_utf8(std::string_view text) {
  static constexpr uint32_t kSmallest[] = {0, 0x80, 0x800, 0x10000};
  for (size_t i = 0; i < text.size(); ++i) {
    int rest = 0;
    uint32_t code = 0;
    if (!read_lead(static_cast<unsigned char>(text[i]), &rest, &code)) return false;
    for (int n = 0; n < rest; ++n) {
      const auto next = static_cast<unsigned char>(++i < text.size() ? text[i] : 0);
      if (next >> 6 != 2) return false;
      code = code << 6 | (next & 0x3F);
    }
    if (code < kSmallest[rest] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
  }
  return true;
}

// strtod, which an app's locale may have taught to read "0,5".
double to_number(std::string text) {
  const size_t point = text.find('.');
  if (point != std::string::npos) text.replace(point, 1, localeconv()->decimal_point);
  return strtod(text.c_str(), nullptr);
}

}  // namespace

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  Json read_all() {
    Json value = read_value(0);
    skip_space();
    if (at_ != text_.size()) fail("nothing more");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* wanted) const {
    throw Error("FER-NAT-002", "The text is no JSON: " + std::string(wanted) + " is expected at byte " +
                                   std::to_string(at_) + ".");
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    while (at_ < text_.size() && (peek() == ' ' || peek() == '\n' || peek() == '\t' || peek() == '\r')) ++at_;
  }

  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void require_word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) fail("a value");
    at_ += word.size();
  }

  Json read_value(size_t depth) {
    if (depth > Json::kMostDepth) fail("a shallower value");
    skip_space();
    Json value;
    switch (peek()) {
      case '{':
        read_object(value, depth);
        break;
      case '[':
        read_list(value, depth);
        break;
      case '"':
        value.kind_ = Json::Kind::kText;
        value.text_ = read_text();
        break;
      case 't':
        require_word("true");
        value.kind_ = Json::Kind::kBool;
        value.integer_ = 1;
        break;
      case 'f':
        require_word("false");
        value.kind_ = Json::Kind::kBool;
        break;
      case 'n':
        require_word("null");
        break;
      default:
        read_number(value);
    }
    return value;
  }

  void read_object(Json& value, size_t depth) {
    value.kind_ = Json::Kind::kObject;
    ++at_;
    skip_space();
    if (take('}')) return;
    do {
      skip_space();
      if (peek() != '"') fail("a name");
      std::string name = read_text();
      skip_space();
      if (!take(':')) fail("':'");
      Json member = read_value(depth + 1);
      value.members_.emplace_back(std::move(name), std::move(member));
      skip_space();
    } while (take(','));
    if (!take('}')) fail("',' or '}'");
    std::vector<std::string_view> names;
    for (const auto& member : value.members_) names.push_back(member.first);
    std::sort(names.begin(), names.end());
    if (std::adjacent_find(names.begin(), names.end()) != names.end()) fail("an object without a name twice");
  }

  void read_list(Json& value, size_t depth) {
    value.kind_ = Json::Kind::kList;
    ++at_;
    skip_space();
    if (take(']')) return;
    do {
      value.list_.push_back(read_value(depth + 1));
      skip_space();
    } while (take(','));
    if (!take(']')) fail("',' or ']'");
  }

  bool digits() {
    const size_t first = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > first;
  }

  void read_number(Json& value) {
    const size_t first = at_;
    take('-');
    const bool leads = peek() == '0';
    const size_t whole = at_;
    if (!digits() || (leads && at_ - whole > 1)) fail("a value");
    bool is_whole = true;
    if (take('.')) {
      is_whole = false;
      if (!digits()) fail("a digit");
    }
    if (take('e') || take('E')) {
      is_whole = false;
      if (!take('+')) take('-');
      if (!digits()) fail("a digit");
    }
    value.text_ = text_.substr(first, at_ - first);
    value.kind_ = Json::Kind::kNumber;
    value.number_ = to_number(value.text_);
    if (!is_whole) return;
    errno = 0;
    const long long integer = strtoll(value.text_.c_str(), nullptr, 10);
    if (errno == ERANGE) return;
    value.kind_ = Json::Kind::kInteger;
    value.integer_ = integer;
  }

  uint32_t read_hex() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) fail("a hexadecimal digit");
      code = code * 16 + static_cast<uint32_t>(digit);
    }
    return code;
  }

  void append_utf8(std::string& to, uint32_t code) const {
    if (code < 0x80) {
      to += static_cast<char>(code);
    } else if (code < 0x800) {
      to += static_cast<char>(0xC0 | code >> 6);
      to += static_cast<char>(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
      to += static_cast<char>(0xE0 | code >> 12);
      to += static_cast<char>(0x80 | (code >> 6 & 0x3F));
      to += static_cast<char>(0x80 | (code & 0x3F));
    } else {
      to += static_cast<char>(0xF0 | code >> 18);
      to += static_cast<char>(0x80 | (code >> 12 & 0x3F));
      to += static_cast<char>(0x80 | (code >> 6 & 0x3F));
      to += static_cast<char>(0x80 | (code & 0x3F));
    }
  }

  void read_escape(std::string& to) {
    static constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const char c = peek();
    if (const size_t place = kNames.find(c); c && place != std::string_view::npos) {
      to += kMeanings[place];
      ++at_;
      return;
    }
    if (!take('u')) fail("an escape");
    uint32_t code = read_hex();
    if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_, 2) == "\\u") {
      at_ += 2;
      const uint32_t low = read_hex();
      if (low < 0xDC00 || low > 0xDFFF) fail("the second half of a character");
      code = 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00));
    }
    append_utf8(to, code);
  }

  std::string read_text() {
    std::string text;
    ++at_;
    while (true) {
      if (at_ >= text_.size()) fail("'\"'");
      const char c = text_[at_];
      if (c == '"') {
        if (!is_utf8(text)) fail("a text in UTF-8");
        ++at_;
        return text;
      }
      if (static_cast<unsigned char>(c) < 0x20) fail("no control character");
      ++at_;
      if (c == '\\')
        read_escape(text);
      else
        text += c;
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

Json Json::parse(std::string_view text) { return JsonReader(text).read_all(); }

const Json* Json::find(std::string_view name) const {
  for (const auto& [key, value] : members_) {
    if (key == name) return &value;
  }
  return nullptr;
}

}  // namespace ferrule::executor
