//! What the API says, as far as it is read: all else of a pod, `managedFields` first of all, is passed
//! over while it is parsed.
//!
//! A field that is read one day for other labels (addresses, images, ports) is added here, and to
//! [`super::Pod`].

use std::collections::BTreeMap;

use serde::Deserialize;

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub struct Line {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The pod; in a bookmark hardly more than a version, in an error a [`Status`].
    pub object: Object,
}

/// A pod, a bookmark, or a status.
#[derive(Debug, Default, Deserialize)]
pub struct Object {
    /// Names and labels.
    #[serde(default)]
    pub metadata: Metadata,
    /// A status' code.
    #[serde(default)]
    pub code: Option<u16>,
    /// A status' message.
    #[serde(default)]
    pub message: Option<String>,
}

/// A pod's metadata.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The API's uid.
    #[serde(default)]
    pub uid: String,
    /// From where a watch goes on.
    #[serde(default)]
    pub resource_version: String,
    /// By name.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// By name.
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Who owns it.
    #[serde(default)]
    pub owner_references: Option<Vec<Owner>>,
    /// Where a list goes on.
    #[serde(default, rename = "continue")]
    pub more: Option<String>,
}

/// One owner.
#[derive(Debug, Deserialize)]
pub struct Owner {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether it is the one that controls the pod.
    #[serde(default)]
    pub controller: Option<bool>,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub struct List {
    /// Version and the next page.
    #[serde(default)]
    pub metadata: Metadata,
    /// The pods.
    #[serde(default)]
    pub items: Vec<Object>,
}

/// A refusal.
#[derive(Debug, Default, Deserialize)]
pub struct Status {
    /// In words.
    #[serde(default)]
    pub message: String,
    /// For example `Expired`.
    #[serde(default)]
    pub reason: String,
}

/// Marks the bookmark that ends a streamed list.
pub const LIST_ENDS: &str = "k8s.io/initial-events-end";

/// On a static pod's mirror: the uid that its directory bears.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
