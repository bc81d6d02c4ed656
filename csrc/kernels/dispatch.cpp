#include "ferrule/dispatch.h"

#include <stdint.h>
#include <stdlib.h>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include <string>

#include "kernels/declarations.h"

namespace {

bool cpu_has_scalar() { return true; }

#if defined(__x86_64__) && defined(__GNUC__)
bool cpu_has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

bool cpu_has_avx512() {
  return cpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

bool cpu_has_avx512_bf16() { return cpu_has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#else
bool cpu_has_avx2() { return false; }
bool cpu_has_avx512() { return false; }
bool cpu_has_avx512_bf16() { return false; }
#endif

#if defined(__aarch64__)
bool cpu_has_neon() { return true; }  // part of every AArch64 CPU
#else
bool cpu_has_neon() { return false; }
#endif

#if defined(__aarch64__) && defined(__linux__)
// Bits of Linux's and Android's auxiliary vector (asm/hwcap.h).
bool cpu_has_dotprod() { return (getauxval(AT_HWCAP) >> 20 & 1) != 0; }
bool cpu_has_i8mm() { return cpu_has_dotprod() && (getauxval(AT_HWCAP2) >> 13 & 1) != 0; }
bool cpu_has_sme() { return cpu_has_i8mm() && (getauxval(AT_HWCAP2) >> 23 & 1) != 0; }
#elif defined(__aarch64__) && defined(__APPLE__)
bool read_sysctl(const char* name) {
  int value = 0;
  size_t size = sizeof(value);
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool cpu_has_dotprod() { return read_sysctl("hw.optional.arm.FEAT_DotProd"); }
bool cpu_has_i8mm() { return cpu_has_dotprod() && read_sysctl("hw.optional.arm.FEAT_I8MM"); }
bool cpu_has_sme() { return cpu_has_i8mm() && read_sysctl("hw.optional.arm.FEAT_SME"); }
#else
bool cpu_has_dotprod() { return false; }
bool cpu_has_i8mm() { return false; }
bool cpu_has_sme() { return false; }
#endif

struct Isa {
  const char* name;
  bool (*on_cpu)();
  bool by_default;  // else used only where it is named
};

// Weakest first: the place in this list is the rank that ferrule_find_kernel compares. A build holds one
// family. avx512_bf16 has nothing but its peak. sme_i8, the integer products that every CPU with SME has, has
// not been run over all inputs: QEMU 7.2 computes most of them wrongly.
constexpr Isa kIsas[] = {
    {"scalar", cpu_has_scalar, true}, {"avx2", cpu_has_avx2, true},
    {"avx512", cpu_has_avx512, true}, {"avx512_bf16", cpu_has_avx512_bf16, false},
    {"neon", cpu_has_neon, true},     {"dotprod", cpu_has_dotprod, true},
    {"i8mm", cpu_has_i8mm, true},     {"sme", cpu_has_sme, true},
    {"sme_i8", cpu_has_sme, false},
};
constexpr size_t kIsaCount = sizeof(kIsas) / sizeof(kIsas[0]);

constexpr bool equal(const char* a, const char* b) {
  while (*a && *a == *b) ++a, ++b;
  return *a == *b;
}

// kIsaCount for an unknown name.
constexpr size_t rank_of(const char* isa) {
  size_t rank = 0;
  while (rank < kIsaCount && !equal(kIsas[rank].name, isa)) ++rank;
  return rank;
}

constexpr uint32_t hash(const char* name) {
  uint32_t sum = 2166136261u;
  for (; *name; ++name) sum = (sum ^ static_cast<uint8_t>(*name)) * 16777619u;
  return sum;
}

// Ops look kernels up whenever they run: names are compared only where their hashes agree.
struct Row {
  ferrule_kernel kernel;
  uint32_t op_hash;
  size_t rank;
};

template <auto kValue>
constexpr auto kConstant = kValue;  // so that the table needs no code to be made

const Row kRows[] = {
#define FERRULE_KERNEL(op, isa, function) \
  {{#op, #isa, reinterpret_cast<ferrule_function>(function)}, kConstant<hash(#op)>, kConstant<rank_of(#isa)>},
#include "kernels/table.inc"
#undef FERRULE_KERNEL
};
constexpr size_t kRowCount = sizeof(kRows) / sizeof(kRows[0]);

bool has_rows(size_t rank) {
  for (const Row& row : kRows) {
    if (row.rank == rank) return true;
  }
  return false;
}

// The value of FERRULE_ISA, whatever it is, else the strongest usable name that needs not be named. An
// empty value counts as unset.
std::string choose_isa() {
  const char* forced = getenv(FERRULE_ISA_VARIABLE);
  if (forced && *forced) return forced;
  const char* chosen = kIsas[0].name;
  for (const Isa& isa : kIsas) {
    if (isa.by_default && ferrule_check_isa(isa.name) == FERRULE_ISA_USABLE) chosen = isa.name;
  }
  return chosen;
}

}  // namespace

size_t ferrule_kernel_count(void) { return kRowCount; }

const ferrule_kernel* ferrule_kernel_at(size_t index) { return &kRows[index].kernel; }

size_t ferrule_isa_count(void) { return kIsaCount; }

const char* ferrule_isa_at(size_t index) { return kIsas[index].name; }

ferrule_isa_status ferrule_check_isa(const char* isa) {
  const size_t rank = rank_of(isa);
  if (rank == kIsaCount) return FERRULE_ISA_UNKNOWN;
  if (!has_rows(rank)) return FERRULE_ISA_NOT_COMPILED;
  return kIsas[rank].on_cpu() ? FERRULE_ISA_USABLE : FERRULE_ISA_NOT_ON_CPU;
}

int ferrule_isa_by_default(const char* isa) {
  const size_t rank = rank_of(isa);
  return rank < kIsaCount && kIsas[rank].by_default;
}

ferrule_isa_status ferrule_active_isa(const char** isa) {
  static const std::string chosen = choose_isa();
  *isa = chosen.c_str();
  return ferrule_check_isa(chosen.c_str());
}

const ferrule_kernel* ferrule_find_kernel(const char* op, const char* isa) {
  const size_t highest = rank_of(isa);
  const uint32_t op_hash = hash(op);
  const Row* best = nullptr;
  for (const Row& row : kRows) {
    if (row.op_hash != op_hash || row.rank > highest || !equal(row.kernel.op, op)) continue;
    if (!best || row.rank > best->rank) best = &row;
  }
  return best ? &best->kernel : nullptr;
}
