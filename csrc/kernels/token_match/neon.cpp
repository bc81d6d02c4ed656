#include "simd/neon.h"
#include "kernels/declarations.h"
#include "simd/transpose.h"

#include "kernels/token_match/plan.h"

namespace {

constexpr size_t kPanelVectors = 4;

}  // namespace

#include "kernels/token_match/vector.h"

void ferrule_token_match_neon(const ferrule_token_match_args* args, size_t begin, size_t end, void* scratch) {
  token_match(*args, begin, end, scratch);
}
