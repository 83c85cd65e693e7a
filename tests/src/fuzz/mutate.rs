//! New inputs from old ones.

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 20] = [
    0,
    1,
    2,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0xFFF,
    0x1000,
    0x7FFF,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x1_0000_0000,
    0x7FFF_FFFF_FFFF_FFFF,
    0xFFFF_FFFF_FFFF_F000,
    u64::MAX,
];

/// Longest input that mutation makes.
pub(super) const LONGEST: usize = 8 << 10;

/// A small generator (splitmix64): the same seed gives the same run.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        let most = (len - start).min(1 << self.below(9));
        start..start + self.below(most + 1)
    }
}

/// Changes `input` in one to eight ways; `other` is a second input to cross it with, `words` is what its format
/// is made of.
pub(super) fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8], words: &[&[u8]]) {
    for _ in 0..=random.below(8) {
        once(random, input, other, words);
    }
    input.truncate(LONGEST);
}

fn once(random: &mut Random, input: &mut Vec<u8>, other: &[u8], words: &[&[u8]]) {
    let len = input.len();
    match random.below(10) {
        0 if len > 0 => {
            let at = random.below(len);
            input[at] ^= 1 << random.below(8);
        }
        1 if len > 0 => {
            let at = random.below(len);
            input[at] = random.number() as u8;
        }
        2 if len > 0 => {
            // An edge, or a little beside the number that stands there.
            let size = (1 << random.below(4)).min(len);
            let at = random.below(len - size + 1);
            let field = &mut input[at..at + size];
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(field);
            let value = if random.below(2) == 0 {
                EDGES[random.below(EDGES.len())].wrapping_sub(random.below(3) as u64)
            } else {
                u64::from_le_bytes(bytes)
                    .wrapping_add(random.below(33) as u64)
                    .wrapping_sub(16)
            };
            let bytes = match random.below(4) {
                0 => (value << (64 - 8 * size)).to_be_bytes(),
                _ => value.to_le_bytes(),
            };
            field.copy_from_slice(&bytes[..size]);
        }
        3 => {
            input.drain(random.range(len));
        }
        4 => {
            let copied = input[random.range(len)].to_vec();
            insert(random, input, &copied);
        }
        5 => {
            let copied = &other[random.range(other.len())];
            insert(random, input, copied);
        }
        6 if !words.is_empty() => {
            let word = words[random.below(words.len())];
            insert(random, input, word);
        }
        7 if !words.is_empty() => {
            let word = words[random.below(words.len())];
            let at = random.below(len + 1);
            let end = (at + word.len()).min(len);
            input.splice(at..end, word.iter().copied());
        }
        8 => input.truncate(random.below(len + 1)),
        _ => {
            let bytes: Vec<u8> = (0..random.below(16))
                .map(|_| random.number() as u8)
                .collect();
            insert(random, input, &bytes);
        }
    }
}

fn insert(random: &mut Random, input: &mut Vec<u8>, bytes: &[u8]) {
    let at = random.below(input.len() + 1);
    input.splice(at..at, bytes.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let run = || {
            let mut random = Random::new(7);
            let mut input = b"seed".to_vec();
            for _ in 0..1000 {
                mutate(&mut random, &mut input, b"other", &[b"word"]);
            }
            input
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn inputs_stay_bounded() {
        let mut random = Random::new(7);
        let mut input = vec![0; LONGEST];
        for _ in 0..1000 {
            mutate(&mut random, &mut input, &[1; LONGEST], &[]);
            assert!(input.len() <= LONGEST);
        }
    }
}
