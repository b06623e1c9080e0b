// Where a key lives: the first 64-bit word of MurmurHash3_x64_128 with seed 0, and the partition it falls into.

const MASK = (1n << 64n) - 1n;
const C1 = 0x87c37b91114253d5n;
const C2 = 0x4cf5ad432745937fn;

const times = (a, b) => (a * b) & MASK;
const plus = (a, b) => (a + b) & MASK;
const rotate = (word, bits) => ((word << bits) | (word >> (64n - bits))) & MASK;
const scrambleFirst = (word) => times(rotate(times(word, C1), 31n), C2);
const scrambleSecond = (word) => times(rotate(times(word, C2), 33n), C1);

function avalanche(word) {
    word = times(word ^ (word >> 33n), 0xff51afd7ed558ccdn);
    word = times(word ^ (word >> 33n), 0xc4ceb9fe1a85ec53n);
    return word ^ (word >> 33n);
}

export function firstWord(bytes) {
    const whole = bytes.length - (bytes.length % 16);
    let h1 = 0n;
    let h2 = 0n;
    for (let at = 0; at < whole; at += 16) {
        h1 = plus(rotate(h1 ^ scrambleFirst(bytes.readBigUInt64LE(at)), 27n), h2);
        h1 = plus(times(h1, 5n), 0x52dce729n);
        h2 = plus(rotate(h2 ^ scrambleSecond(bytes.readBigUInt64LE(at + 8)), 31n), h1);
        h2 = plus(times(h2, 5n), 0x38495ab5n);
    }
    // Zeros in the tail change nothing: the scrambled word of zeros is zero.
    const tail = Buffer.alloc(16);
    bytes.copy(tail, 0, whole);
    const length = BigInt(bytes.length);
    h1 ^= scrambleFirst(tail.readBigUInt64LE(0)) ^ length;
    h2 ^= scrambleSecond(tail.readBigUInt64LE(8)) ^ length;
    h1 = plus(h1, h2);
    h2 = plus(h2, h1);
    return plus(avalanche(h1), avalanche(h2));
}

// `key` is a Buffer, `partitions` a power of two.
export function locate(ks, key, partitions) {
    const hash = firstWord(Buffer.concat([Buffer.from(ks), Buffer.of(0), key]));
    return { hash: hash.toString(16).padStart(16, "0"), partition: Number(hash >> BigInt(64 - Math.log2(partitions))) };
}
