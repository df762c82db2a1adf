//! The bulk keys of an output as lines of native YAML.

use super::print::scalar;
use super::{
    Compression, ElasticsearchOutput, FieldShape, Ids, JsonBody, OpType, TemplateBody,
    TimestampKind,
};

/// One line a key, without indent.
pub(super) fn lines(search: &ElasticsearchOutput) -> Vec<String> {
    let shape = &search.shape;
    let name = if search.data_stream {
        "data_stream"
    } else {
        "index"
    };
    let op_type = match shape.op_type {
        OpType::Create => "create",
        OpType::Index => "index",
    };
    let mut lines = vec![
        format!("{name}: {}", scalar(&search.index.to_string())),
        format!("op_type: {op_type}"),
        format!("fallback: {}", scalar(&shape.fallback)),
        format!("index_names_max: {}", shape.index_names_max),
    ];
    if let Some(pipeline) = &shape.pipeline {
        lines.push(format!("pipeline: {}", scalar(pipeline)));
    }
    if let Some(routing) = &shape.routing {
        lines.push(format!("routing: {}", scalar(&routing.to_string())));
    }
    lines.push(format!("require_alias: {}", shape.require_alias));
    lines.push(format!("filter_path: {}", search.filter_path));
    let ids = match shape.ids {
        Ids::Off => "\"off\"",
        Ids::Timed => "timed",
        Ids::On => "\"on\"",
    };
    lines.push(format!("ids: {ids}"));
    if !shape.cluster.is_empty() {
        lines.push(format!("cluster: {}", scalar(&shape.cluster)));
    }
    let timestamp = match shape.timestamp {
        TimestampKind::Date => "date",
        TimestampKind::DateNanos => "date_nanos",
    };
    lines.push(format!("timestamp: {timestamp}"));
    let fields = match shape.fields {
        FieldShape::Flat => "flat",
        FieldShape::Ecs => "ecs",
    };
    lines.push(format!("kubernetes_fields: {fields}"));
    match &shape.json {
        JsonBody::Merge => lines.push("json: merge".to_owned()),
        JsonBody::Text => lines.push("json: text".to_owned()),
        JsonBody::Nest(key) => {
            lines.push("json: nest".to_owned());
            lines.push(format!("json_key: {}", scalar(key)));
        }
    }
    if let Some(template) = &search.template {
        lines.push("template:".to_owned());
        lines.push(format!("  name: {}", scalar(&template.name)));
        lines.push(match &template.body {
            TemplateBody::BuiltIn => "  built_in: true".to_owned(),
            TemplateBody::File { path, .. } => format!("  file: {}", scalar(path)),
        });
        lines.push(format!("  overwrite: {}", template.overwrite));
    }
    match search.compression {
        Compression::None => lines.push("compression: none".to_owned()),
        Compression::Gzip => lines.push("compression: gzip".to_owned()),
        Compression::Zstd => {
            lines.push("compression: zstd".to_owned());
            lines.push("server: opensearch3".to_owned());
        }
    }
    lines.push(format!("gzip_level: {}", search.gzip_level));
    lines
}
