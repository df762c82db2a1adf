//! Outputs by number, and small sets of them.

use std::fmt;

/// How many outputs one plan may have; a [`OutputSet`] is one machine word of this many bits.
pub const OUTPUTS_MAX: usize = 16;

/// An output of the plan, by its place in `Plan::outputs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputId(pub u8);

impl OutputId {
    /// The place in tables that have one entry an output.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of outputs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct OutputSet(u16);

impl OutputSet {
    /// No output.
    pub const NONE: Self = Self(0);

    /// The first `n` outputs.
    #[must_use]
    pub const fn first(n: usize) -> Self {
        if n >= OUTPUTS_MAX {
            Self(u16::MAX)
        } else {
            Self((1 << n) - 1)
        }
    }

    /// Just this one.
    #[must_use]
    pub const fn one(output: OutputId) -> Self {
        Self(1 << output.0)
    }

    /// Whether `output` is in the set.
    #[must_use]
    pub const fn has(self, output: OutputId) -> bool {
        self.0 & (1 << output.0) != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Members of either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Members of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Members of this set that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The members, lowest first.
    pub fn iter(self) -> impl Iterator<Item = OutputId> {
        (0..OUTPUTS_MAX as u8)
            .map(OutputId)
            .filter(move |output| self.has(*output))
    }

    /// The set as bits, for an atomic word.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set of these bits.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for OutputSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(|output| output.0))
            .finish()
    }
}
