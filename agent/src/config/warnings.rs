//! What is allowed in a config and still worth a word: said by `check` and at each start.
//!
//! 1. A warning keeps nothing from starting.

use std::fs::File;

use crate::plan::{Output, Plan};

/// A sentence each: cause, consequence, cure. Looks at the files that outputs name.
#[must_use]
pub fn warnings(plan: &Plan) -> Vec<String> {
    plan.outputs.iter().flat_map(of_output).collect()
}

fn of_output(output: &Output) -> Vec<String> {
    let name = &output.name;
    let mut found = Vec::new();
    if output.http.tls.insecure_skip_verify {
        found.push(format!(
            "the output `{name}` takes any certificate (`tls.insecure_skip_verify`): whoever is on \
             the way can read and change what is sent, credentials too; use `tls.ca_file` instead"
        ));
    }
    for (key, path) in output.http.files() {
        if let Err(why) = File::open(path) {
            found.push(format!(
                "`{key}` of the output `{name}` cannot be read, {}: {why}; nothing is sent until \
                 it can, and it is tried again with every request",
                path.display()
            ));
        }
    }
    found
}
