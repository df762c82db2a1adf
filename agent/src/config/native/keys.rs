//! Every key of the native config: the reader refuses all others, and docs/config.md lists these.
//!
//! 1. A key is known if and only if it stands here.
//! 2. docs/config.md holds exactly the rows that are made here; a test compares them.

/// A map of the config and its keys.
#[derive(Debug)]
pub struct Section {
    /// How the docs and messages call it.
    pub name: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes, with its unit.
    pub takes: &'static str,
    /// What stands when it is left out; empty = it must be given.
    pub default: &'static str,
    /// What it does, in a sentence.
    pub does: &'static str,
}

impl Section {
    /// The names of all keys.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.keys.iter().map(|key| key.name)
    }
}

const fn key(
    name: &'static str,
    takes: &'static str,
    default: &'static str,
    does: &'static str,
) -> Key {
    Key {
        name,
        takes,
        default,
        does,
    }
}

macro_rules! sections {
    ($($(#[$doc:meta])* $id:ident = $name:literal {
        $($key:literal: $takes:literal, $default:literal, $does:literal;)*
    })*) => {
        $($(#[$doc])* pub const $id: Section = Section {
            name: $name,
            keys: &[$(key($key, $takes, $default, $does)),*],
        };)*
        /// All maps with fixed keys.
        pub const SECTIONS: &[&Section] = &[$(&$id),*];
    };
}

sections! {
    /// The whole file.
    ROOT = "config" {
        "state": "directory", "/var/lib/tailwake",
            "Where positions live; the agent that uses it holds a lock on it.";
        "admin": "map", "no listener",
            "The listener for `/metrics`, `/status`, `/ready`, `/healthz`.";
        "limits": "map", "see below", "Numbers that bound memory and time.";
        "wake": "map", "see below", "How the agent learns of new bytes.";
        "privileges": "map", "see below", "What the agent may still do once it has started.";
        "inputs": "map by name", "", "Where lines come from.";
        "pipelines": "map by name", "", "What is done with the lines of which inputs.";
        "entries": "map by name of lists of stages", "none", "Stages that `goto` leads to.";
        "outputs": "map by name, at most 16", "",
            "Where records go. A name is stable: positions bear it.";
    }
    /// The admin listener.
    ADMIN = "admin" {
        "listen": "address:port", "", "An IP address and port, for example `127.0.0.1:9400`; port 0 takes a free one, which the log names.";
    }
    /// Limits.
    LIMITS = "limits" {
        "memory": "size", "36MiB", "The ceiling that pool, windows, batches and joins share.";
        "record_bytes_max": "size", "1MiB", "A longer record is cut, marked and counted.";
        "buffer_bytes": "size", "128KiB", "One read buffer.";
        "readers": "number or `auto`", "auto", "Reader threads; `auto` = clamp(cpus / 8, 1, 4).";
        "encoders": "number or `auto`", "auto",
            "Encoder threads; `auto` = clamp(cpus - readers, 1, 16), fewer if `memory` is short.";
        "grace": "duration", "20s", "How long a clean stop may take.";
        "rotate_bytes": "size", "10MiB",
            "Kubelet's `containerLogMaxSize`: for the time that is left until unread bytes are rotated away.";
        "rotate_files": "number", "5", "Kubelet's `containerLogMaxFiles`, for the same.";
        "pod_rate": "size, a second", "none",
            "What the logs of one pod are read at, at the most; a second's bytes may come at once.";
        "namespace_rate": "size, a second", "none",
            "What the logs of one namespace are read at, at the most.";
        "over_rate": "`defer` or `drop`", "defer",
            "Whether what goes beyond a rate is read later, or dropped and counted by pod.";
    }
    /// Wake.
    WAKE = "wake" {
        "rung": "`auto`, `fexit`, `tp_btf`, `raw_tp`, `inotify`, `sweep`", "auto",
            "Which rung of the wake ladder is used; `auto` = the best that loads.";
        "io": "`auto`, `uring`, `pread`", "auto", "What reads; `auto` = io_uring where allowed.";
        "pace": "duration", "5ms", "A busy file is served no more often than this.";
        "sweep": "duration, 0 = never", "2m", "Time between two sweeps of all sizes.";
    }
    /// Privileges.
    PRIVILEGES = "privileges" {
        "drop": "`true` or `false`", "true",
            "Whether capabilities, system calls, files and ports that are not used are given up \
             once all hooks are attached; see privileges.md.";
    }
    /// An input.
    INPUT = "inputs.NAME" {
        "pods": "map", "one of", "Reads kubelet's tree of container logs.";
        "files": "map", "one of", "Reads the files that path patterns match.";
        "start_at": "`beginning`, `end` or duration", "beginning",
            "Where files older than the first start begin; a duration = files written in it are \
             read from their first byte, others from their end.";
    }
    /// The pod tree.
    PODS = "inputs.NAME.pods" {
        "root": "directory", "/var/log/pods", "The tree.";
        "link_roots": "list of directories", "/var/lib/docker/containers",
            "Where links may lead beside the tree itself; a link that leads elsewhere is refused.";
        "kubernetes": "map", "no metadata from the API",
            "Labels, annotations and owner of pods from the Kubernetes API, by a watch of this \
             node's pods; see Kubernetes metadata.";
    }
    /// Metadata of pods.
    KUBERNETES = "inputs.NAME.pods.kubernetes" {
        "node": "name", "`NODE_NAME`, else the host's name", "This node's name in the API.";
        "kubeconfig": "file", "as a pod of the cluster", "How the API is reached.";
        "labels": "list of patterns",
            "app, k8s-app, app.kubernetes.io/name, app.kubernetes.io/instance, \
             app.kubernetes.io/component, app.kubernetes.io/version",
            "Which labels of a pod are taken, by name; `*` stands for any characters.";
        "annotations": "list of patterns", "none", "Which annotations are taken.";
        "on_missing_metadata": "`wait` or `send`", "send",
            "What happens to files of a pod that the API has not named within `metadata_wait`: \
             they stay open and unread while the API is silent, or are sent without metadata.";
        "metadata_wait": "duration", "30s",
            "For how long a pod's files are held, open and unread, before that happens.";
        "opt_out_annotation": "name", "none",
            "Pods that bear this annotation with the value `true` are not read.";
    }
    /// Path patterns.
    FILES = "inputs.NAME.files" {
        "paths": "list of patterns", "",
            "Which files: absolute paths with `*`, `?`, `[a-z]`, `{a,b}`, and `**` for any number \
             of directories.";
        "exclude": "list of patterns", "none", "Which of them are not read.";
        "link_roots": "list of directories", "/var/log/pods, /var/lib/docker/containers",
            "Where links may lead beside the directories that the patterns begin with.";
    }
    /// A pipeline.
    PIPELINE = "pipelines.NAME" {
        "from": "list of input names", "", "Whose lines go through.";
        "stages": "list of stages", "none", "What is done with them, in order.";
        "to": "list of output names", "none",
            "Outputs after the last stage; must be given unless a stage sends records somewhere.";
    }
    /// A stage.
    STAGE = "stage" {
        "cri": "nothing", "one of", "Reads CRI lines and joins their parts; first stage only.";
        "docker": "nothing", "one of",
            "Reads Docker's JSON lines and joins parts; first stage only.";
        "json": "map", "one of", "Reads fields of a JSON text into extracted values.";
        "labels": "list of names, or map of label: value's name", "one of",
            "Makes labels of extracted values.";
        "drop": "map", "one of", "Drops records for which all conditions hold, counted.";
        "timestamp": "map", "one of", "Takes the record's time from an extracted value.";
        "multiline": "map", "one of", "Joins lines into one record.";
        "match": "map", "one of", "Nested stages for the records that a selector matches.";
        "copy": "list of lists of stages", "one of",
            "Each branch gets the record; nothing comes out.";
        "goto": "entry name", "one of", "Goes on at an entry; nothing comes out.";
        "output": "output name", "one of", "The output gets the record, which goes on unchanged.";
        "drop_all": "map", "one of", "Every record ends here, counted.";
    }
    /// `json`.
    JSON = "stage.json" {
        "fields": "map of name: path", "",
            "Extracted values by name; a path is `http.status` or a list of keys, or nothing for \
             the name itself.";
    }
    /// `drop`.
    DROP = "stage.drop" {
        "source": "value's name", "the text", "What `expression` and `value` look at.";
        "expression": "regular expression", "none", "Must match somewhere.";
        "value": "text", "none", "Must be equal.";
        "longer_than": "size", "none", "The text must be longer.";
        "older_than": "duration", "none", "The record must be older.";
        "reason": "word", "drop_stage", "Under which the drops are counted.";
    }
    /// `timestamp`.
    TIMESTAMP = "stage.timestamp" {
        "source": "value's name", "", "Where the time stands.";
        "format": "`rfc3339`, `unix`, `unix_ms`, `unix_us`, `unix_ns`", "rfc3339",
            "How it is written.";
    }
    /// `multiline`.
    MULTILINE = "stage.multiline" {
        "first_line": "regular expression", "", "Matches the first line of a record.";
        "wait": "duration", "3s", "A record is complete this long after its last line.";
        "lines_max": "number", "128", "Lines of one record at the most.";
    }
    /// `match`.
    MATCH = "stage.match" {
        "selector": "`{label=\"x\", other=~\"y.*\"}`", "", "Which records; all matchers must hold.";
        "stages": "list of stages", "", "What is done with them.";
    }
    /// `drop_all`.
    DROP_ALL = "stage.drop_all" {
        "reason": "word", "drop_all", "Under which the drops are counted.";
    }
    /// An output.
    OUTPUT = "outputs.NAME" {
        "loki": "map", "one of", "Pushes to Loki.";
        "elasticsearch": "map", "one of", "Sends bulk requests to Elasticsearch or OpenSearch.";
        "batch_bytes": "size", "1MiB (Loki), 2MiB (Elasticsearch)",
            "A batch is sealed at this many bytes before compression.";
        "linger": "duration", "100ms", "A batch is sealed this long after its first line.";
        "window_bytes": "size", "6MiB",
            "Bytes held by what is sealed but not settled (compressed bodies, their tables of lines, the claims on what was read), at least 4 times `limits.buffer_bytes`; when full, the output holds up its readers.";
        "spool": "map", "none",
            "Where requests wait that the window has no room for; without it the output is detached then, and catches up from the files.";
        "retry": "map", "see below", "How failures are retried, without end.";
        "timeout": "duration", "30s", "How long a whole request may take.";
        "connect_timeout": "duration", "5s",
            "How long looking up the name and connecting may take, and a proxy's answer after that.";
        "tls_timeout": "duration", "10s", "How long a TLS handshake may take.";
        "answer_timeout": "duration", "`timeout`",
            "How long the answer's first line may take once there is a connection.";
        "proxy": "`environment`, `none` or URL", "environment",
            "What connections go through: what `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` \
             say (or the same in lower case), nothing, or an HTTP proxy, which may have user name and password.";
        "tls": "map", "see below", "For `https` URLs.";
        "auth": "map", "none", "Who the agent says it is, if the URL does not say it.";
        "headers": "map of name: value", "none",
            "Sent with every request, but for those that the agent sets itself; values are never printed.";
        "dead_letters": "map, or `off`", "see below",
            "What is kept in `state` of lines that the output has refused for good.";
    }
    /// TLS.
    TLS = "outputs.NAME.tls" {
        "ca": "PEM", "the machine's roots",
            "Authorities that sign the servers' certificates; the machine's roots count no more.";
        "ca_file": "file", "the machine's roots", "The same, in a file; this or `ca`.";
        "cert_file": "file", "none", "The agent's own certificate as PEM, then its signers'.";
        "key_file": "file", "none", "Its private key as PEM.";
        "server_name": "name", "the URL's host", "What the servers' certificates must be made out to.";
        "min_version": "`1.2` or `1.3`", "1.2", "The least version of TLS that is spoken.";
        "insecure_skip_verify": "`true` or `false`", "false",
            "Takes any certificate, so that whoever is on the way can read and change everything.";
    }
    /// Authentication.
    AUTH = "outputs.NAME.auth" {
        "basic": "map", "one of", "User name and password.";
        "bearer": "map", "one of", "A bearer token.";
        "api_key": "map", "one of", "Elasticsearch's `ApiKey`.";
        "oauth2": "map", "one of",
            "A bearer token that is fetched with OAuth 2.0 client credentials and kept until shortly before its end.";
    }
    /// User name and password.
    BASIC = "outputs.NAME.auth.basic" {
        "user": "text", "", "The user name.";
        "password": "text", "one of", "The password.";
        "password_file": "file", "one of", "A file that holds it.";
    }
    /// Bearer token.
    BEARER = "outputs.NAME.auth.bearer" {
        "token": "text", "one of", "The token.";
        "token_file": "file", "one of", "A file that holds it.";
    }
    /// API key.
    API_KEY = "outputs.NAME.auth.api_key" {
        "key": "text", "one of", "The key as the server calls it `encoded`, or `id:api_key`.";
        "key_file": "file", "one of", "A file that holds it.";
    }
    /// OAuth 2.0.
    OAUTH2 = "outputs.NAME.auth.oauth2" {
        "token_url": "URL", "", "The token endpoint.";
        "client_id": "text", "", "The client's id.";
        "client_secret": "text", "one of", "The client's secret.";
        "client_secret_file": "file", "one of", "A file that holds it.";
        "scopes": "list of texts", "none", "What is asked for.";
        "endpoint_params": "map of name: value", "none",
            "Further parameters of the request, for example `audience`; values are never printed.";
        "client_auth": "`header` or `body`", "header", "Where id and secret stand in the request.";
    }
    /// A spool.
    SPOOL = "outputs.NAME.spool" {
        "memory": "size", "one of", "Memory beside the window; lost at a restart, and then read again from the files.";
        "disk": "size, at least 16MiB", "one of", "Bytes on the disk, below `state`; nothing is written while the window has room.";
        "at_cap": "`wait`, `drop_oldest` or `drop_newest`", "wait",
            "What is done when it is full: the output is detached and catches up from the files, or lines are given up, counted.";
        "live_share": "number, 0 to 90", "0 (Loki), 50 (Elasticsearch)",
            "Percent of the bytes that what is new has while the backlog is sent; 0 = all in order. Loki refuses an entry that is an hour older than the newest of its stream.";
        "adopt": "name", "none", "An output that is no more: what its spool holds is sent by this one, which must be of the same kind.";
    }
    /// Dead letters.
    DEAD_LETTERS = "outputs.NAME.dead_letters" {
        "file_bytes": "size", "8MiB", "A file of this size is followed by another.";
        "files": "number", "4", "Files that are kept; the oldest goes, counted.";
    }
    /// Retry.
    RETRY = "outputs.NAME.retry" {
        "min": "duration", "250ms", "First wait.";
        "max": "duration", "30s", "Longest wait.";
    }
    /// Loki.
    LOKI = "outputs.NAME.loki" {
        "url": "URL", "", "The whole URL of the push endpoint.";
        "tenant": "text", "none", "`X-Scope-OrgID`.";
        "labels": "map of label: template", "namespace, pod, container, stream",
            "Labels made from metadata, for example `job: \"{namespace}/{container}\"`.";
    }
    /// Elasticsearch.
    ELASTICSEARCH = "outputs.NAME.elasticsearch" {
        "urls": "list of URLs", "", "Servers to spread requests over.";
        "index": "pattern", "one of",
            "The index that records go to; this or `data_stream`. `logs-{namespace}-%Y.%m.%d` has a metadata field and the record's day, `{labels.NAME}` a label; see \"Index names\".";
        "data_stream": "pattern", "one of",
            "The data stream that records go to; this or `index`. In what is filled in, `-` becomes `_`.";
        "op_type": "`create` or `index`", "index for an `index` without ids, else create",
            "What is done with a document that is there already: left as it is, or written anew. Data streams take `create` alone.";
        "fallback": "name", "the pattern with `other` in its places",
            "Where records go whose index name would be one too many; counted by `tailwake_index_fallback_records_total`.";
        "index_names_max": "number", "1000",
            "Names that the records of one day may come to; four times as many in 24 hours of running.";
        "pipeline": "name", "none", "The ingest pipeline.";
        "routing": "pattern", "none", "What decides the shard, for example `\"{namespace}\"`; not for data streams.";
        "require_alias": "`true` or `false`", "false", "Whether the index must be an alias.";
        "filter_path": "`true` or `false`", "true",
            "Whether servers are asked for each item's status and error alone; `false` for a gateway that takes no `filter_path`.";
        "ids": "`off`, `timed`, `on`", "timed (`data_stream`), off (`index`)",
            "Whether documents have an `_id` made of where the line stands, so that one that is sent again is not stored again: none, those whose line bears its time, or all.";
        "cluster": "text", "none", "The cluster's name; ids are made of it too.";
        "timestamp": "`date` or `date_nanos`", "date",
            "How `@timestamp` is mapped; times before 1970 and after 2262 do not fit into `date_nanos` and become the nearest that do.";
        "kubernetes_fields": "`flat` or `ecs`", "flat",
            "`kubernetes.pod` and `log.file`, or the Elastic Common Schema: `kubernetes.pod.name`, `log.file.path`, `ecs.version`.";
        "json": "`merge`, `nest`, `text`", "merge",
            "Whether the members of a JSON text stand in the document, below a key of their own, or as `message` like any text.";
        "json_key": "key", "parsed", "The key for `json: nest`.";
        "template": "map", "none", "An index template that is put before the first request.";
        "compression": "`gzip`, `zstd`, `none`", "gzip",
            "How bodies are compressed; `zstd` needs `server: opensearch3`.";
        "gzip_level": "number, 0 to 9", "1", "0 sends plain bodies.";
        "server": "`any` or `opensearch3`", "any",
            "What all the servers are known to be. Elasticsearch answers zstd with 400, and OpenSearch 2.19 dies of it.";
    }
    /// Index template.
    TEMPLATE = "outputs.NAME.elasticsearch.template" {
        "name": "name", "", "Its name.";
        "built_in": "`true`", "one of", "The mappings of what this output writes, with a priority of 200.";
        "file": "path", "one of", "A file with the template, a JSON object; read at the start.";
        "overwrite": "`true` or `false`", "false",
            "Whether a template of this name that is there already is written anew.";
    }
}

/// The rows of docs/config.md: one table a section.
#[must_use]
pub fn tables() -> String {
    let mut out = String::new();
    for section in SECTIONS {
        out.push_str(&format!(
            "\n### `{}`\n\n| Key | Takes | Default | What it does |\n|---|---|---|---|\n",
            section.name
        ));
        for key in section.keys {
            let default = if key.default.is_empty() {
                "must be given"
            } else {
                key.default
            };
            out.push_str(&format!(
                "| `{}` | {} | {default} | {} |\n",
                key.name, key.takes, key.does
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const BEGIN: &str = "<!-- keys: made by `native::keys`, do not edit -->\n";
    const END: &str = "\n<!-- end of keys -->\n";

    /// `UPDATE_GOLDEN=1` writes the tables anew.
    #[test]
    fn every_key_stands_in_the_docs() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.md");
        let docs = std::fs::read_to_string(path).unwrap();
        let (before, rest) = docs.split_once(BEGIN).unwrap();
        let (shown, after) = rest.split_once(END).unwrap();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let text = format!("{before}{BEGIN}{}{END}{after}", tables());
            std::fs::write(path, text).unwrap();
        } else {
            assert_eq!(shown, tables(), "run with UPDATE_GOLDEN=1");
        }
    }
}
