// JSON as RFC 8259 has it, read whole into memory. Depth, sizes and numbers are bounded, so that no text
// crashes it.
#ifndef FERRULE_EXECUTOR_JSON_H
#define FERRULE_EXECUTOR_JSON_H

#include <stddef.h>
#include <stdint.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ferrule::executor {

class Json {
 public:
  enum class Kind : uint8_t { kNull, kBool, kInteger, kNumber, kText, kList, kObject };

  // Throws Error FER-NAT-002, with the offset, for anything else than one value of at most kMostDepth levels;
  // twice the same name in an object is refused.
  static Json parse(std::string_view text);
  static constexpr size_t kMostDepth = 64;

  Kind kind() const { return kind_; }
  bool boolean() const { return integer_ != 0; }
  int64_t integer() const { return integer_; }  // of kInteger: no fraction, no exponent, within int64
  double number() const { return kind_ == Kind::kInteger ? static_cast<double>(integer_) : number_; }
  const std::string& text() const { return text_; }  // of a number: as it is written
  const std::vector<Json>& list() const { return list_; }
  const std::vector<std::pair<std::string, Json>>& members() const { return members_; }
  const Json* find(std::string_view name) const;  // NULL where this is no object or has no such member

 private:
  friend class JsonReader;
  Kind kind_ = Kind::kNull;
  int64_t integer_ = 0;
  double number_ = 0;
  std::string text_;
  std::vector<Json> list_;
  std::vector<std::pair<std::string, Json>> members_;
};

}  // namespace ferrule::executor

#endif
