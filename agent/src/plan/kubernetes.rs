//! What is asked of the Kubernetes API: which pods, which of their labels, and what happens to files
//! of pods that it does not name.

use std::path::PathBuf;

/// Metadata of this node's pods. One watch serves all inputs that have this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// This node's name in the API; `None` = `NODE_NAME`, else the host's name.
    pub node: Option<String>,
    /// How the API is reached; `None` = as a pod of the cluster.
    pub kubeconfig: Option<PathBuf>,
    /// Labels that are taken.
    pub labels: Vec<NameGlob>,
    /// Annotations that are taken.
    pub annotations: Vec<NameGlob>,
    /// What happens to files of a pod of which nothing is known.
    pub on_missing: OnMissing,
    /// After how many milliseconds it happens.
    pub wait_ms: u64,
    /// Pods that bear this annotation with the value `true` are not read.
    pub opt_out: Option<String>,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            node: None,
            kubeconfig: None,
            labels: LABELS.map(NameGlob::new).to_vec(),
            annotations: Vec::new(),
            on_missing: OnMissing::Send,
            wait_ms: 30_000,
            opt_out: None,
        }
    }
}

impl Kubernetes {
    /// Whether pods come to have the same metadata by both: one watch can serve them.
    #[must_use]
    pub fn is_served_with(&self, other: &Self) -> bool {
        let asks = |of: &Self| (of.node.clone(), of.kubeconfig.clone(), of.opt_out.clone());
        asks(self) == asks(other)
            && self.labels == other.labels
            && self.annotations == other.annotations
    }

    /// What is taken of a pod, as a text: what was taken by other lists is another thing.
    #[must_use]
    pub fn taken(&self) -> String {
        let list = |globs: &[NameGlob]| {
            let texts: Vec<&str> = globs.iter().map(NameGlob::text).collect();
            texts.join(",")
        };
        let opt_out = self.opt_out.as_deref().unwrap_or_default();
        format!(
            "{};{};{opt_out}",
            list(&self.labels),
            list(&self.annotations)
        )
    }
}

/// The recommended labels that tell applications apart; none of them changes while a pod lives.
pub const LABELS: [&str; 6] = [
    "app",
    "k8s-app",
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/version",
];

/// What happens to files of a pod of which nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissing {
    /// They are held open and unread until the API names the pod, or has said for the time of the
    /// bound that there is no such pod.
    Wait,
    /// After the bound they are sent as they are.
    #[default]
    Send,
}

/// A pattern for names of labels and annotations: `*` is any characters, `?` any one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameGlob(String);

impl NameGlob {
    /// The pattern; every text is one.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether the whole name is matched: the last `*` takes one more byte whenever what follows it
    /// does not fit.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut to) = (0, 0);
        let mut last = None;
        while to < name.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    last = Some((at, to));
                    at += 1;
                }
                Some(byte) if *byte == b'?' || *byte == name[to] => (at, to) = (at + 1, to + 1),
                Some(_) | None => {
                    let Some((star, taken)) = last else {
                        return false;
                    };
                    last = Some((star, taken + 1));
                    (at, to) = (star + 1, taken + 1);
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, want) in [
            ("app", "app", true),
            ("app", "apps", false),
            ("app.kubernetes.io/*", "app.kubernetes.io/name", true),
            ("app.kubernetes.io/*", "app", false),
            ("*", "", true),
            ("*", "a/b.c", true),
            ("*.io/*e", "app.kubernetes.io/name", true),
            ("*.io/*x", "app.kubernetes.io/name", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(
                NameGlob::new(pattern).matches(name),
                want,
                "{pattern} {name}"
            );
        }
    }
}
