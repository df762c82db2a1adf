//! The keys that shape bulk requests.

use proptest::prelude::*;

use super::messages::check_bad;
use super::round::{check_round, config, label, text};
use super::*;
use crate::plan::{
    Compression, DatePart, ElasticsearchOutput, FieldShape, Ids, IndexTemplate, JsonBody, OpType,
    OutputKind, Pattern, PatternPart, Shape, TemplateBody, TimestampKind,
};

/// A config with one output of these keys, which begin at 1:46.
fn keyed(keys: &str) -> String {
    format!(
        "outputs: {{o: {{elasticsearch: {{urls: http://h, {keys}}}}}}}\n\
         inputs: {{i: {{pods: {{}}}}}}\npipelines: {{p: {{from: i, to: o}}}}\n"
    )
}

fn search(keys: &str) -> ElasticsearchOutput {
    match plan(&keyed(keys)).outputs.remove(0).kind {
        OutputKind::Elasticsearch(search) => search,
        OutputKind::Loki(_) => unreachable!("it is none"),
    }
}

#[test]
fn what_is_left_out_follows_from_the_rest() {
    for (keys, op_type, ids, fallback) in [
        (
            "data_stream: logs-a-b",
            OpType::Create,
            Ids::Timed,
            "logs-a-b",
        ),
        (
            "data_stream: 'logs-a.{pod}-b'",
            OpType::Create,
            Ids::Timed,
            "logs-a.other-b",
        ),
        (
            "data_stream: m-a-b, ids: off",
            OpType::Create,
            Ids::Off,
            "m-a-b",
        ),
        (
            "index: 'logs-%Y.%m.%d'",
            OpType::Index,
            Ids::Off,
            "logs-other",
        ),
        (
            "index: 'a-{pod}-%Y', ids: on",
            OpType::Create,
            Ids::On,
            "a-other-other",
        ),
        (
            "index: '{pod}', ids: timed, op_type: index",
            OpType::Index,
            Ids::Timed,
            "other",
        ),
        ("index: x, fallback: y", OpType::Index, Ids::Off, "y"),
    ] {
        let shape = search(keys).shape;
        let got = (shape.op_type, shape.ids, &*shape.fallback);
        assert_eq!(got, (op_type, ids, fallback), "{keys}");
    }
    let shape = search("index: x, json: nest").shape;
    assert_eq!(shape.json, JsonBody::Nest("parsed".into()));
}

#[test]
fn patterns_are_read_as_they_are_printed() {
    let text = "logs-{{x%%}}-{namespace}-{labels.team}-%Y.%m.%d-%H%j%G%V";
    let search = search(&format!("index: '{text}'"));
    assert_eq!(search.index.to_string(), text);
    assert_eq!(search.index.0.len(), 15, "{:?}", search.index);
    assert_eq!(search.index.wildcard(), "logs-{x%}-*-*-*");
    assert_eq!(search.index.period_secs(), Some(3_600));
}

#[test]
fn mistakes_of_bulk_keys() {
    for (keys, cause, cure) in [
        (
            "index: 'logs-{namespce}'",
            "1:54: `logs-{namespce}` names no known field",
            "did you mean `namespace`?",
        ),
        (
            "index: 'logs-{message}'",
            "1:54: `logs-{message}` names no known field",
            "fields here: `namespace`, `pod`, `uid`, `container`, `node`, `owner`, `owner_kind`, `filename`, `stream`; a \
             label is written as `{labels.NAME}`",
        ),
        (
            "index: 'logs-%D'",
            "1:54: `logs-%D` has a `%` that is no part of a date",
            "write `%Y`, `%m`, `%d`, `%H`, `%j`, `%G`, `%V`, or `%%` for the sign itself",
        ),
        (
            "index: 'logs-{pod'",
            "1:54: a brace stands alone in `logs-{pod`",
            "write a value as `{namespace}`, and `{{` or `}}` for a brace itself",
        ),
        (
            "index: '_{pod}'",
            "1:54: `index` is no name for an index: `_{pod}`",
            "it may not begin with `-`, `_`, `+` or `.`",
        ),
        (
            "data_stream: 'logs-{labels.a-b}-x'",
            "1:60: `a-b` cannot be a label's name",
            "use letters, digits and `_`, not first a digit, for example `a_b`",
        ),
        (
            "data_stream: logs-a-b, op_type: index",
            "1:79: a data stream takes no `op_type: index`: each document would be refused",
            "write `op_type: create`, or leave it out",
        ),
        (
            "data_stream: logs-a-b, routing: '{pod}'",
            "1:79: a data stream takes no `routing`: each document would be refused",
            "leave it out, or write to an `index`",
        ),
        (
            "index: x, fallback: Y",
            "1:67: `fallback` is no name for an index: `Y`",
            "write it in lower case",
        ),
        (
            "index: x, json_key: mine",
            "1:67: `json_key` says where a nested text stands, and none is nested",
            "add `json: nest`, or leave `json_key` out",
        ),
        (
            "index: x, json: nest, json_key: log",
            "1:79: `log` cannot be the key of a nested text",
            "use letters, digits, `_` and `-`, and no key that documents have anyway",
        ),
        (
            "index: x, template: {built_in: true}",
            "1:67: `outputs.NAME.elasticsearch.template` needs the key `name`",
            "add for example `name: tailwake`",
        ),
        (
            "index: x, template: {name: _x, built_in: true}",
            "1:74: `_x` cannot be a template's name",
            "use letters, digits, `_`, `-` and `.`, and do not begin with `_`",
        ),
        (
            "index: x, template: {name: x}",
            "1:67: the template has neither `built_in` nor `file`",
            "add `built_in: true`, or `file: PATH`",
        ),
        (
            "index: x, compression: zstd",
            "1:70: `compression: zstd` is not for every server: Elasticsearch answers it with 400, \
             and OpenSearch 2.19 dies of it",
            "write `gzip`, or add `server: opensearch3` where all of them are OpenSearch 3",
        ),
        (
            "index: x, ids: yes",
            "1:62: `ids` does not know `yes`",
            "choices here: `off`, `timed`, `on`",
        ),
    ] {
        check_bad(&keyed(keys), cause, cure);
    }
    let long = format!("index: '{}{{pod}}'", "x".repeat(240));
    assert!(refused(&keyed(&long)).contains("use at most 255 bytes, of which each value needs 16"));
}

#[test]
fn a_template_file_is_read_with_the_config_and_must_be_an_object() {
    let directory = std::env::temp_dir().join(format!("tailwake-template-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (config, file) = (directory.join("t.yaml"), directory.join("template.json"));
    let text = format!(
        "index: x, template: {{name: t, file: '{}'}}",
        file.display()
    );
    std::fs::write(&config, keyed(&text)).unwrap();
    let refused = |starts: &str| {
        let found = load(&config).unwrap_err().to_string();
        assert!(
            found.starts_with(&format!("{}: {starts}", file.display())),
            "{found}"
        );
    };
    refused("cannot be read: No such file");
    std::fs::write(&file, "[]").unwrap();
    refused("this is no index template: invalid type: sequence, expected a map");
    std::fs::write(&file, "{\"index_patterns\": []}").unwrap();
    let plan = load(&config).unwrap();
    let OutputKind::Elasticsearch(search) = &plan.outputs[0].kind else {
        unreachable!("it is none")
    };
    let body = &search.template.as_ref().unwrap().body;
    assert!(matches!(body, TemplateBody::File { text, .. } if text.contains("index_patterns")));
    check_round(&plan).unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}

fn template() -> impl Strategy<Value = IndexTemplate> {
    let body = prop_oneof![
        Just(TemplateBody::BuiltIn),
        text().prop_map(|path| TemplateBody::File {
            path: path.to_string(),
            text: "".into(),
        }),
    ];
    ("[a-z][a-z._-]{0,9}", body, any::<bool>()).prop_map(|(name, body, overwrite)| IndexTemplate {
        name,
        body,
        overwrite,
    })
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let part = prop_oneof![
        prop::sample::select(vec!["{", "}", "%", "$", "${a}", "-", "a", "%d"])
            .prop_map(|text| PatternPart::Text(text.into())),
        label().prop_map(PatternPart::Label),
        Just(PatternPart::Field("pod".into())),
        prop::sample::select(DatePart::ALL.to_vec())
            .prop_map(|(_, part, _)| PatternPart::Date(part)),
    ];
    prop::collection::vec(part, 1..6).prop_map(|mut parts| {
        parts.insert(0, PatternPart::Text("a".into()));
        Pattern(parts)
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let json = prop_oneof![
        Just(JsonBody::Merge),
        Just(JsonBody::Text),
        "[a-z]{1,9}".prop_map(|key| JsonBody::Nest(format!("x{key}").into())),
    ];
    let choices = (
        prop::sample::select(vec![OpType::Create, OpType::Index]),
        prop::sample::select(vec![Ids::Off, Ids::Timed, Ids::On]),
        prop::sample::select(vec![TimestampKind::Date, TimestampKind::DateNanos]),
        prop::sample::select(vec![FieldShape::Flat, FieldShape::Ecs]),
    );
    let texts = (prop::option::of(text()), prop::option::of(text()));
    let rest = (prop::option::of(pattern()), any::<bool>(), 1..100_000usize);
    (choices, texts, rest, json).prop_map(
        |((op_type, ids, timestamp, fields), (pipeline, cluster), (routing, alias, most), json)| {
            Shape {
                op_type,
                fallback: "x-other".into(),
                index_names_max: most,
                pipeline,
                routing,
                require_alias: alias,
                ids,
                cluster: cluster.unwrap_or_default(),
                timestamp,
                fields,
                json,
            }
        },
    )
}

proptest! {
    #![proptest_config(config())]

    /// Any shape of bulk requests is printed as it is read.
    #[test]
    fn a_printed_shape_is_read_back(
        shape in shape(), index in pattern(), data_stream in any::<bool>(), filter in any::<bool>(),
        template in prop::option::of(template()),
        compression in prop::sample::select(vec![Compression::None, Compression::Gzip, Compression::Zstd]),
    ) {
        let mut plan = plan(&keyed("index: x"));
        let OutputKind::Elasticsearch(search) = &mut plan.outputs[0].kind else {
            return Ok(());
        };
        (search.index, search.data_stream) = (index, data_stream);
        (search.shape, search.filter_path) = (shape, filter);
        search.template = template;
        search.compression = compression;
        if data_stream {
            (search.shape.op_type, search.shape.routing) = (OpType::Create, None);
        }
        let want = format!("{search:?}");
        prop_assert!(check_round(&plan).is_ok(), "{}", check_round(&plan).unwrap_err());
        let again = parse("printed", &print::yaml(&plan), &|_| None).unwrap();
        let OutputKind::Elasticsearch(again) = &again.outputs[0].kind else {
            return Ok(());
        };
        // Texts that stand side by side are one when they are read.
        let whole = |text: &str| text.replace("\"), Text(\"", "");
        prop_assert_eq!(whole(&format!("{again:?}")), whole(&want));
    }
}
