//! `memcpy` and its kin, which the compiler calls by name and a program without a C library must bring.
//!
//! Short runs go through overlapping registers, long ones through `rep movsb`/`rep stosb`, which processors of the
//! last ten years make as fast as memory is. Nothing here may be written as a plain loop: the compiler would see
//! that it copies, and call the function that it is in.

use core::arch::asm;
use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_set1_epi8, _mm_storeu_si128};

/// Up to here registers win; `rep` takes some 30 cycles to start.
const SHORT: usize = 256;

/// Reads at any alignment.
///
/// # Safety
/// As for `ptr::read_unaligned`.
#[inline(always)]
unsafe fn get<T: Copy>(from: *const u8) -> T {
    // SAFETY: the caller's.
    unsafe { from.cast::<T>().read_unaligned() }
}

/// Writes at any alignment.
///
/// # Safety
/// As for `ptr::write_unaligned`.
#[inline(always)]
unsafe fn put<T: Copy>(to: *mut u8, value: T) {
    // SAFETY: the caller's.
    unsafe { to.cast::<T>().write_unaligned(value) };
}

/// Copies up to 32 bytes that may overlap: everything is read before anything is written.
///
/// # Safety
/// `to` and `from` are valid for `count` bytes, and `count <= 32`.
#[inline(always)]
unsafe fn copy_32(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: each access lies within the first or the last bytes of `count`, which the arms bound from below.
    unsafe {
        match count {
            17.. => {
                let (a, b) = (_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(count - 16).cast()));
                _mm_storeu_si128(to.cast(), a);
                _mm_storeu_si128(to.add(count - 16).cast(), b);
            }
            8.. => {
                let (a, b) = (get::<u64>(from), get::<u64>(from.add(count - 8)));
                put(to, a);
                put(to.add(count - 8), b);
            }
            4.. => {
                let (a, b) = (get::<u32>(from), get::<u32>(from.add(count - 4)));
                put(to, a);
                put(to.add(count - 4), b);
            }
            2.. => {
                let (a, b) = (get::<u16>(from), get::<u16>(from.add(count - 2)));
                put(to, a);
                put(to.add(count - 2), b);
            }
            1 => put(to, get::<u8>(from)),
            0 => {}
        }
    }
}

/// # Safety
/// As C's `memcpy`.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the caller's ranges; the offsets stay within `count`.
    unsafe {
        if count <= 32 {
            return copy_32(to, from, count);
        }
        if count <= SHORT {
            // The tail is read first, so that it is right even where a step below has written over it.
            let last: __m128i = _mm_loadu_si128(from.add(count - 16).cast());
            let mut at = 0;
            while at < count - 16 {
                let value: __m128i = _mm_loadu_si128(from.add(at).cast());
                _mm_storeu_si128(to.add(at).cast(), value);
                at += 16;
            }
            _mm_storeu_si128(to.add(count - 16).cast(), last);
            return;
        }
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
}

/// # Safety
/// As C's `memmove`.
#[inline(always)]
unsafe fn copy_overlapping(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the caller's ranges; the offsets stay within `count`.
    unsafe {
        if count <= 32 {
            return copy_32(to, from, count);
        }
        // Wrapping: `to` below `from` gives a huge distance, and going upwards is right for both.
        if (to as usize).wrapping_sub(from as usize) >= count {
            return copy(to, from, count);
        }
        // `to` lies within the source: from the end down, sixteen at a time, the head read before it is written over.
        let head: __m128i = _mm_loadu_si128(from.cast());
        let mut left = count;
        while left > 16 {
            left -= 16;
            let value: __m128i = _mm_loadu_si128(from.add(left).cast());
            _mm_storeu_si128(to.add(left).cast(), value);
        }
        _mm_storeu_si128(to.cast(), head);
    }
}

/// # Safety
/// As C's `memset`.
#[inline(always)]
unsafe fn fill(to: *mut u8, value: u8, count: usize) {
    // SAFETY: the caller's range; the offsets stay within `count`.
    unsafe {
        if count > SHORT {
            asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") value,
                options(nostack, preserves_flags));
        } else if count >= 16 {
            let pattern = _mm_set1_epi8(value.cast_signed());
            let mut at = 0;
            while at < count - 16 {
                _mm_storeu_si128(to.add(at).cast(), pattern);
                at += 16;
            }
            _mm_storeu_si128(to.add(count - 16).cast(), pattern);
        } else {
            let pattern = u64::from(value) * 0x0101_0101_0101_0101;
            match count {
                8.. => {
                    put(to, pattern);
                    put(to.add(count - 8), pattern);
                }
                4.. => {
                    put(to, pattern as u32);
                    put(to.add(count - 4), pattern as u32);
                }
                2.. => {
                    put(to, pattern as u16);
                    put(to.add(count - 2), pattern as u16);
                }
                1 => put(to, value),
                0 => {}
            }
        }
    }
}

/// # Safety
/// As C's `memcmp`.
#[inline(always)]
unsafe fn compare(left: *const u8, right: *const u8, count: usize) -> i32 {
    let mut at = 0;
    // SAFETY: `at` stays within the caller's `count`.
    unsafe {
        while at + 8 <= count {
            let (a, b) = (get::<u64>(left.add(at)), get::<u64>(right.add(at)));
            if a != b {
                return if a.swap_bytes() < b.swap_bytes() { -1 } else { 1 };
            }
            at += 8;
        }
        while at < count {
            let (a, b) = (left.add(at).read(), right.add(at).read());
            if a != b {
                return i32::from(a) - i32::from(b);
            }
            at += 1;
        }
    }
    0
}

#[cfg(not(test))]
mod names {
    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { super::copy(to, from, count) };
        to
    }

    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { super::copy_overlapping(to, from, count) };
        to
    }

    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { super::fill(to, value as u8, count) };
        to
    }

    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
        // SAFETY: the caller's.
        unsafe { super::compare(left, right, count) }
    }

    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
        // SAFETY: the caller's.
        unsafe { super::compare(left, right, count) }
    }

    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const u8) -> usize {
        let mut length = 0;
        // SAFETY: the caller's string ends in a NUL.
        while unsafe { text.add(length).read_volatile() } != 0 {
            length += 1;
        }
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn size() -> impl Strategy<Value = usize> {
        prop_oneof![0usize..80, 200usize..600, 4000usize..5000]
    }

    proptest! {
        #[test]
        fn copy_is_the_slices_copy(count in size(), skew in 0usize..17, other in 0usize..17) {
            let source: Vec<u8> = (0..count + 40).map(|i| (i * 7) as u8).collect();
            let mut got = std::vec![0u8; count + 40];
            let mut want = got.clone();
            want[skew..skew + count].copy_from_slice(&source[other..other + count]);
            // SAFETY: both vectors are longer than skew and count together.
            unsafe { copy(got.as_mut_ptr().add(skew), source.as_ptr().add(other), count) };
            prop_assert_eq!(got, want);
        }

        #[test]
        fn overlapping_copy_is_the_slices_copy_within(count in size(), to in 0usize..300, from in 0usize..300) {
            let mut got: Vec<u8> = (0..count + 300).map(|i| (i * 13 + i / 256) as u8).collect();
            let mut want = got.clone();
            want.copy_within(from..from + count, to);
            let base = got.as_mut_ptr();
            // SAFETY: the vector is longer than either offset and count together.
            unsafe { copy_overlapping(base.add(to), base.add(from), count) };
            prop_assert_eq!(got, want);
        }

        #[test]
        fn fill_is_the_slices_fill(count in size(), skew in 0usize..17, value: u8) {
            let mut got = std::vec![0x5Au8; count + 40];
            let mut want = got.clone();
            want[skew..skew + count].fill(value);
            // SAFETY: the vector is longer than skew and count together.
            unsafe { fill(got.as_mut_ptr().add(skew), value, count) };
            prop_assert_eq!(got, want);
        }

        #[test]
        fn compare_is_the_slices_order(mut left in prop::collection::vec(0u8..3, 0..40), at: prop::sample::Index, value: u8) {
            let right = left.clone();
            if !left.is_empty() {
                let at = at.index(left.len());
                left[at] = value;
            }
            // SAFETY: both vectors have this length.
            let got = unsafe { compare(left.as_ptr(), right.as_ptr(), left.len()) };
            prop_assert_eq!(got.signum(), left.cmp(&right) as i32);
        }
    }
}
