# What streams.core.identity computes, in C. BLAKE2b (RFC 7693) is here without a key, for texts of a few
# hundred bytes: a call of hashlib takes longer than the hash.

from libc.stdint cimport uint8_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memcpy, memset

from streams.wire._out cimport Out, Text, put

cdef enum:
    BLOCK_BYTES = 128
    ROUNDS = 12

cdef extern from *:
    """
    static const uint64_t BLAKE2B_IV[8] = {
        0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL, 0xa54ff53a5f1d36f1ULL,
        0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL, 0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL,
    };
    static const uint8_t BLAKE2B_SIGMA[10][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
        {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
        {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
        {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
        {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
        {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
        {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
        {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
        {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    };
    """
    const uint64_t BLAKE2B_IV[8]
    const uint8_t BLAKE2B_SIGMA[10][16]


cdef inline uint64_t turned(uint64_t word, int bits) noexcept nogil:
    return word >> bits | word << (64 - bits)


cdef inline void mix(uint64_t* v, int a, int b, int c, int d, uint64_t x, uint64_t y) noexcept nogil:
    v[a] += v[b] + x
    v[d] = turned(v[d] ^ v[a], 32)
    v[c] += v[d]
    v[b] = turned(v[b] ^ v[c], 24)
    v[a] += v[b] + y
    v[d] = turned(v[d] ^ v[a], 16)
    v[c] += v[d]
    v[b] = turned(v[b] ^ v[c], 63)


cdef inline void compress(uint64_t* h, const char* block, uint64_t count, bint last) noexcept nogil:
    cdef uint64_t v[16]
    cdef uint64_t m[16]
    cdef const uint8_t* s
    cdef int i
    memcpy(m, block, BLOCK_BYTES)  # words are little-endian, as the machines are that this is built for
    for i in range(8):
        v[i] = h[i]
        v[i + 8] = BLAKE2B_IV[i]
    v[12] ^= count
    if last:
        v[14] = ~v[14]
    for i in range(ROUNDS):
        s = BLAKE2B_SIGMA[i % 10]
        mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]])
        mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]])
        mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]])
        mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]])
        mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]])
        mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]])
        mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]])
        mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]])
    for i in range(8):
        h[i] ^= v[i] ^ v[i + 8]


cdef inline void blake2b(const char* data, Py_ssize_t size, char* digest, int digest_bytes) noexcept nogil:
    """The hash of ``data`` in ``digest_bytes`` bytes, 64 at most."""
    cdef uint64_t h[8]
    cdef char block[BLOCK_BYTES]
    cdef Py_ssize_t at = 0
    memcpy(h, BLAKE2B_IV, sizeof(h))
    h[0] ^= 0x01010000 ^ digest_bytes
    while size - at > BLOCK_BYTES:
        compress(h, data + at, at + BLOCK_BYTES, False)
        at += BLOCK_BYTES
    memset(block, 0, BLOCK_BYTES)
    memcpy(block, data + at, size - at)
    compress(h, block, size, True)
    memcpy(digest, h, digest_bytes)


cdef inline Py_ssize_t characters(Text text) noexcept nogil:
    """The characters of UTF-8: its bytes but those that continue one."""
    cdef Py_ssize_t i, count = 0
    for i in range(text.size):
        count += (text.data[i] & 0xC0) != 0x80
    return count


cdef inline int put_part(Out* out, Text part) except -1:
    """See :func:`streams.core.identity.lengthened`."""
    cdef char length[24]
    put(out, length, snprintf(length, sizeof(length), b"%zd:", characters(part)))
    return put(out, part.data, part.size)


cdef inline bint is_plain_in_keys(Text part) noexcept nogil:
    """Whether a part stands in keys as it is, without a character escaped."""
    return memchr(part.data, c"|", part.size) == NULL and memchr(part.data, c"%", part.size) == NULL
