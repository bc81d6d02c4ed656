#include <math.h>

#include "kernels/declarations.h"

// The only kernel of this op: a table is computed once for a context, and needs the digits of double.
void ferrule_rope_tables_scalar(const ferrule_rope_tables_args* args, size_t begin, size_t end, void*) {
  const size_t half = args->half;
  for (size_t i = 0; i < half; ++i) {
    const double frequency = args->frequencies
                                 ? args->frequencies[i]
                                 : pow(args->theta, -static_cast<double>(i) / static_cast<double>(half));
    for (size_t r = begin; r < end; ++r) {
      const double position = args->positions ? static_cast<double>(args->positions[r])
                                              : static_cast<double>(args->first_position + r);
      args->cosines[r * half + i] = static_cast<float>(args->magnitude * cos(position * frequency));
      args->sines[r * half + i] = static_cast<float>(args->magnitude * sin(position * frequency));
    }
  }
}
