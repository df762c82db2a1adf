//! What an answer of the API that is none means: what is said of it, and how it goes on.

use std::time::Duration;

use crate::roster::wire::Status;

/// Longest wait that a server may ask for.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Characters of a server's own words that are repeated.
const WORDS_MAX: usize = 400;

/// What the agent needs of the API, as it is applied.
const CLUSTER_ROLE: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: tailwake}
rules:
- {apiGroups: [""], resources: [pods], verbs: [list, watch]}"#;

/// Why the API is not heard, and how it goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// The cause and its cure.
    pub(super) said: String,
    /// The server asked to be left alone for so long.
    pub(super) wait: Option<Duration>,
    /// What was known of the place in the watch is worth nothing: all is asked for again.
    pub(super) anew: bool,
    /// It is the course of things, not a fault: it goes on at once and is not said.
    pub(super) usual: bool,
    /// The server does not know streamed lists.
    pub(super) unstreamed: bool,
}

impl Trouble {
    /// Something failed before there was an answer.
    pub(super) fn of(said: impl Into<String>) -> Self {
        Self {
            said: said.into(),
            wait: None,
            anew: false,
            usual: false,
            unstreamed: false,
        }
    }
}

/// What a refused `verb` on pods (`list` or `watch`) means. `streamed`: it asked for a streamed list.
pub(super) fn refused(
    verb: &str,
    status: u16,
    retry_after: Option<&str>,
    body: &[u8],
    streamed: bool,
) -> Trouble {
    let words = words(body);
    let wait = retry_after
        .and_then(|text| text.trim().parse().ok())
        .map(|secs| Duration::from_secs(secs).min(WAIT_MAX));
    let mut trouble = match status {
        401 => Trouble::of(format!(
            "the API server does not accept the agent's token (401: {words}); the token's file is read \
             again at each try: is the service account there, and its token mounted?"
        )),
        403 => Trouble::of(format!(
            "the API server refuses to {verb} pods (403: {words}). The agent's service account needs \
             the verbs `list` and `watch` on the resource `pods`, bound by a ClusterRoleBinding: \
             {CLUSTER_ROLE}"
        )),
        410 => Trouble {
            anew: true,
            usual: true,
            ..Trouble::of(format!(
                "the API server has forgotten our place (410: {words})"
            ))
        },
        429 => Trouble::of(format!(
            "the API server is too busy to {verb} pods (429: {words}); it is asked again when it said"
        )),
        _ => Trouble {
            unstreamed: streamed,
            ..Trouble::of(format!(
                "the API server does not {verb} pods ({status}: {words}); see its own log"
            ))
        },
    };
    trouble.wait = wait.filter(|_| matches!(status, 429 | 500..));
    // A server that does not know a parameter says so at once and may be asked otherwise.
    trouble.usual |= trouble.unstreamed && (400..500).contains(&status);
    trouble
}

/// A server's own words: a Status' message, or the beginning of the text.
fn words(body: &[u8]) -> String {
    let status: Option<Status> = serde_json::from_slice(body).ok();
    let words = match status {
        Some(status) if !status.message.is_empty() => status.message,
        Some(status) if !status.reason.is_empty() => status.reason,
        Some(_) | None => String::from_utf8_lossy(body).trim().to_owned(),
    };
    words.chars().take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORBIDDEN: &[u8] = br#"{"kind":"Status","status":"Failure","message":"pods is forbidden: User \"system:serviceaccount:logs:tailwake\" cannot watch resource \"pods\" in API group \"\" at the cluster scope","reason":"Forbidden","code":403}"#;

    #[test]
    fn a_missing_right_is_named_with_its_cure() {
        let trouble = refused("watch", 403, None, FORBIDDEN, true);
        for part in [
            "watch pods",
            "system:serviceaccount:logs:tailwake",
            "kind: ClusterRole",
            "resources: [pods], verbs: [list, watch]",
        ] {
            assert!(trouble.said.contains(part), "{part}: {}", trouble.said);
        }
        assert!(!trouble.usual && !trouble.unstreamed && !trouble.anew);
    }

    #[test]
    fn a_place_that_is_forgotten_is_no_fault() {
        let trouble = refused(
            "watch",
            410,
            None,
            b"{\"message\":\"too old resource version\"}",
            false,
        );
        assert!(trouble.anew && trouble.usual);
    }

    #[test]
    fn a_busy_server_is_left_alone_as_long_as_it_asked() {
        let trouble = refused("list", 429, Some("2"), b"Too many requests\n", true);
        assert_eq!(trouble.wait, Some(Duration::from_secs(2)));
        assert!(!trouble.unstreamed);
        assert_eq!(
            refused("list", 429, Some("99999"), b"", true).wait,
            Some(WAIT_MAX)
        );
        assert_eq!(refused("list", 429, Some("soon"), b"", true).wait, None);
    }

    #[test]
    fn a_server_without_streamed_lists_is_asked_for_a_list_at_once() {
        let said = br#"{"message":"sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"}"#;
        let trouble = refused("watch", 422, None, said, true);
        assert!(trouble.unstreamed && trouble.usual);
        let trouble = refused("watch", 500, None, b"etcd", true);
        assert!(trouble.unstreamed && !trouble.usual);
        assert!(!refused("watch", 422, None, said, false).usual);
    }

    #[test]
    fn an_old_token_is_read_again_and_a_servers_words_are_cut() {
        let trouble = refused("list", 401, None, &[b'x'; 5_000], false);
        assert!(
            trouble.said.contains(
                "read \
             again"
            ) && trouble.said.len() < 1_000
        );
    }
}
