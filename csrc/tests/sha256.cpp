// SHA-256 against the examples of FIPS 180-4 and, around the borders of its blocks, against OpenSSL's.
#include "executor/sha256.h"

#include <algorithm>
#include <string>
#include <vector>

#include "executor/sha256_blocks.h"

namespace ferrule::tests {

namespace {

std::string hash_of(const std::string& text, size_t piece) {
  executor::Sha256 sum;
  for (size_t at = 0; at < text.size(); at += piece)
    sum.add(text.data() + at, std::min(piece, text.size() - at));
  return sum.finish();
}

// The processor's instructions against C++, over blocks that begin anywhere.
bool agrees_with_portable() {
  std::vector<unsigned char> bytes(64 * 9 + 16);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i * i * 31 + i * 7);
  for (size_t from = 0; from < 16; ++from) {
    for (size_t count = 0; count < 10; ++count) {
      uint32_t state[8], portable[8];
      for (uint32_t i = 0; i < 8; ++i) state[i] = portable[i] = 0x9e3779b9u * (i + 1);
      executor::add_sha256_blocks(state, bytes.data() + from, count);
      executor::add_sha256_blocks_portably(portable, bytes.data() + from, count);
      if (!std::equal(state, state + 8, portable)) return false;
    }
  }
  return true;
}

struct Example {
  std::string text;
  const char* digest;
};

}  // namespace

bool sha256_passes() {
  const Example examples[] = {
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {std::string(1000000, 'a'), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {std::string(55, 'a'), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"},
      {std::string(56, 'a'), "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a"},
      {std::string(63, 'a'), "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34"},
      {std::string(64, 'a'), "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"},
      {std::string(65, 'a'), "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0"},
      {std::string(119, 'a'), "31eba51c313a5c08226adf18d4a359cfdfd8d2e816b13f4af952f7ea6584dcfb"},
      {std::string(120, 'a'), "2f3d335432c70b580af0e8e1b3674a7c020d683aa5f73aaaedfdc55af904c21c"},
      {std::string(128, 'a'), "6836cf13bac400e9105071cd6af47084dfacad4e5e302c94bfed24e013afb73e"}};
  for (const Example& example : examples) {
    for (const size_t piece : {1, 7, 63, 64, 65, 4096}) {
      if (hash_of(example.text, piece) != example.digest) return false;
    }
  }
  return agrees_with_portable();
}

}  // namespace ferrule::tests
