//! The one source of nondeterminism.

use alloc::vec::Vec;

/// Decides what Linux leaves to timing: which of several runnable tasks runs first.
///
/// Alternative 0 is what Linux does without a race: the task that was woken first runs.
pub trait Choose {
    /// A number below `alternatives`, which is at least 2. A larger number counts as the last
    /// alternative.
    fn choose(&mut self, alternatives: usize) -> usize;
}

/// Always alternative 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Canonical;

impl Choose for Canonical {
    fn choose(&mut self, _: usize) -> usize {
        0
    }
}

/// A pseudo-random sequence that a seed determines (splitmix64).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Seeded(u64);

impl Seeded {
    /// The sequence of that seed.
    pub fn new(seed: u64) -> Seeded {
        Seeded(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // the bias is negligible for bounds far below 2^64
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

impl Choose for Seeded {
    fn choose(&mut self, alternatives: usize) -> usize {
        self.below(alternatives)
    }
}

/// A given sequence of choices, then alternative 0. It records how many alternatives each choice
/// had, so that a caller can try other sequences.
#[derive(Clone, Debug, Default)]
pub struct Scripted {
    script: Vec<usize>,
    taken: Vec<(usize, usize)>,
}

impl Scripted {
    /// Choices to make, in order.
    pub fn new(script: Vec<usize>) -> Scripted {
        Scripted { script, taken: Vec::new() }
    }

    /// The choices made so far, each with its number of alternatives.
    pub fn taken(&self) -> &[(usize, usize)] {
        &self.taken
    }

    /// The script after this one in lexical order; `None` after the last.
    ///
    /// Starting from the empty script this visits every sequence of choices once.
    pub fn following(&self) -> Option<Vec<usize>> {
        let last = self.taken.iter().rposition(|(choice, of)| choice + 1 < *of)?;
        let mut script: Vec<usize> = self.taken[..last].iter().map(|(choice, _)| *choice).collect();
        script.push(self.taken[last].0 + 1);
        Some(script)
    }
}

impl Choose for Scripted {
    fn choose(&mut self, alternatives: usize) -> usize {
        let choice = self.script.get(self.taken.len()).copied().unwrap_or(0).min(alternatives - 1);
        self.taken.push((choice, alternatives));
        choice
    }
}

/// Choices from the bytes of a fuzzer, then alternative 0. A choice takes as many bytes as its
/// number of alternatives needs.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Choose for Bytes<'_> {
    fn choose(&mut self, alternatives: usize) -> usize {
        let (mut choice, mut last) = (0_usize, 0_usize);
        while last < alternatives - 1 {
            let Some((first, rest)) = self.0.split_first() else { return 0 };
            self.0 = rest;
            choice = choice << 8 | usize::from(*first);
            last = last << 8 | 0xff;
        }
        choice % alternatives
    }
}
