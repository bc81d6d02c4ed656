// 2^(x * y) over the names of simd/README.md, for instruction sets without a scaling instruction and tables
// in registers.

namespace {

constexpr float kLargest = 1e10f;

// The whole part of the product is the exponent; a polynomial within 1e-7 of 2^r does the rest.
inline F32 power_of_two(F32 x, F32 y) {
  const F32 product = mul(x, y);
  const F32 bounded = max(splat(-151.0f), min(splat(129.0f), product));
  const F32 n = round_even(bounded);
  const F32 r = sub(bounded, n);
  F32 p = splat(1.32647e-3f);
  p = fma(p, r, splat(9.67151e-3f));
  p = fma(p, r, splat(5.550734e-2f));
  p = fma(p, r, splat(0.24022242f));
  p = fma(p, r, splat(0.69314698f));
  p = fma(p, r, splat(1.0f));
  return scale_by_power(p, n);
}

}  // namespace
