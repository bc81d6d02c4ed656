// Functions of vectors, written once over the names of simd/{avx2,avx512,neon}.h, which include this file.
//
// tests/activate.cpp holds them to the C library in double, over the whole range of float, to the errors
// stated here and in ferrule/activation.h. NaN in, NaN out: `min` and `max` return their second argument
// where one is NaN, so the argument that may be NaN stands second. The polynomials and quotients are minimax
// fits to these functions.
#ifndef FERRULE_SIMD_MATH_H
#define FERRULE_SIMD_MATH_H

namespace {

inline F32 keep_nan(F32 from, F32 value) { return select(is_nan(from), from, value); }

// A float whose last bit is worth one: adding it rounds to an integer, to even in the middle.
constexpr float kRounder = 12582912.0f;

// e^x = 2^n * e^r with |r| <= ln(2)/2.
struct SplitExponential {
  F32 fraction;  // e^r
  F32 power;     // n
};

// The logarithm in two parts (Cody and Waite, Software Manual for the Elementary Functions, chapter 6). |x|
// <= 104.
inline SplitExponential split_exponential(F32 x) {
  const F32 n = sub(fma(x, splat(1.44269504f), splat(kRounder)), splat(kRounder));
  const F32 r = fnma(n, splat(1.42860677e-6f), fnma(n, splat(0.693145752f), x));
  F32 p = splat(0.00138145941f);
  p = fma(p, r, splat(0.00836871937f));
  p = fma(p, r, splat(0.041668389f));
  p = fma(p, r, splat(0.166665211f));
  p = fma(p, r, splat(0.49999994f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  return {p, n};
}

// Within 1 unit of the last place or so, below the normal range as well. Zero below -104 and infinite above
// 89, as the true function rounds to.
inline F32 exponential(F32 x) {
  const SplitExponential split = split_exponential(max(splat(-104.0f), min(splat(89.0f), x)));
  return scale_by_power(split.fraction, split.power);
}

// e^x for x <= 0, in fewer instructions; what lies below 2^-125 may be flushed to zero.
inline F32 exponential_below_one(F32 x) {
  const SplitExponential split = split_exponential(max(splat(-104.0f), x));
  return scale_down(split.fraction, split.power);
}

// 1 / (1 + e^-x) by e^-|x|, which cannot overflow: 1 / (1 + e) for positive x and e / (1 + e) for negative.
inline F32 sigmoid(F32 x) {
  const F32 e = exponential_below_one(copy_sign(x, splat(-1.0f)));
  return divide_near(select(less(x, zeros()), e, splat(1.0f)), add(splat(1.0f), e));
}

// 1 / (1 + e^-x) for x >= -87, where nothing leaves the normal range.
inline F32 logistic(F32 x) {
  const SplitExponential split = split_exponential(sub(zeros(), min(splat(87.0f), x)));
  return invert_near(add(splat(1.0f), scale_in_range(split.fraction, split.power)));
}

// x * sigmoid(x); where x < -87 the value there, which is above -2e-36.
inline F32 silu(F32 x) {
  const F32 above = max(splat(-87.0f), x);
  return mul(above, logistic(above));
}

inline F32 hyperbolic_tangent(F32 x) {
  const F32 bounded = max(splat(-9.01f), min(splat(9.01f), x));
  const F32 s = mul(bounded, bounded);
  F32 p = splat(1.33368552e-08f), q = splat(7.76928573e-07f);
  p = fma(p, s, splat(2.05962788e-05f));
  q = fma(q, s, splat(0.000328436377f));
  p = fma(p, s, splat(0.00349481148f));
  q = fma(q, s, splat(0.025874028f));
  p = fma(p, s, splat(0.133803725f));
  q = fma(q, s, splat(0.46713686f));
  p = fma(p, s, splat(1.0f));
  q = fma(q, s, splat(1.0f));
  return max(splat(-1.0f), min(splat(1.0f), divide_near(mul(bounded, p), q)));
}

// Phi(x) - 1/2, the normal distribution's mass between 0 and x, for |x| <= 5.54; at the ends not below 1/2.
inline F32 central_mass(F32 x) {
  const F32 s = mul(x, x);
  F32 p = splat(2.26741008e-08f), q = splat(1.19109211e-06f);
  p = fma(p, s, splat(6.2955769e-06f));
  q = fma(q, s, splat(7.26158905e-05f));
  p = fma(p, s, splat(0.000166259561f));
  q = fma(q, s, splat(0.0018702466f));
  p = fma(p, s, splat(0.00466143154f));
  q = fma(q, s, splat(0.0285177249f));
  p = fma(p, s, splat(0.0336422212f));
  q = fma(q, s, splat(0.250994921f));
  p = fma(p, s, splat(0.398942292f));
  q = fma(q, s, splat(1.0f));
  return divide_near(mul(x, p), q);
}

inline F32 error_function(F32 x) {
  const F32 bounded = max(splat(-5.54f), min(splat(5.54f), mul(x, splat(1.41421356f))));
  const F32 half = max(splat(-0.5f), min(splat(0.5f), central_mass(bounded)));
  return add(half, half);
}

// The approximation of x * Phi(x) by tanh. 0.5 (1 + tanh y) is the logistic function of 2y. Where x < -10 the
// value there, which is above -2e-37.
inline F32 gelu_by_tanh(F32 x) {
  const F32 above = max(splat(-10.0f), x);
  const F32 cubic = fma(mul(above, above), splat(0.0713548163f), splat(1.59576912f));
  return mul(above, logistic(max(splat(-87.0f), mul(cubic, above))));
}

inline F32 relu(F32 x) { return max(zeros(), x); }

inline F32 relu6(F32 x) { return min(splat(6.0f), relu(x)); }

// Zero, its limit, at -infinity.
inline F32 hard_swish(F32 x) {
  return mul(max(splat(-3.0f), x), mul(relu6(add(x, splat(3.0f))), splat(1.0f / 6)));
}

}  // namespace

#endif
