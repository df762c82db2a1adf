//! Config: text to a plan, or to all that is wrong with the text.
//!
//! ```text
//! file -> text -> tree with spans -> native::lower -> Plan
//!                     |                   |
//!                     +---- Report -------+--> Diagnostics
//! ```
//!
//! 1. A plan comes out only if nothing is wrong; all that is wrong comes out at once.
//! 2. Values of environment variables, userinfo of URLs and other secrets stand in no message.
//! 3. Only `load` and `warnings` touch a file, and only `load` the environment.

pub mod check;
pub mod diagnostics;
mod fields;
pub mod native;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;
mod warnings;

use std::path::Path;

pub use check::check;
pub use diagnostics::Diagnostics;
pub use warnings::warnings;

use self::diagnostics::Report;
use crate::plan::{OutputKind, Plan, TemplateBody};

/// A config longer than this is not one; 4 MiB are some 50,000 lines.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// Reads a config file, with the environment of the process.
///
/// # Errors
/// All that is wrong with it.
pub fn load(path: &Path) -> Result<Plan, Diagnostics> {
    let name = path.display().to_string();
    let unreadable = |cause: String, cure| Err(Diagnostics::unreadable(&name, cause, cure));
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            return unreadable(
                "this is a directory".to_owned(),
                "name the config file in it",
            );
        }
        Ok(meta) if meta.len() > CONFIG_BYTES_MAX => {
            return unreadable("it is over 4 MiB".to_owned(), "name a config file");
        }
        Ok(_) | Err(_) => {}
    }
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let cure = "name a file that is there and may be read, with `--config FILE`";
            return unreadable(format!("cannot be read: {error}"), cure);
        }
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(&name, text, &|name| std::env::var(name).ok()).and_then(with_templates),
        Err(error) => {
            let line = bytes[..error.valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            let cause = format!("line {} is not UTF-8", line + 1);
            unreadable(cause, "save the file as UTF-8")
        }
    }
}

/// The plan with the texts of the files that its outputs name.
fn with_templates(mut plan: Plan) -> Result<Plan, Diagnostics> {
    for output in &mut plan.outputs {
        if let OutputKind::Elasticsearch(search) = &mut output.kind
            && let Some(template) = &mut search.template
            && let TemplateBody::File { path, text } = &mut template.body
        {
            *text = template_text(path)?.into();
        }
    }
    Ok(plan)
}

fn template_text(path: &str) -> Result<String, Diagnostics> {
    let refused = |cause: String, cure| Diagnostics::unreadable(path, cause, cure);
    let cannot = |error: std::io::Error| {
        let cure = "name a file that is there and may be read in the `file` of the `template`";
        refused(format!("cannot be read: {error}"), cure)
    };
    if std::fs::metadata(path).map_err(cannot)?.len() > CONFIG_BYTES_MAX {
        return Err(refused(
            "it is over 4 MiB".to_owned(),
            "name an index template",
        ));
    }
    let text = std::fs::read_to_string(path).map_err(cannot)?;
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(refused(
            format!("this is no index template: {error}"),
            "write what `PUT _index_template` takes, a JSON object",
        )),
    }
}

/// Reads a config from `text`; messages call it `name`, variables are looked up with `env`.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Plan, Diagnostics> {
    let mut report = Report::new(name, text);
    let plan = match tree::read(env, &mut report) {
        Some(root) => Some(native::lower(&root, &mut report)),
        None => {
            if report.count() == 0 {
                report.error_of_file("the config is empty", "see docs/config.md for a first one");
            }
            None
        }
    };
    match (plan, report.finish()) {
        (Some(plan), None) => Ok(plan),
        (_, Some(found)) => Err(found),
        (None, None) => Err(Diagnostics::unreadable(
            name,
            "the config is empty".to_owned(),
            "see docs/config.md for a first one",
        )),
    }
}
