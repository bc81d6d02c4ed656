// The shape and run functions that the rows of ops.cpp name, and what they share.
#ifndef FERRULE_VENDORS_RUN_H
#define FERRULE_VENDORS_RUN_H

#include <initializer_list>

#include "ferrule/threads.h"
#include "vendors/ops.h"

namespace ferrule::vendors {

ferrule_status shape_attention_quantized(Call* call);
ferrule_status run_attention_quantized(const Call& call, Holder* holder);
ferrule_status shape_lookup_linear(Call* call);
ferrule_status run_lookup_linear(const Call& call, Holder* holder);
ferrule_status shape_quantize_kv(Call* call);
ferrule_status run_quantize_kv(const Call& call, Holder* holder);
ferrule_status shape_token_match(Call* call);
ferrule_status run_token_match(const Call& call, Holder* holder);
ferrule_status shape_token_merge(Call* call);
ferrule_status run_token_merge(const Call& call, Holder* holder);

// The pool of set_threads, kept for as long as the caller holds it; NULL stands for the calling thread alone.
std::shared_ptr<ferrule_pool> current_pool();

// Scratch memory of the calling thread, kept for its next call; NULL where there is not as much.
void* take_scratch(size_t bytes);

// Whether the tensor has these sizes; an absent one always has.
bool has_sizes(const Tensor& tensor, std::initializer_list<size_t> sizes);
void set_sizes(Tensor* tensor, std::initializer_list<size_t> sizes);

template <typename T>
T* data_of(const Tensor& tensor) {
  return tensor.absent ? nullptr : static_cast<T*>(tensor.data);
}

}  // namespace ferrule::vendors

#endif
