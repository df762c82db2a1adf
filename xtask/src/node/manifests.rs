//! The files of `tests/node`, with `{{NAME}}` filled in.
//!
//! 1. A placeholder that nobody fills is an error: it never reaches a server.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::build::root;

/// What stands for a printer's pod and container in every manifest.
const SHARED: [(&str, &str); 2] = [
    (
        "POD",
        "hostNetwork: true\n      terminationGracePeriodSeconds: 1\n      \
         tolerations: [{operator: Exists}]\n      \
         volumes: [{name: journal, hostPath: {path: \"{{DIR}}/journal\"}}]",
    ),
    (
        "PRINTER",
        "image: localhost/printer:test, imagePullPolicy: Never, \
         volumeMounts: [{name: journal, mountPath: /journal}], env: [\
         {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}, \
         {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, \
         {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}]",
    ),
];

/// One file of `tests/node`, filled in.
pub(super) fn filled(file: &str, values: &[(&str, &str)]) -> Result<String> {
    let path = root().join("tests/node").join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    fill(text, values).with_context(|| path.display().to_string())
}

/// Fills one in and places it in `dir` under its own name.
pub(super) fn place(file: &str, to: &Path, values: &[(&str, &str)]) -> Result<()> {
    fs::write(to, filled(file, values)?).with_context(|| format!("write {}", to.display()))
}

fn fill(mut text: String, values: &[(&str, &str)]) -> Result<String> {
    for (name, value) in SHARED.iter().chain(values) {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    // `{{` alone may stand in a template of ours or of others; `{{NAME}}` may not.
    if let Some(rest) = text.split("{{").skip(1).find(|rest| is_placeholder(rest)) {
        let name = rest.split("}}").next().unwrap_or_default();
        bail!("nothing fills in {{{{{name}}}}}");
    }
    Ok(text)
}

fn is_placeholder(rest: &str) -> bool {
    let name = rest.split("}}").next().unwrap_or_default();
    rest.contains("}}") && !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn placeholders_are_filled_and_a_forgotten_one_is_an_error() {
        let text = |text: &str| fill(text.to_owned(), &[("DIR", "/d")]);
        assert_eq!(
            text("a: {{DIR}}/b, c: {d: {e: {}}}").unwrap(),
            "a: /d/b, c: {d: {e: {}}}"
        );
        assert!(text("a: {{OTHER}}").is_err());
        assert!(text("{{POD}}").unwrap().contains("/d/journal"));
    }
}
