//! Printing and reading again.

use std::sync::Arc;

use proptest::prelude::*;
use regex::bytes::Regex;

use super::*;
use crate::base::outputs::OutputId;
use crate::base::size::ByteSize;
use crate::plan::secret::Secret;
use crate::plan::{
    Auth, ClientAuth, ClientCertificate, DropStage, HttpSettings, JsonField, JsonStage, LabelField,
    MatchOp, Matcher, MultilineStage, OAuth2, OutputKind, SecretSource, Selector, Stage, StartAt,
    Step, Template, TemplatePart, TimestampFormat, TimestampStage, Tls,
};

pub(super) fn check_round(plan: &Plan) -> Result<(), String> {
    let printed = print::yaml(plan);
    let again = parse("printed", &printed, &|_| None)
        .map_err(|found| format!("{found}\n---\n{printed}"))?;
    let twice = print::yaml(&again);
    if twice == printed {
        return Ok(());
    }
    Err(format!("{printed}\n--- printed again:\n{twice}"))
}

#[test]
fn the_examples_are_read_printed_and_read_again() {
    for text in examples() {
        let plan = plan(&text);
        check_round(&plan).unwrap();
        // Hidden secrets apart, the plan is the same in every field, not only in print.
        if !text.contains('@') {
            let again = parse("printed", &print::yaml(&plan), &env).unwrap();
            assert_eq!(format!("{plan:?}"), format!("{again:?}"));
        }
    }
}

#[test]
fn what_is_asked_of_kubernetes_is_printed_and_read_again() {
    for asked in [
        "{}",
        "{node: n-1, kubeconfig: '/a b/c', labels: [], annotations: ['*', 'x.io/?'], \
         on_missing_metadata: wait, metadata_wait: 0, opt_out_annotation: tailwake.io/exclude}",
    ] {
        let text = format!(
            "inputs: {{i: {{pods: {{kubernetes: {asked}}}}}}}\npipelines: {{p: {{from: i, to: o}}}}\n\
             outputs: {{o: {{loki: {{url: http://h/push}}}}}}\n"
        );
        let plan = plan(&text);
        check_round(&plan).unwrap();
        let again = parse("printed", &print::yaml(&plan), &env).unwrap();
        assert_eq!(plan.kubernetes(), again.kubernetes());
    }
}

/// Text with all that YAML, variables and templates could trip over.
pub(super) fn text() -> impl Strategy<Value = Arc<str>> {
    let odd = prop::sample::select(vec![
        "${A}", "$", "$${", "{", "}", "\"", "'", "\\", ": ", " #", "\n", "\t", "null", "~", "é",
        "\u{2028}", "\u{feff}", "\u{7f}", "@", "://", "- ", "|", "1", "a", " ", "%", "&x",
    ]);
    prop_oneof![
        prop::collection::vec(odd, 1..6).prop_map(|parts| Arc::from(parts.concat())),
        any::<String>()
            .prop_filter("not empty", |text| !text.is_empty())
            .prop_map(Arc::from),
    ]
}

pub(super) fn label() -> impl Strategy<Value = Arc<str>> {
    "[a-zA-Z_][a-zA-Z0-9_]{0,8}".prop_map(Arc::from)
}

fn pattern() -> impl Strategy<Value = Regex> {
    text().prop_map(|text| Regex::new(&regex::escape(&text)).unwrap())
}

fn drop_stage() -> impl Strategy<Value = Stage> {
    let size = prop::option::of(0..1u64 << 40);
    let age = prop::option::of(1..1_000_000u64);
    let source = prop::option::of(text());
    (
        source,
        pattern(),
        prop::option::of(text()),
        size,
        age,
        text(),
    )
        .prop_map(
            |(source, expression, value, longer_than, older_than_secs, reason)| {
                Stage::Drop(DropStage {
                    source,
                    expression: Some(expression),
                    value,
                    longer_than,
                    older_than_secs,
                    reason,
                })
            },
        )
}

fn json_stage() -> impl Strategy<Value = Stage> {
    let path = prop::collection::vec(text(), 1..3);
    prop::collection::btree_map(text(), path, 1..3).prop_map(|fields| {
        let field = |(name, path)| JsonField { name, path };
        let fields = fields.into_iter().map(field).collect();
        Stage::Json(JsonStage { fields })
    })
}

fn stage() -> impl Strategy<Value = Step> {
    let labels = prop::collection::btree_map(label(), text(), 1..3).prop_map(|labels| {
        let field = |(label, from)| LabelField { label, from };
        Stage::Labels(labels.into_iter().map(field).collect())
    });
    let time = text().prop_map(|source| {
        let format = TimestampFormat::UnixMs;
        Stage::Timestamp(TimestampStage { source, format })
    });
    let lines = (pattern(), 1..1u64 << 30, 1..100_000usize).prop_map(|(first_line, wait_ms, n)| {
        Stage::Multiline(MultilineStage {
            first_line,
            wait_ms,
            lines_max: n,
        })
    });
    let output = Just(Step::Output(OutputId(0)));
    prop_oneof![
        prop_oneof![labels, time, lines, json_stage(), drop_stage()].prop_map(Step::Stage),
        output,
    ]
}

fn matcher() -> impl Strategy<Value = Matcher> {
    (label(), text(), 0..4u8).prop_map(|(label, text, kind)| {
        let regex = || Regex::new(&format!("^(?:{})$", regex::escape(&text))).unwrap();
        let op = match kind {
            0 => MatchOp::Equal(Arc::clone(&text)),
            1 => MatchOp::NotEqual(Arc::clone(&text)),
            2 => MatchOp::Matches(regex()),
            _ => MatchOp::MatchesNot(regex()),
        };
        Matcher { label, op }
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let leaf = prop::collection::vec(stage(), 0..4);
    leaf.prop_recursive(3, 24, 3, |inner| {
        let matchers = prop::collection::vec(matcher(), 1..3).prop_map(Selector);
        let nested = (matchers, inner.clone())
            .prop_map(|(selector, steps)| vec![Step::Match { selector, steps }]);
        let copied = (inner.clone(), prop::collection::vec(inner, 1..3)).prop_map(
            |(mut steps, branches)| {
                // Nothing may follow a copy.
                if steps
                    .last()
                    .is_none_or(|step| !matches!(step, Step::Copy(_)))
                {
                    steps.push(Step::Copy(branches));
                }
                steps
            },
        );
        prop_oneof![nested, copied]
    })
}

fn templates() -> impl Strategy<Value = Vec<(Arc<str>, Template)>> {
    let template = (text(), text()).prop_map(|(before, after)| {
        let field = TemplatePart::Field(Arc::from("pod"));
        Template(vec![
            TemplatePart::Text(before),
            field,
            TemplatePart::Text(after),
        ])
    });
    prop::collection::btree_map(label(), template, 0..3)
        .prop_map(|labels| labels.into_iter().collect())
}

/// Everything that has free text.
fn settings() -> impl Strategy<Value = HttpSettings> {
    let file = || text().prop_map(|text| std::path::PathBuf::from(format!("/{text}x")));
    let user = text().prop_map(|text| {
        let kept = text.chars().filter(|c| *c != ':' && !c.is_control());
        format!("u{}", kept.collect::<String>())
    });
    let basic = (user, file()).prop_map(|(user, file)| Auth::Basic {
        user,
        password: SecretSource::File(file),
    });
    let params = prop::collection::btree_map(text(), Just(Secret::new("***")), 0..3);
    let scopes = prop::collection::vec(text(), 0..3);
    let oauth2 = (text(), scopes, params).prop_map(|(client_id, scopes, params)| {
        Auth::OAuth2(OAuth2 {
            token_url: "https://h/token".to_owned(),
            client_id: client_id.to_string(),
            client_secret: SecretSource::Text(Secret::new("***")),
            scopes: scopes.iter().map(ToString::to_string).collect(),
            endpoint_params: params
                .into_iter()
                .map(|(name, value)| (name.to_string(), value))
                .collect(),
            client_auth: ClientAuth::Body,
        })
    });
    (
        prop_oneof![Just(Auth::None), basic, oauth2],
        file(),
        label(),
    )
        .prop_map(|(auth, file, header)| HttpSettings {
            auth,
            tls: Tls {
                certificate: Some(ClientCertificate {
                    cert_file: file.clone(),
                    key_file: file,
                }),
                ..Tls::default()
            },
            headers: vec![(format!("x-{}", header.to_lowercase()), Secret::new("***"))],
            ..HttpSettings::default()
        })
}

fn plans() -> impl Strategy<Value = Plan> {
    let numbers = (1..1u64 << 32, 1..1u64 << 30, prop::option::of(1..64usize));
    let start = prop_oneof![
        Just(StartAt::Beginning),
        Just(StartAt::End),
        (1..30_000_000u64).prop_map(|secs| StartAt::Age { secs }),
    ];
    (steps(), templates(), numbers, start, text(), settings()).prop_map(
        |(steps, labels, (grace, sweep, threads), start_at, state, http)| {
            let mut plan = plan(&with("pipelines: {p: {from: pods, to: loki}}"));
            plan.inputs[0].start_at = start_at;
            plan.state = (*state).into();
            plan.limits.memory = ByteSize(1 << 40);
            plan.limits.grace_ms = grace % (1 << 34);
            plan.limits.rotate_bytes = ByteSize(1 + sweep);
            plan.limits.rotate_files = 2 + grace % 100;
            plan.limits.readers = threads;
            plan.wake.sweep_ms = sweep;
            if let OutputKind::Loki(loki) = &mut plan.outputs[0].kind {
                loki.labels = labels;
                loki.url = "https://h/push".to_owned();
            }
            plan.outputs[0].http = http;
            let last = steps.last();
            if last.is_none_or(|step| !matches!(step, Step::Copy(_))) {
                plan.pipelines[0].steps = steps;
                plan.pipelines[0].steps.push(Step::Output(OutputId(0)));
            } else {
                plan.pipelines[0].steps = vec![Step::Output(OutputId(0))];
                plan.pipelines[0].steps.extend(steps);
            }
            plan
        },
    )
}

pub(super) fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// Any plan's printed form is read back as a plan of the same printed form.
    #[test]
    fn a_printed_plan_is_read_back(plan in plans()) {
        prop_assert!(check_round(&plan).is_ok(), "{}", check_round(&plan).unwrap_err());
    }

    /// Whatever stands in a config, reading it ends in a plan or in messages.
    #[test]
    fn broken_text_never_panics(at in 0.0..1.0f64, gone in 0..20usize, new in text()) {
        for text in examples() {
            let chars: Vec<char> = text.chars().collect();
            let cut = (chars.len() as f64 * at) as usize;
            let rest = chars.iter().skip(cut + gone);
            let mut broken: String = chars[..cut].iter().collect();
            broken.push_str(&new);
            broken.extend(rest);
            if let Err(found) = parse("t.yaml", &broken, &env) {
                prop_assert!(found.to_string().contains("cure: "));
            }
        }
    }
}
