//! Path patterns with doublestar's meaning, matched component by component.
//!
//! ```text
//! {a,b} is written out -> alternatives of components -> Places, one step a name of the path
//! ```
//!
//! 1. `*`, `?` and classes never match a `/`; `**` as a whole component is any number of
//!    directories, none too, and elsewhere the same as `*`.
//! 2. A name that begins with a dot is like any other.
//! 3. A match takes time linear in pattern times name; nothing recurs.
//!
//! The syntax is that of bmatcuk/doublestar, which Promtail uses. globset, the crate at hand, makes
//! one expression of a whole path: it cannot say whether anything below a directory could match,
//! and a directory watch needs just that.

use std::path::{Path, PathBuf};

/// Alternatives that braces of one pattern may be written out to.
const ALTERNATIVES_MAX: usize = 64;

/// Components of one alternative: places are bits of a number.
const COMPONENTS_MAX: usize = 62;

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    alternatives: Vec<Vec<Component>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Component {
    /// `**`.
    Directories,
    /// A name without pattern characters.
    Literal(String),
    Pattern(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`.
    One,
    /// `*`.
    Many,
    Class {
        not: bool,
        ranges: Vec<(char, char)>,
    },
}

/// How far a path has got in a pattern: for each alternative the components that may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places(Vec<u64>);

impl Glob {
    /// Reads a pattern, which is an absolute path with at least one plain directory.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut alternatives = Vec::new();
        for text in written_out(text)? {
            let rest = text.strip_prefix('/').ok_or("it is no absolute path")?;
            let parts = rest.split('/').filter(|part| !part.is_empty());
            let components: Vec<Component> = parts.map(component).collect::<Result<_, _>>()?;
            if components.len() > COMPONENTS_MAX {
                return Err("it has more than 62 components");
            }
            match components.first() {
                Some(Component::Literal(_)) if components.len() > 1 => {}
                _ => return Err("it does not begin with a directory without `*`, `?`, `[` or `{`"),
            }
            alternatives.push(components);
        }
        Ok(Self {
            text: text.to_owned(),
            alternatives,
        })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The directories above every match: for each alternative its longest plain beginning.
    #[must_use]
    pub fn bases(&self) -> Vec<PathBuf> {
        let base = |components: &Vec<Component>| {
            let names = components[..components.len() - 1].iter();
            let plain = names.map_while(|part| match part {
                Component::Literal(name) => Some(name),
                Component::Directories | Component::Pattern(_) => None,
            });
            plain.fold(PathBuf::from("/"), |path, name| path.join(name))
        };
        self.alternatives.iter().map(base).collect()
    }

    /// Where a path begins.
    #[must_use]
    pub fn start(&self) -> Places {
        let alternatives = self.alternatives.iter();
        Places(alternatives.map(|parts| closed(parts, 1)).collect())
    }

    /// One name further.
    #[must_use]
    pub fn step(&self, places: &Places, name: &str) -> Places {
        let both = self.alternatives.iter().zip(&places.0);
        Places(both.map(|(parts, at)| step(parts, *at, name)).collect())
    }

    /// Whether a path that ends here is matched.
    #[must_use]
    pub fn is_match(&self, places: &Places) -> bool {
        let mut both = self.alternatives.iter().zip(&places.0);
        both.any(|(parts, at)| at & (1 << parts.len()) != 0)
    }

    /// Whether a longer path could be.
    #[must_use]
    pub fn may_match_below(&self, places: &Places) -> bool {
        let mut both = self.alternatives.iter().zip(&places.0);
        both.any(|(parts, at)| at & ((1 << parts.len()) - 1) != 0)
    }

    /// Whether every longer path is: the pattern ends in `/**`.
    #[must_use]
    pub fn matches_all_below(&self, places: &Places) -> bool {
        let mut both = self.alternatives.iter().zip(&places.0);
        both.any(|(parts, at)| {
            let last = parts.last() == Some(&Component::Directories);
            last && at & (1 << (parts.len() - 1)) != 0
        })
    }

    /// Whether the whole path is matched.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        self.is_match(&self.walk(path))
    }

    /// Where an absolute path ends.
    #[must_use]
    pub fn walk(&self, path: &Path) -> Places {
        let names = path.iter().skip(1).map(|name| name.to_string_lossy());
        names.fold(self.start(), |places, name| self.step(&places, &name))
    }
}

/// With every place that `**` may be passed over to.
fn closed(parts: &[Component], mut at: u64) -> u64 {
    for (i, part) in parts.iter().enumerate() {
        if at & (1 << i) != 0 && *part == Component::Directories {
            at |= 1 << (i + 1);
        }
    }
    at
}

fn step(parts: &[Component], at: u64, name: &str) -> u64 {
    let mut next = 0;
    for (i, part) in parts.iter().enumerate().filter(|(i, _)| at & (1 << i) != 0) {
        next |= match part {
            Component::Directories => 1 << i,
            Component::Literal(text) if text == name => 1 << (i + 1),
            Component::Pattern(tokens) if fits(tokens, name) => 1 << (i + 1),
            Component::Literal(_) | Component::Pattern(_) => 0,
        };
    }
    closed(parts, next)
}

/// Whether the whole name is matched: the last `*` takes one more character whenever what follows
/// it does not fit.
fn fits(tokens: &[Token], name: &str) -> bool {
    let mut chars = name.chars();
    let mut at = 0;
    let mut last_many = None;
    loop {
        let before = chars.clone();
        let next = chars.next();
        let good = match (tokens.get(at), next) {
            (Some(Token::Many), _) => {
                at += 1;
                chars = before;
                last_many = Some((at, chars.clone()));
                continue;
            }
            (None, None) => return true,
            (Some(token), Some(c)) => token.takes(c),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if good {
            at += 1;
            continue;
        }
        let Some((after, rest)) = &mut last_many else {
            return false;
        };
        if rest.next().is_none() {
            return false;
        }
        (at, chars) = (*after, rest.clone());
    }
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::One | Self::Many => true,
            Self::Class { not, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *not
            }
        }
    }
}

fn component(text: &str) -> Result<Component, &'static str> {
    if text == "**" {
        return Ok(Component::Directories);
    }
    if text == ".." || text == "." {
        return Err("it has a component `.` or `..`");
    }
    let mut tokens = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' if tokens.last() == Some(&Token::Many) => continue,
            '*' => Token::Many,
            '?' => Token::One,
            '[' => class(&mut chars)?,
            '\\' => Token::Char(chars.next().ok_or("it ends in a backslash")?),
            c => Token::Char(c),
        });
    }
    let literal = |token: &Token| match token {
        Token::Char(c) => Some(*c),
        Token::One | Token::Many | Token::Class { .. } => None,
    };
    let literal: Option<String> = tokens.iter().map(literal).collect();
    Ok(literal.map_or(Component::Pattern(tokens), Component::Literal))
}

/// A class after its `[`.
fn class(chars: &mut std::str::Chars<'_>) -> Result<Token, &'static str> {
    const OPEN: &str = "a `[` is not closed";
    let mut ranges = Vec::new();
    let mut c = chars.next().ok_or(OPEN)?;
    let not = matches!(c, '^' | '!');
    if not {
        c = chars.next().ok_or(OPEN)?;
    }
    while c != ']' || ranges.is_empty() {
        let escaped = |c, chars: &mut std::str::Chars<'_>| match c {
            '\\' => chars.next().ok_or(OPEN),
            c => Ok(c),
        };
        let from = escaped(c, chars)?;
        let mut to = from;
        c = chars.next().ok_or(OPEN)?;
        if c == '-' && !chars.as_str().starts_with(']') {
            let end = chars.next().ok_or(OPEN)?;
            to = escaped(end, chars)?;
            c = chars.next().ok_or(OPEN)?;
        }
        if to < from {
            return Err("a class has a range that ends before it begins");
        }
        ranges.push((from, to));
    }
    Ok(Token::Class { not, ranges })
}

/// Braces written out: `a{b,c}` to `ab` and `ac`.
fn written_out(text: &str) -> Result<Vec<String>, &'static str> {
    let mut open = vec![text.to_owned()];
    let mut done = Vec::new();
    while let Some(text) = open.pop() {
        let Some(Braces { begin, end, commas }) = braces(&text)? else {
            done.push(text);
            continue;
        };
        let mut from = begin + 1;
        for to in commas.into_iter().chain([end]) {
            open.push(format!(
                "{}{}{}",
                &text[..begin],
                &text[from..to],
                &text[end + 1..]
            ));
            from = to + 1;
        }
        if open.len() + done.len() > ALTERNATIVES_MAX {
            return Err("its braces make more than 64 patterns");
        }
    }
    done.sort();
    done.dedup();
    Ok(done)
}

/// Where a pair of braces and its commas stand.
struct Braces {
    begin: usize,
    end: usize,
    commas: Vec<usize>,
}

/// The first outermost pair.
fn braces(text: &str) -> Result<Option<Braces>, &'static str> {
    let (mut begin, mut depth, mut commas) = (None, 0usize, Vec::new());
    let (mut escaped, mut in_class) = (false, false);
    for (at, c) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match c {
            '\\' => escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            _ if in_class => {}
            '{' => {
                depth += 1;
                begin.get_or_insert(at);
            }
            ',' if depth == 1 => commas.push(at),
            '}' if depth == 1 => {
                let end = at;
                return Ok(begin.map(|begin| Braces { begin, end, commas }));
            }
            '}' if depth > 1 => depth -= 1,
            _ => {}
        }
    }
    if depth > 0 {
        return Err("a `{` is not closed");
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::parse(pattern).unwrap();
        for path in yes {
            assert!(glob.matches(Path::new(path)), "{pattern} {path}");
        }
        for path in no {
            assert!(!glob.matches(Path::new(path)), "not {pattern} {path}");
        }
    }

    #[test]
    fn patterns_mean_what_they_mean_to_doublestar() {
        check(
            "/a/*.log",
            &["/a/x.log", "/a/.log", "/a/.x.log"],
            &["/a/b/x.log", "/a/x.log2", "/a"],
        );
        check(
            "/a/**/*.log",
            &["/a/x.log", "/a/b/x.log", "/a/b/c/x.log"],
            &["/b/x.log", "/a/x"],
        );
        check("/a/**", &["/a", "/a/x", "/a/b/x"], &["/ab", "/b"]);
        check(
            "/a/**/b/**/c",
            &["/a/b/c", "/a/x/b/y/z/c"],
            &["/a/c", "/a/x/c"],
        );
        check("/a/x**y", &["/a/xy", "/a/x1y"], &["/a/x/y"]);
        check(
            "/a/?.log",
            &["/a/x.log", "/a/ä.log"],
            &["/a/.log", "/a/xx.log"],
        );
        check("/a/[a-c1]", &["/a/b", "/a/1"], &["/a/d", "/a/-"]);
        check("/a/[^a-c]", &["/a/d"], &["/a/b", "/a/"]);
        check("/a/[!a]", &["/a/d"], &["/a/a"]);
        check("/a/[]-]", &["/a/]", "/a/-"], &["/a/x"]);
        check(
            "/a/{x,y*}.log",
            &["/a/x.log", "/a/y1.log"],
            &["/a/z.log", "/a/{x,y*}.log"],
        );
        check(
            "/a/{b/c,d}/{e,f{g,h}}",
            &["/a/b/c/e", "/a/d/fh"],
            &["/a/b/e", "/a/d/f"],
        );
        check("/a/\\*\\{x", &["/a/*{x"], &["/a/y{x"]);
        check(
            "/a/*a*b*c",
            &["/a/abc", "/a/xaxbxc"],
            &["/a/acb", "/a/xaxbx"],
        );
        check("//a//b.log", &["/a/b.log"], &["/a"]);
    }

    #[test]
    fn a_long_name_costs_no_more_than_its_length() {
        let name = format!("/a/{}", "a".repeat(255));
        check(&format!("/a/{}b", "a*".repeat(100)), &[], &[&name]);
    }

    #[test]
    fn bad_patterns_are_refused() {
        for bad in [
            "a/*.log", "/*.log", "/**/x", "/a", "/a/[x", "/a/{x", "/a/../x", "/a/[b-a]", "/a/x\\",
        ] {
            assert!(Glob::parse(bad).is_err(), "{bad}");
        }
        assert!(Glob::parse(&format!("/a/{}", "{a,b}".repeat(7))).is_err());
        assert!(Glob::parse(&format!("/a{}", "/b".repeat(62))).is_err());
    }

    #[test]
    fn a_directory_says_whether_a_match_may_lie_below() {
        let glob = Glob::parse("/var/log/{app,web}/*/x.log").unwrap();
        assert_eq!(
            glob.bases(),
            [Path::new("/var/log/app"), Path::new("/var/log/web")]
        );
        let below = |path: &str| glob.may_match_below(&glob.walk(Path::new(path)));
        assert!(below("/var/log/app") && below("/var/log/web/1"));
        assert!(!below("/var/log/db") && !below("/var/log/app/1/2"));
        let all = Glob::parse("/var/log/pods/**").unwrap();
        let all_below = |path: &str| all.matches_all_below(&all.walk(Path::new(path)));
        assert!(all_below("/var/log/pods") && all_below("/var/log/pods/x"));
        assert!(!all_below("/var/log"));
    }
}
