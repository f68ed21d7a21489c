//! What was weighed for the path, beside what the path does (`docs/decisions/0020`). Each pair does the same work.

use benches::key;
use benches::rig::flows::Walk;
use core::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_cmpeq_epi32, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_movemask_epi8,
    _mm_set_epi64x, _mm_xor_si128, _rdtsc,
};
use criterion::{Criterion, Throughput, criterion_group};
use dataplane::key::{Addrs, FlowKey};
use dataplane::table::{HashKey, l4_word};
use std::hint::black_box;

const BURST: usize = 64;
/// Buffers of 2 KiB: 128 MiB, more than any cache here has.
const BUFFERS: u32 = 65_536;
const BUFFER_LEN: usize = 2048;

/// The words of an IPv4 key, as the hash has them.
fn words(key: &FlowKey) -> (u64, u64) {
    let Addrs::V4(source, destination) = key.addrs else { unreachable!("keys of our own") };
    (u64::from(source) << 32 | u64::from(destination), l4_word(key))
}

fn of(high: u64, low: u64) -> __m128i {
    // SAFETY: SSE2, which every x86-64 has.
    unsafe { _mm_set_epi64x(high.cast_signed(), low.cast_signed()) }
}

/// Two or three rounds of AES over the key, with a secret before each. Two are too few for a hash (`docs/decisions/0020`).
#[target_feature(enable = "aes")]
fn aes<const ROUNDS: usize>(secret: [__m128i; 3], (addrs, l4): (u64, u64)) -> u64 {
    let [k0, k1, k2] = secret;
    let state = _mm_xor_si128(of(addrs, l4), k0);
    let mut state = _mm_aesenc_si128(_mm_aesenc_si128(state, k1), k2);
    if ROUNDS == 3 {
        state = _mm_aesenc_si128(state, k0);
    }
    _mm_cvtsi128_si64(state).cast_unsigned()
}

#[target_feature(enable = "aes")]
fn aes_burst<const ROUNDS: usize>(secret: [__m128i; 3], keys: &[FlowKey]) -> u64 {
    keys.iter().fold(0, |all, key| all ^ aes::<ROUNDS>(secret, words(key)))
}

fn hashes(c: &mut Criterion) {
    let mut group = c.benchmark_group("ideas/hash-64-keys");
    group.throughput(Throughput::Elements(BURST as u64));
    let keys: Vec<FlowKey> = (0..BURST as u32).map(key).collect();
    let secret = HashKey::new([1, 2, 3, 4]);
    group.bench_function("multiply-and-fold", |b| {
        b.iter(|| black_box(&keys).iter().fold(0, |all, key| all ^ secret.hash(key).0));
    });
    if is_x86_feature_detected!("aes") {
        let secret = [of(1, 2), of(3, 4), of(5, 6)];
        group.bench_function("two-rounds-of-aes", |b| {
            b.iter(|| {
                // SAFETY: the CPU has AES.
                unsafe { aes_burst::<2>(secret, black_box(&keys)) }
            });
        });
        group.bench_function("three-rounds-of-aes", |b| {
            b.iter(|| {
                // SAFETY: as above.
                unsafe { aes_burst::<3>(secret, black_box(&keys)) }
            });
        });
    }
    group.finish();
}

fn compares(c: &mut Criterion) {
    let mut group = c.benchmark_group("ideas/compare-64-keys");
    group.throughput(Throughput::Elements(BURST as u64));
    let wanted: Vec<(u64, u64)> = (0..BURST as u32).map(|n| words(&key(n))).collect();
    let kept: Vec<[u64; 2]> = wanted.iter().map(|&(addrs, l4)| [addrs, l4]).collect();
    group.bench_function("two-words", |b| {
        b.iter(|| {
            let pairs = black_box(&kept).iter().zip(black_box(&wanted));
            pairs.filter(|&(k, &(addrs, l4))| k[0] == addrs && k[1] == l4).count()
        });
    });
    group.bench_function("one-register", |b| {
        b.iter(|| {
            let pairs = black_box(&kept).iter().zip(black_box(&wanted));
            pairs
                .filter(|&(k, &(addrs, l4))| {
                    // SAFETY: sixteen bytes that are there; SSE2, which every x86-64 has.
                    unsafe {
                        let kept = _mm_loadu_si128(k.as_ptr().cast());
                        _mm_movemask_epi8(_mm_cmpeq_epi32(kept, of(l4, addrs))) == 0xffff
                    }
                })
                .count()
        });
    });
    group.finish();
}

/// Reading 64 headers that are in no cache, as a NIC without direct cache access leaves them.
fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("ideas/read-64-cold-headers");
    group.throughput(Throughput::Elements(BURST as u64));
    let memory = vec![1_u8; BUFFERS as usize * BUFFER_LEN];
    let mut walk = Walk::new(1);
    let mut burst = [0_usize; BURST];
    let read = |at: usize| {
        let word = |n: usize| {
            let bytes = memory.get(at + n..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |b| u64::from_le_bytes(*b))
        };
        // As the path: destination, lengths, addresses, ports, and a hash that waits for them.
        let (first, second) = (word(0) ^ word(14), word(22) ^ word(30));
        let product = u128::from(first | 1) * u128::from(second | 3);
        (product >> 64) as u64 ^ product as u64
    };
    for (name, ahead) in [("as-they-come", false), ("prefetched", true)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                burst.fill_with(|| walk.below(BUFFERS) as usize * BUFFER_LEN + 128);
                if ahead {
                    for at in burst {
                        if let Some(first) = memory.get(at) {
                            dataplane::prefetch_to_write(first);
                        }
                    }
                }
                burst.iter().fold(0, |all, &at| all ^ read(at))
            });
        });
    }
    group.finish();
}

fn clock(c: &mut Criterion) {
    // SAFETY: every x86-64 has the counter.
    c.bench_function("ideas/read-the-time-stamp-counter", |b| b.iter(|| unsafe { _rdtsc() }));
}

criterion_group!(benches, hashes, compares, headers, clock);
