// A plugin of qemu-aarch64 that counts the instructions between ferrule_bench_begin and ferrule_bench_end of
// bench/main.cpp and appends each count to a file, one a line:
//
//   qemu-aarch64 -plugin build-arm/count.so,out=FILE ... build-arm/ferrule_bench --once 1
//
// Blocks of translated code are counted when they are entered, in the code that QEMU generates, so that a run
// costs little more than without. Debian's package has no header for plugins: what is used of it (version 1
// of docs/devel/tcg-plugins.rst of QEMU 7.2) is declared here.
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

extern "C" {
struct qemu_plugin_tb;    // a block of translated code
struct qemu_plugin_insn;  // an instruction of the guest in it

size_t qemu_plugin_tb_n_insns(const qemu_plugin_tb* block);
qemu_plugin_insn* qemu_plugin_tb_get_insn(const qemu_plugin_tb* block, size_t index);
const char* qemu_plugin_insn_symbol(const qemu_plugin_insn* instruction);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
                                           void (*translated)(uint64_t id, qemu_plugin_tb* block));
// `operation` 0 adds `value` to *counter whenever the block is entered.
void qemu_plugin_register_vcpu_tb_exec_inline(qemu_plugin_tb* block, int operation, void* counter,
                                              uint64_t value);
// `registers` 0: the callback reads none.
void qemu_plugin_register_vcpu_insn_exec_cb(qemu_plugin_insn* instruction,
                                            void (*executed)(unsigned cpu, void* context), int registers,
                                            void* context);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;
__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t id, const void* info, int count,
                                                               char** words);
}

namespace {

uint64_t executed_instructions = 0;
uint64_t executed_at_begin = 0;
FILE* output = nullptr;

void begin(unsigned, void*) { executed_at_begin = executed_instructions; }

void end(unsigned, void*) {
  fprintf(output, "%llu\n", static_cast<unsigned long long>(executed_instructions - executed_at_begin));
  fflush(output);
}

void count_block(uint64_t, qemu_plugin_tb* block) {
  qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &executed_instructions, qemu_plugin_tb_n_insns(block));
  qemu_plugin_insn* first = qemu_plugin_tb_get_insn(block, 0);
  const char* symbol = qemu_plugin_insn_symbol(first);
  if (!symbol) return;
  if (strcmp(symbol, "ferrule_bench_begin") == 0) {
    qemu_plugin_register_vcpu_insn_exec_cb(first, begin, 0, nullptr);
  } else if (strcmp(symbol, "ferrule_bench_end") == 0) {
    qemu_plugin_register_vcpu_insn_exec_cb(first, end, 0, nullptr);
  }
}

}  // namespace

int qemu_plugin_install(uint64_t id, const void*, int count, char** words) {
  for (int i = 0; i < count; ++i) {
    if (strncmp(words[i], "out=", 4) == 0) output = fopen(words[i] + 4, "w");
  }
  if (!output) return fprintf(stderr, "count.so needs out=FILE, a file that can be written\n"), 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
  return 0;
}
