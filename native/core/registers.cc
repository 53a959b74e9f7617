#include "core/registers.h"

namespace kms {

// By hand, because the compiler's own way (zero_call_used_regs) clears what the oldest processor of the build has, and in newer
// ones the registers are wider and more.

#define KMS_FIRST_16(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define KMS_LAST_16(X) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)

#if defined(__x86_64__)

#define KMS_CLEAR_SSE(n) "xorps %%xmm" #n ", %%xmm" #n "\n\t"
// In its full width: an instruction of this encoding clears what lies above the part it writes.
#define KMS_CLEAR_AVX512(n) "vpxord %%xmm" #n ", %%xmm" #n ", %%xmm" #n "\n\t"
#define KMS_CHANGED                                                                                                              \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", \
      "xmm15"

void wipeRegisters() {
  // No caller keeps anything in the last sixteen, and only a compiler that was told of them takes their names.
  if (__builtin_cpu_supports("avx512vl")) __asm__ volatile(KMS_LAST_16(KMS_CLEAR_AVX512)::);
  if (__builtin_cpu_supports("avx")) {
    __asm__ volatile("vzeroall" ::: KMS_CHANGED);
  } else {
    __asm__ volatile(KMS_FIRST_16(KMS_CLEAR_SSE)::: KMS_CHANGED);
  }
}

#elif defined(__aarch64__)

#define KMS_CLEAR(n) "movi v" #n ".2d, #0\n\t"
#define KMS_CHANGED                                                                                                             \
  "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18",    \
      "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31"

void wipeRegisters() {
  // The lower halves of 8 to 15 are the caller's. The compiler saves them and puts them back, which clears the upper ones.
  __asm__ volatile(KMS_FIRST_16(KMS_CLEAR) KMS_LAST_16(KMS_CLEAR)::: KMS_CHANGED);
}

#else

// Not a processor that there are prebuilt binaries for.
void wipeRegisters() {}

#endif

}  // namespace kms
