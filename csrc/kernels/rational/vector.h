// Group-rational activation over the names of simd/README.md; included by the file of each instruction set.

namespace {

// The coefficients of a group in every lane; for the form of terms the denominator's without their signs.
struct Coefficients {
  F32 a0, a1, a2, a3, a4, a5, b1, b2, b3, b4;
};

Coefficients spread(const float* a, const float* b, bool terms) {
  Coefficients c = {splat(a[0]), splat(a[1]), splat(a[2]), splat(a[3]), splat(a[4]),
                    splat(a[5]), splat(b[0]), splat(b[1]), splat(b[2]), splat(b[3])};
  if (terms) c.b1 = abs(c.b1), c.b2 = abs(c.b2), c.b3 = abs(c.b3), c.b4 = abs(c.b4);
  return c;
}

template <bool kTerms>
inline F32 evaluate(F32 x, const Coefficients& c) {
  F32 p = fma(c.a5, x, c.a4);
  p = fma(p, x, c.a3);
  p = fma(p, x, c.a2);
  p = fma(p, x, c.a1);
  p = fma(p, x, c.a0);
  const F32 y = kTerms ? abs(x) : x;
  F32 q = fma(c.b4, y, c.b3);
  q = fma(q, y, c.b2);
  q = fma(q, y, c.b1);
  q = kTerms ? fma(q, y, splat(1.0f)) : add(abs(mul(q, y)), splat(1.0f));
  return div(p, q);
}

template <bool kTerms>
void rational_rows(const ferrule_rational_args& args, size_t begin, size_t end) {
  const size_t share = args.width / args.groups;
  for (size_t r = begin; r < end; ++r) {
    for (size_t g = 0; g < args.groups; ++g) {
      const float* input = args.input + r * args.input_stride + g * share;
      float* output = args.output + r * args.output_stride + g * share;
      const Coefficients c = spread(args.numerator + g * args.numerator_stride,
                                    args.denominator + g * args.denominator_stride, kTerms);
      for_vectors(share, [&](size_t i, size_t count) {
        store_some(output + i, evaluate<kTerms>(load_some(input + i, count), c), count);
      });
    }
  }
}

void rational(const ferrule_rational_args& args, size_t begin, size_t end) {
  if (args.width == 0) return;
  if (args.form == FERRULE_RATIONAL_TERMS)
    rational_rows<true>(args, begin, end);
  else
    rational_rows<false>(args, begin, end);
}

}  // namespace
