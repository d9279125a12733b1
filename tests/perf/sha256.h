/* SHA-256 (FIPS 180-4) with the processor's SHA instructions where it has them (x86-64),
 * as the floor of hashing. Written for this benchmark; fbuild itself uses the sha2 crate.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

struct sha256 {
    uint32_t state[8];
    uint64_t length;
    unsigned char rest[64];
};

static const uint32_t sha256_k[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t sha256_turn(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void sha256_plain(uint32_t state[8], const unsigned char *data, size_t blocks) {
    for (; blocks > 0; blocks--, data += 64) {
        uint32_t w[64];
        for (int t = 0; t < 16; t++)
            w[t] = (uint32_t)data[4 * t] << 24 | (uint32_t)data[4 * t + 1] << 16 |
                   (uint32_t)data[4 * t + 2] << 8 | data[4 * t + 3];
        for (int t = 16; t < 64; t++) {
            uint32_t a = w[t - 15], b = w[t - 2];
            w[t] = w[t - 16] + w[t - 7] + (sha256_turn(a, 7) ^ sha256_turn(a, 18) ^ a >> 3) +
                   (sha256_turn(b, 17) ^ sha256_turn(b, 19) ^ b >> 10);
        }
        uint32_t s[8];
        memcpy(s, state, sizeof s);
        for (int t = 0; t < 64; t++) {
            uint32_t e = s[4], a = s[0];
            uint32_t one = s[7] + (sha256_turn(e, 6) ^ sha256_turn(e, 11) ^ sha256_turn(e, 25)) +
                           ((e & s[5]) ^ (~e & s[6])) + sha256_k[t] + w[t];
            uint32_t two = (sha256_turn(a, 2) ^ sha256_turn(a, 13) ^ sha256_turn(a, 22)) +
                           ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
            memmove(s + 1, s, 7 * sizeof *s);
            s[4] += one;
            s[0] = one + two;
        }
        for (int n = 0; n < 8; n++) state[n] += s[n];
    }
}

#if defined(__x86_64__)
__attribute__((target("sha,sse4.1,ssse3")))
static void sha256_fast(uint32_t state[8], const unsigned char *data, size_t blocks) {
    const __m128i flip = _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll);
    /* The instructions want the state as the words ABEF and CDGH. */
    __m128i low = _mm_loadu_si128((const __m128i *)state);
    __m128i high = _mm_loadu_si128((const __m128i *)(state + 4));
    low = _mm_shuffle_epi32(low, 0xb1);
    high = _mm_shuffle_epi32(high, 0x1b);
    __m128i abef = _mm_alignr_epi8(low, high, 8);
    __m128i cdgh = _mm_blend_epi16(high, low, 0xf0);
    for (; blocks > 0; blocks--, data += 64) {
        __m128i abef_before = abef, cdgh_before = cdgh, w[4];
        for (int n = 0; n < 4; n++) {
            __m128i word = _mm_loadu_si128((const __m128i *)(data + 16 * n));
            w[n] = _mm_shuffle_epi8(word, flip);
        }
#pragma GCC unroll 16
        for (int t = 0; t < 16; t++) {
            __m128i now = w[t & 3];
            if (t >= 4) {
                __m128i sum = _mm_sha256msg1_epu32(now, w[(t + 1) & 3]);
                sum = _mm_add_epi32(sum, _mm_alignr_epi8(w[(t + 3) & 3], w[(t + 2) & 3], 4));
                now = w[t & 3] = _mm_sha256msg2_epu32(sum, w[(t + 3) & 3]);
            }
            __m128i k = _mm_load_si128((const __m128i *)(sha256_k + 4 * t));
            __m128i round = _mm_add_epi32(now, k);
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, round);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(round, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    low = _mm_shuffle_epi32(abef, 0x1b);
    high = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(high, low, 8));
}

static int sha256_is_fast(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}
#endif

static void sha256_blocks(uint32_t state[8], const unsigned char *data, size_t blocks) {
#if defined(__x86_64__)
    static int is_fast = -1;
    if (is_fast < 0) is_fast = sha256_is_fast();
    if (is_fast) {
        sha256_fast(state, data, blocks);
        return;
    }
#endif
    sha256_plain(state, data, blocks);
}

static void sha256_begin(struct sha256 *hash) {
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, start, sizeof start);
    hash->length = 0;
}

static void sha256_add(struct sha256 *hash, const unsigned char *data, size_t len) {
    size_t held = hash->length % 64;
    hash->length += len;
    if (held) {
        size_t room = 64 - held, step = len < room ? len : room;
        memcpy(hash->rest + held, data, step);
        if (held + step < 64) return;
        sha256_blocks(hash->state, hash->rest, 1);
        data += step;
        len -= step;
    }
    sha256_blocks(hash->state, data, len / 64);
    memcpy(hash->rest, data + len / 64 * 64, len % 64);
}

static void sha256_end(struct sha256 *hash, unsigned char digest[32]) {
    uint64_t bits = hash->length * 8;
    static const unsigned char pad[64] = {0x80};
    sha256_add(hash, pad, 1 + (119 - hash->length % 64) % 64);
    unsigned char length[8];
    for (int n = 0; n < 8; n++) length[n] = (unsigned char)(bits >> (56 - 8 * n));
    sha256_add(hash, length, 8);
    for (int n = 0; n < 8; n++)
        for (int b = 0; b < 4; b++) digest[4 * n + b] = (unsigned char)(hash->state[n] >> (24 - 8 * b));
}
