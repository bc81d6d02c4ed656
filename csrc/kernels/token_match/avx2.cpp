#include "simd/avx2.h"
#include "kernels/declarations.h"
#include "simd/transpose.h"

#include "kernels/token_match/plan.h"

namespace {

constexpr size_t kPanelVectors = 2;

}  // namespace

#include "kernels/token_match/vector.h"

void ferrule_token_match_avx2(const ferrule_token_match_args* args, size_t begin, size_t end, void* scratch) {
  token_match(*args, begin, end, scratch);
}
