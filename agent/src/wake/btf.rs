//! Field offsets and prototypes out of the running kernel's type information.
//!
//! rustc emits no relocations for the kernel's structs, so their offsets are read here at start and
//! handed to the probes as constants.
//!
//! 1. Nothing is read outside the blob, whatever it holds; a bad blob is an error, never a panic.
//! 2. Nested unnamed structs are searched to a fixed depth.

use std::path::Path;

use thiserror::Error;

/// Where the kernel shows its types.
pub(crate) const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What was wrong with the type information.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The kernel shows none.
    #[error("read {path}: {source} (the kernel needs CONFIG_DEBUG_INFO_BTF)")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The blob ends early or is of another kind.
    #[error("the kernel's type information is not what this agent can read")]
    Malformed,
    /// A field or function is missing.
    #[error("this kernel has no {0}")]
    Missing(String),
}

/// The kernel's types. A name is searched from the start: some ten are asked for, at start alone,
/// and an index of all would take more memory than the blob.
#[derive(Debug)]
pub(crate) struct Types {
    blob: Vec<u8>,
    /// Where type number n begins; number 0 is `void`.
    starts: Vec<usize>,
    strings: usize,
}

const MAGIC: u16 = 0xeb9f;
const KIND_POINTER: u32 = 2;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_FUNCTION: u32 = 12;
const KIND_PROTOTYPE: u32 = 13;
const DEPTH_MAX: u32 = 8;

impl Types {
    /// Reads the running kernel's types.
    ///
    /// # Errors
    /// When the kernel shows none, or in another form.
    pub(crate) fn of_kernel() -> Result<Self, Error> {
        Self::read(Path::new(KERNEL_BTF))
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let blob = std::fs::read(path).map_err(|source| Error::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(blob).ok_or(Error::Malformed)
    }

    /// Indexes a blob; `None` when it is not one.
    fn parse(blob: Vec<u8>) -> Option<Self> {
        if u16::from_le_bytes(blob.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let header = word(&blob, 4)? as usize;
        let first = header.checked_add(word(&blob, 8)? as usize)?;
        let last = first.checked_add(word(&blob, 12)? as usize)?;
        let strings = header.checked_add(word(&blob, 16)? as usize)?;
        let mut types = Self {
            blob,
            starts: vec![0],
            strings,
        };
        let mut at = first;
        while at < last {
            types.starts.push(at);
            let (kind, length) = types.kind(at)?;
            at = at.checked_add(12 + tail_bytes(kind, length)?)?;
        }
        Some(types)
    }

    /// Byte offset of a field.
    ///
    /// # Errors
    /// When the struct or the field is not there.
    pub(crate) fn offset(&self, of: &str, field: &str) -> Result<u64, Error> {
        self.named(KIND_STRUCT, of)
            .and_then(|number| self.find(number, field.as_bytes(), 0))
            .ok_or_else(|| Error::Missing(format!("field {of}.{field}")))
    }

    /// Whether the function exists and its first argument points to a struct of this name.
    ///
    /// # Errors
    /// When it does not, in words.
    pub(crate) fn takes(&self, function: &str, argument: &str) -> Result<(), Error> {
        let number = self.named(KIND_FUNCTION, function).ok_or_else(|| {
            Error::Missing(format!("function {function} in its type information"))
        })?;
        if self.first_argument(number) == Some(argument.as_bytes()) {
            return Ok(());
        }
        Err(Error::Missing(format!(
            "{function} whose first argument is a {argument}"
        )))
    }

    /// The first type of this kind and name.
    fn named(&self, kind: u32, name: &str) -> Option<u32> {
        let is = |&at: &usize| {
            self.kind(at).is_some_and(|(of, _)| of == kind)
                && word(&self.blob, at).and_then(|name| self.name(name)) == Some(name.as_bytes())
        };
        let place = self.starts.iter().skip(1).position(is)?;
        u32::try_from(place + 1).ok()
    }

    fn first_argument(&self, function: u32) -> Option<&[u8]> {
        let prototype = self.start(word(&self.blob, self.start(function)? + 8)?)?;
        let (kind, length) = self.kind(prototype)?;
        if kind != KIND_PROTOTYPE || length == 0 {
            return None;
        }
        let pointer = self.start(word(&self.blob, prototype + 12 + 4)?)?;
        if self.kind(pointer)?.0 != KIND_POINTER {
            return None;
        }
        let target = self.start(word(&self.blob, pointer + 8)?)?;
        self.name(word(&self.blob, target)?)
    }

    /// Offset of `field` in a struct, looking into its unnamed members.
    fn find(&self, number: u32, field: &[u8], depth: u32) -> Option<u64> {
        let at = self.start(number)?;
        let (kind, length) = self.kind(at)?;
        // const, volatile, typedef, restrict stand before the type they qualify.
        if (8..=11).contains(&kind) && depth < DEPTH_MAX {
            return self.find(word(&self.blob, at + 8)?, field, depth + 1);
        }
        if !matches!(kind, KIND_STRUCT | KIND_UNION) || depth >= DEPTH_MAX {
            return None;
        }
        let has_bit_sizes = word(&self.blob, at + 4)? >> 31 == 1;
        for member in (0..length).map(|i| at + 12 + i * 12) {
            let name = self.name(word(&self.blob, member)?)?;
            let raw = word(&self.blob, member + 8)?;
            let bits = if has_bit_sizes {
                raw & 0x00ff_ffff
            } else {
                raw
            };
            if name == field {
                return Some(u64::from(bits / 8));
            }
            if name.is_empty()
                && let Some(inner) = self.find(word(&self.blob, member + 4)?, field, depth + 1)
            {
                return Some(u64::from(bits / 8) + inner);
            }
        }
        None
    }

    fn start(&self, number: u32) -> Option<usize> {
        if number == 0 {
            None
        } else {
            self.starts.get(number as usize).copied()
        }
    }

    /// Kind and number of members.
    fn kind(&self, at: usize) -> Option<(u32, usize)> {
        let info = word(&self.blob, at.checked_add(4)?)?;
        Some(((info >> 24) & 0x1f, (info & 0xffff) as usize))
    }

    fn name(&self, offset: u32) -> Option<&[u8]> {
        let rest = self
            .blob
            .get(self.strings.checked_add(offset as usize)?..)?;
        rest.get(..memchr::memchr(0, rest)?)
    }
}

fn word(blob: &[u8], at: usize) -> Option<u32> {
    let bytes = blob.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Bytes after a type's twelve common ones, by kind (Documentation/bpf/btf.rst).
fn tail_bytes(kind: u32, length: usize) -> Option<usize> {
    Some(match kind {
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => length * 12,
        6 | 13 => length * 8,
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// struct outer { u64 a; struct { u64 b; }; } and void f(struct outer *).
    fn blob() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0f\0";
        let mut types: Vec<u32> = Vec::new();
        types.extend([1, KIND_STRUCT << 24 | 2, 16, 7, 9, 0, 0, 2, 64]); // 1: outer
        types.extend([0, KIND_STRUCT << 24 | 1, 8, 9, 9, 0]); // 2: unnamed
        types.extend([0, KIND_POINTER << 24, 1]); // 3: outer *
        types.extend([0, KIND_PROTOTYPE << 24 | 1, 0, 0, 3]); // 4: void (outer *)
        types.extend([11, KIND_FUNCTION << 24, 4]); // 5: f
        let body: Vec<u8> = types.iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut blob = Vec::new();
        blob.extend(MAGIC.to_le_bytes());
        blob.extend([1, 0]);
        let length = u32::try_from(body.len()).unwrap();
        let strings_length = u32::try_from(strings.len()).unwrap();
        for word in [24, 0, length, length, strings_length] {
            blob.extend(word.to_le_bytes());
        }
        blob.extend(body);
        blob.extend(strings);
        blob
    }

    #[test]
    fn finds_fields_through_unnamed_members_and_checks_prototypes() {
        let types = Types::parse(blob()).unwrap();
        assert_eq!(types.offset("outer", "a").unwrap(), 0);
        assert_eq!(types.offset("outer", "b").unwrap(), 8);
        assert!(types.offset("outer", "c").is_err());
        types.takes("f", "outer").unwrap();
        assert!(types.takes("f", "inode").is_err());
        assert!(types.takes("g", "outer").is_err());
    }

    #[test]
    fn no_cut_and_no_changed_byte_makes_it_panic() {
        let whole = blob();
        for cut in 0..whole.len() {
            if let Some(types) = Types::parse(whole[..cut].to_vec()) {
                let _ = types.offset("outer", "b");
            }
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                if let Some(types) = Types::parse(changed) {
                    let _ = types.offset("outer", "b");
                    let _ = types.takes("f", "outer");
                }
            }
        }
    }
}
