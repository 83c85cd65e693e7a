//! Random bytes, from the monitor's entropy device; where there is none, from the processor.
//!
//! Nothing is stretched by a generator of the guest's own: each byte comes fresh from its source, so that two guests
//! made from one snapshot never share a stream.

use crate::boot::{LEAF_FEATURES, record};
use crate::core_cell::CoreCell;
use crate::virtio::rng::Entropy;
use core::arch::x86_64::_rdrand64_step;
use core::fmt;
use core::future::poll_fn;
use core::task::{Poll, Waker};

/// CPUID leaf 1, ecx.
const RDRAND: u32 = 1 << 30;
/// Intel's advice: a processor that fails ten times in a row is broken.
const ATTEMPTS: usize = 10;

enum Source {
    /// Not looked for yet: a guest that needs no random bytes does not pay for the device.
    Unknown,
    Device(Entropy),
    Processor,
    None,
}

static SOURCE: CoreCell<Source> = CoreCell::new(Source::Unknown);
/// Whose request is under way, and who waits for its turn: the event loop wakes them all.
static WAITING: CoreCell<alloc::vec::Vec<Waker>> = CoreCell::new(alloc::vec::Vec::new());

/// There is no source of random bytes: no entropy device, and no RDRAND that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEntropy;

impl fmt::Display for NoEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no entropy device, and a processor without a working rdrand")
    }
}

impl core::error::Error for NoEntropy {}

/// Fills `bytes` with random ones.
///
/// # Errors
/// [`NoEntropy`] where this machine has no source.
pub async fn fill(bytes: &mut [u8]) -> Result<(), NoEntropy> {
    let mut filled = 0;
    poll_fn(|context| {
        while filled < bytes.len() {
            let rest = &mut bytes[filled..];
            match step(rest) {
                Step::Filled(count) => filled += count,
                Step::Wait => {
                    WAITING.borrow().push(context.waker().clone());
                    return Poll::Pending;
                }
                Step::Failed => return Poll::Ready(Err(NoEntropy)),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

enum Step {
    Filled(usize),
    Wait,
    Failed,
}

/// Fills a part of `bytes`, or asks the device to.
fn step(bytes: &mut [u8]) -> Step {
    let mut source = SOURCE.borrow();
    if let Source::Unknown = *source {
        *source = find();
    }
    match &mut *source {
        Source::Device(device) => match device.answer() {
            // Bytes that came for a request of somebody else's are as random, and are given to one only.
            Ok(Some(random)) if !random.is_empty() => {
                let count = random.len().min(bytes.len());
                bytes[..count].copy_from_slice(&random[..count]);
                random.fill(0);
                Step::Filled(count)
            }
            Ok(_) => {
                device.request(bytes.len());
                Step::Wait
            }
            Err(_) => {
                crate::println!("libos: the entropy device is broken and no longer used");
                *source = processor();
                Step::Filled(0)
            }
        },
        Source::Processor => match rdrand() {
            Some(word) => {
                let count = bytes.len().min(8);
                bytes[..count].copy_from_slice(&word.to_ne_bytes()[..count]);
                Step::Filled(count)
            }
            None => Step::Failed,
        },
        Source::Unknown | Source::None => Step::Failed,
    }
}

/// The best source there is.
fn find() -> Source {
    match Entropy::find() {
        Some(Ok(device)) => Source::Device(device),
        Some(Err(error)) => {
            crate::println!("libos: the entropy device is not used: {error}");
            processor()
        }
        None => processor(),
    }
}

fn processor() -> Source {
    if record().leaf(LEAF_FEATURES)[2] & RDRAND != 0 {
        Source::Processor
    } else {
        Source::None
    }
}

fn rdrand() -> Option<u64> {
    #[target_feature(enable = "rdrand")]
    fn step(word: &mut u64) -> bool {
        _rdrand64_step(word) == 1
    }
    let mut word = 0;
    // SAFETY: CPUID has the instruction: `processor` looked.
    (0..ATTEMPTS).any(|_| unsafe { step(&mut word) }).then_some(word)
}

/// The event loop comes round; true where the device may have answered and somebody waits for it.
pub(crate) fn turn() -> bool {
    let waiting = match &mut *SOURCE.borrow() {
        Source::Device(device) if device.answered() => core::mem::take(&mut *WAITING.borrow()),
        _ => return false,
    };
    let any = !waiting.is_empty();
    waiting.into_iter().for_each(Waker::wake);
    any
}

/// Has the device interrupt the sleeping guest.
pub(crate) fn set_interrupts(on: bool) {
    if let Source::Device(device) = &*SOURCE.borrow() {
        device.set_interrupts(on);
    }
}
