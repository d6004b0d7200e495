#include "model/sha256.h"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

namespace fixedpoint {

namespace {

constexpr std::size_t BLOCK = 64;

using State = std::array<uint32_t, 8>;

/// The first 32 bits of the fractional parts of the square roots of the first 8 primes (5.3.3) ...
constexpr State INITIAL = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                           0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/// ... and of the cube roots of the first 64 (4.2.2).
constexpr std::array<uint32_t, 64> ROUND = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/// Takes one block into the state (6.2.2).
void compress(State &state, const unsigned char *block)
{
  std::array<uint32_t, 64> w;
  for (std::size_t t = 0; t < 16; ++t)
    w[t] = uint32_t(block[4 * t]) << 24 | uint32_t(block[4 * t + 1]) << 16 | uint32_t(block[4 * t + 2]) << 8 |
           uint32_t(block[4 * t + 3]);
  for (std::size_t t = 16; t < 64; ++t) {
    const uint32_t early = w[t - 15], late = w[t - 2];
    w[t] = w[t - 16] + (std::rotr(early, 7) ^ std::rotr(early, 18) ^ early >> 3) + w[t - 7] +
           (std::rotr(late, 17) ^ std::rotr(late, 19) ^ late >> 10);
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (std::size_t t = 0; t < 64; ++t) {
    const uint32_t one =
        h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + ROUND[t] + w[t];
    const uint32_t two =
        (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + one;
    d = c, c = b, b = a, a = one + two;
  }
  const State added = {a, b, c, d, e, f, g, h};
  for (std::size_t k = 0; k < state.size(); ++k) state[k] += added[k];
}

}    // namespace

std::string sha256(const void *bytes, std::size_t size)
{
  const auto *at = static_cast<const unsigned char *>(bytes);
  State state = INITIAL;
  const std::size_t rest = size % BLOCK;
  for (std::size_t done = 0; done < size - rest; done += BLOCK) compress(state, at + done);

  // A bit, zeros, and the number of bits at the end of a block (5.1.1).
  std::array<unsigned char, 2 * BLOCK> padded{};
  if (rest > 0) std::memcpy(padded.data(), at + size - rest, rest);
  padded[rest] = 0x80;
  const std::size_t length = rest + 1 + 8 > BLOCK ? 2 * BLOCK : BLOCK;
  const uint64_t bits = static_cast<uint64_t>(size) * 8;
  for (std::size_t k = 0; k < 8; ++k) padded[length - 1 - k] = static_cast<unsigned char>(bits >> (8 * k));
  for (std::size_t done = 0; done < length; done += BLOCK) compress(state, padded.data() + done);

  std::string digits;
  for (const uint32_t word : state)
    for (int shift = 28; shift >= 0; shift -= 4) digits += "0123456789abcdef"[word >> shift & 0xf];
  return digits;
}

}    // namespace fixedpoint
