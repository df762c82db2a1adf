//! Selectors: `{namespace="shop", app=~"cart.*"}`.

use std::sync::Arc;

use regex::bytes::Regex;

use crate::config::fields::regex_cause;
use crate::plan::{MatchOp, Matcher, Selector};

/// Reads a selector; the error is a phrase.
pub(super) fn read(text: &str) -> Result<Selector, String> {
    let mut rest = text
        .trim()
        .strip_prefix('{')
        .ok_or("it does not begin with `{`")?
        .trim_start();
    let mut matchers = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return if !after.trim().is_empty() {
                Err("something follows the closing `}`; line filters are not read".to_owned())
            } else if matchers.is_empty() {
                Err("it holds no matcher".to_owned())
            } else {
                Ok(Selector(matchers))
            };
        }
        let (matcher, after) = matcher(rest)?;
        matchers.push(matcher);
        rest = after.trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start();
        } else if !rest.starts_with('}') {
            return Err("a `,` or the closing `}` is missing".to_owned());
        }
    }
}

fn matcher(text: &str) -> Result<(Matcher, &str), String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let length = text.find(|c| !word(c)).unwrap_or(text.len());
    let (label, rest) = text.split_at(length);
    if label.is_empty() || label.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("a label's name is missing; it has letters, digits and `_`".to_owned());
    }
    let rest = rest.trim_start();
    let sign = ["=~", "!~", "!=", "="]
        .into_iter()
        .find(|sign| rest.starts_with(sign))
        .ok_or_else(|| format!("after `{label}` stands none of `=`, `!=`, `=~`, `!~`"))?;
    let (value, rest) = quoted(rest[sign.len()..].trim_start())
        .ok_or_else(|| format!("the value of `{label}` does not stand in closed quotes"))?;
    let regex = |value: &str| {
        Regex::new(&format!("^(?:{value})$"))
            .map_err(|error| format!("the pattern of `{label}`: {}", regex_cause(&error)))
    };
    let op = match sign {
        "=~" => MatchOp::Matches(regex(&value)?),
        "!~" => MatchOp::MatchesNot(regex(&value)?),
        "!=" => MatchOp::NotEqual(Arc::from(value)),
        _ => MatchOp::Equal(Arc::from(value)),
    };
    let label = Arc::from(label);
    Ok((Matcher { label, op }, rest))
}

/// A text in double quotes with escapes, or in back quotes as it is; and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    if let Some(rest) = text.strip_prefix('`') {
        let (value, rest) = rest.split_once('`')?;
        return Some((value.to_owned(), rest));
    }
    let inner = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &inner[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                c @ ('\\' | '"') => value.push(c),
                // Kinder than Go: `\.` is what people mean in a pattern.
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::print;

    #[test]
    fn selectors_are_read_and_printed() {
        for (text, want) in [
            (r#"{a="b"}"#, r#"{a="b"}"#),
            (
                r#" { a = "b" , c=~"d.*",e!~`f\d`, g!="", } "#,
                r#"{a="b", c=~"d.*", e!~"f\\d", g!=""}"#,
            ),
            (r#"{a="q\"\\\n"}"#, r#"{a="q\"\\\n"}"#),
            (r"{a=b}", "the value of `a` does not stand in closed quotes"),
            ("{}", "it holds no matcher"),
            ("a", "it does not begin with `{`"),
            (
                r#"{a="b"} |= "x""#,
                "something follows the closing `}`; line filters are not read",
            ),
            (r#"{a=~"("}"#, "the pattern of `a`: unclosed group"),
            (r#"{a="b" c="d"}"#, "a `,` or the closing `}` is missing"),
            (
                r#"{="b"}"#,
                "a label's name is missing; it has letters, digits and `_`",
            ),
            (
                r#"{a<"b"}"#,
                "after `a` stands none of `=`, `!=`, `=~`, `!~`",
            ),
        ] {
            let got = match read(text) {
                Ok(selector) => print::selector(&selector),
                Err(cause) => cause,
            };
            assert_eq!(got, want, "{text}");
        }
    }
}
