//! One bucket: a cache line of slots, looked at as a whole.
//!
//! A look compares all tags at once and touches no key. What it says is a hint as old as the look: whoever acts on a slot
//! loads that slot again, or claims it by compare-and-swap.

use super::WAYS;
use crate::memory::Zeroed;
use crate::sync::{AtomicU64, Ordering};

/// One cache line of slots. A slot of 0 is free.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    pub(super) slots: [AtomicU64; WAYS],
}

// SAFETY: eight atomic words, nothing else; zero is eight free slots.
unsafe impl Zeroed for Bucket {}

#[cfg(not(postern_loom))]
const _: () = assert!(size_of::<Bucket>() == 64 && align_of::<Bucket>() == 64);

/// What a look at a bucket saw: one bit a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Slots with the tag.
    pub(super) tagged: u32,
    /// Free slots.
    pub(super) free: u32,
}

impl Bucket {
    /// Compares all slots with a tag, which is odd: a free slot has none.
    #[inline(always)]
    pub(super) fn look(&self, tag: u16) -> Look {
        #[cfg(all(target_arch = "x86_64", not(postern_loom), not(miri)))]
        return self.look_at_once(tag);
        #[cfg(not(all(target_arch = "x86_64", not(postern_loom), not(miri))))]
        self.look_one_by_one(tag)
    }

    #[cfg(any(test, not(target_arch = "x86_64"), postern_loom, miri))]
    fn look_one_by_one(&self, tag: u16) -> Look {
        let mut look = Look { tagged: 0, free: 0 };
        for (number, slot) in self.slots.iter().enumerate() {
            let value = slot.load(Ordering::Acquire);
            look.tagged |= u32::from(value >> 48 == u64::from(tag)) << number;
            look.free |= u32::from(value == 0) << number;
        }
        look
    }

    /// The same with 16-byte registers, which every x86-64 has.
    #[cfg(all(target_arch = "x86_64", not(postern_loom), not(miri)))]
    #[inline(always)]
    fn look_at_once(&self, tag: u16) -> Look {
        use core::arch::x86_64::{
            __m128i, _mm_castps_si128, _mm_castsi128_ps, _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16,
            _mm_packs_epi32, _mm_set1_epi16, _mm_setzero_si128, _mm_shuffle_ps, _mm_srai_epi32,
        };
        let (a, b, c, d): (__m128i, __m128i, __m128i, __m128i);
        // Others write the slots meanwhile, hence not an ordinary load: as atomic loads go, these are relaxed ones, two at a
        // time. x86-64 keeps loads in order and each aligned 8 bytes whole.
        // SAFETY: 64 bytes that are borrowed, aligned to 64; nothing is written, neither to memory nor to flags or stack.
        unsafe {
            core::arch::asm!(
                "movdqa {a}, [{at}]",
                "movdqa {b}, [{at} + 16]",
                "movdqa {c}, [{at} + 32]",
                "movdqa {d}, [{at} + 48]",
                at = in(reg) self.slots.as_ptr(),
                a = out(xmm_reg) a,
                b = out(xmm_reg) b,
                c = out(xmm_reg) c,
                d = out(xmm_reg) d,
                options(nostack, preserves_flags, readonly),
            );
        }
        // SAFETY: SSE2, which every x86-64 has.
        let bits = unsafe {
            // The high halves of four slots each, then the tags of all eight.
            let high = |x, y| {
                let odd = _mm_shuffle_ps::<0b11_01_11_01>(_mm_castsi128_ps(x), _mm_castsi128_ps(y));
                _mm_srai_epi32::<16>(_mm_castps_si128(odd))
            };
            let tags = _mm_packs_epi32(high(a, b), high(c, d));
            let tagged = _mm_cmpeq_epi16(tags, _mm_set1_epi16(tag.cast_signed()));
            let free = _mm_cmpeq_epi16(tags, _mm_setzero_si128());
            _mm_movemask_epi8(_mm_packs_epi16(tagged, free)).cast_unsigned()
        };
        Look { tagged: bits & 0xff, free: bits >> 8 }
    }

    /// The slot's value; 0 if it is free now.
    #[inline(always)]
    pub(super) fn value(&self, number: u32) -> u64 {
        self.slots.get(number as usize).map_or(0, |slot| slot.load(Ordering::Acquire))
    }

    /// The slot's value, if it has the tag now.
    #[inline(always)]
    pub(super) fn tagged(&self, number: u32, tag: u16) -> Option<u64> {
        let value = self.value(number);
        (value >> 48 == u64::from(tag)).then_some(value)
    }

    /// Puts a value into one of these free slots, if one still is.
    pub(super) fn claim(&self, mut free: u32, value: u64) -> bool {
        while free != 0 {
            if self.slots.get(free.trailing_zeros() as usize).is_some_and(|slot| swap(slot, 0, value)) {
                return true;
            }
            free &= free - 1;
        }
        false
    }

    /// Clears the slot of this value. False if there is none.
    pub(super) fn clear(&self, value: u64) -> bool {
        let mut tagged = self.look((value >> 48) as u16).tagged;
        while tagged != 0 {
            if self.slots.get(tagged.trailing_zeros() as usize).is_some_and(|slot| swap(slot, value, 0)) {
                return true;
            }
            tagged &= tagged - 1;
        }
        false
    }
}

/// Puts `new` in the place of `old`.
pub(super) fn swap(slot: &AtomicU64, old: u64, new: u64) -> bool {
    // A failed compare-and-swap is dear.
    slot.load(Ordering::Relaxed) == old
        && slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

#[cfg(all(test, not(postern_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_at_once_is_one_by_one(slots in proptest::collection::vec((0u16..4, any::<u64>()), 8), tag in 0u16..2) {
            // Few tags, odd ones, some slots free; what stands below a tag is anything.
            let bucket = Bucket::default();
            for (slot, (kind, low)) in bucket.slots.iter().zip(&slots) {
                let tag = [0, 1, 0x8001, 0xffff][usize::from(*kind)];
                slot.store(if *kind == 0 { 0 } else { tag << 48 | low >> 16 }, Ordering::Relaxed);
            }
            for tag in [1u16, 0x8001, 0xffff, 2 * tag + 3] {
                prop_assert_eq!(bucket.look(tag), bucket.look_one_by_one(tag));
            }
        }
    }
}
