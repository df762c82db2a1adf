//! How far one output has come in one file: a watermark and the settled ranges beyond it.
//!
//! 1. The watermark is the end of the settled prefix; it never moves backwards.
//! 2. Ranges beyond it are sorted, do not touch each other and do not touch the watermark.

/// Progress of one output in one file, in bytes from the file's start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    watermark: u64,
    /// None where there are no ranges: most files have none, and a node has many.
    #[expect(
        clippy::box_collection,
        reason = "a third of the size where it is none"
    )]
    beyond: Option<Box<Vec<(u64, u64)>>>,
}

impl Mark {
    /// Everything before `watermark` is settled, nothing after it.
    #[must_use]
    pub fn at(watermark: u64) -> Self {
        Self {
            watermark,
            beyond: None,
        }
    }

    /// The end of the settled prefix.
    #[must_use]
    pub const fn watermark(&self) -> u64 {
        self.watermark
    }

    /// The settled ranges beyond the watermark.
    #[must_use]
    pub fn beyond(&self) -> &[(u64, u64)] {
        self.beyond.as_deref().map_or(&[], Vec::as_slice)
    }

    /// How many bytes are settled.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.watermark + self.settled_from(self.watermark)
    }

    /// How many bytes beyond the watermark are settled at or after `from`.
    #[must_use]
    pub fn settled_from(&self, from: u64) -> u64 {
        let ranges = self.beyond().iter();
        ranges
            .map(|&(start, end)| end.saturating_sub(start.max(from)))
            .sum()
    }

    /// Settles `start..end`.
    pub fn settle(&mut self, start: u64, end: u64) {
        if end <= self.watermark || start >= end {
            return;
        }
        if start <= self.watermark {
            self.watermark = end;
        } else {
            self.insert(start, end);
        }
        let Some(beyond) = &mut self.beyond else {
            return;
        };
        let reached = beyond.iter().take_while(|(start, end)| {
            let joins = *start <= self.watermark;
            if joins {
                self.watermark = self.watermark.max(*end);
            }
            joins
        });
        let reached = reached.count();
        beyond.drain(..reached);
        if beyond.is_empty() {
            self.beyond = None;
        }
    }

    fn insert(&mut self, start: u64, end: u64) {
        // The first range that touches or follows the new one.
        let beyond = self.beyond.get_or_insert_default();
        let place = beyond.partition_point(|range| range.1 < start);
        let mut whole = (start, end);
        while place < beyond.len() && beyond[place].0 <= whole.1 {
            let touched = beyond.remove(place);
            whole = (whole.0.min(touched.0), whole.1.max(touched.1));
        }
        beyond.insert(place, whole);
    }

    /// The first byte at or after `from` that is not settled, and where the next settled range
    /// begins after it, if one does.
    #[must_use]
    pub fn next_unsettled(&self, from: u64) -> (u64, Option<u64>) {
        let mut at = from.max(self.watermark);
        for &(start, end) in self.beyond() {
            if start > at {
                return (at, Some(start));
            }
            at = at.max(end);
        }
        (at, None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_join_and_the_watermark_takes_its_prefix() {
        let mut mark = Mark::at(0);
        mark.settle(20, 30);
        mark.settle(40, 50);
        assert_eq!(
            (mark.watermark(), mark.beyond()),
            (0, &[(20, 30), (40, 50)][..])
        );
        assert_eq!(mark.next_unsettled(0), (0, Some(20)));
        assert_eq!(mark.next_unsettled(20), (30, Some(40)));
        assert_eq!(mark.next_unsettled(45), (50, None));
        mark.settle(0, 20);
        assert_eq!((mark.watermark(), mark.beyond()), (30, &[(40, 50)][..]));
        mark.settle(30, 40);
        assert_eq!((mark.watermark(), mark.beyond()), (50, &[][..]));
    }

    proptest! {
        /// The mark says of every byte whether it was settled, whatever the order.
        #[test]
        fn a_mark_is_the_set_of_settled_bytes(ranges in prop::collection::vec((0u64..60, 1u64..12), 0..20)) {
            let mut mark = Mark::at(0);
            let mut bytes = [false; 80];
            for (start, length) in ranges {
                let before = mark.watermark();
                mark.settle(start, start + length);
                bytes[start as usize..(start + length) as usize].fill(true);
                prop_assert!(mark.watermark() >= before);
            }
            let prefix = bytes.iter().position(|settled| !settled).unwrap_or(80) as u64;
            prop_assert_eq!(mark.watermark(), prefix);
            for (at, settled) in bytes.iter().enumerate() {
                let at = at as u64;
                prop_assert_eq!(mark.next_unsettled(at).0 != at, *settled, "byte {}", at);
            }
        }
    }
}
