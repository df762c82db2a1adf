//! The messages for bad configs, to the letter.

use super::*;

/// Refused with just this message: place and cause, then cure.
pub(super) fn check_bad(text: &str, cause: &str, cure: &str) {
    let found = refused(text);
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines[0], format!("t.yaml:{cause}"), "{text}\n{found}");
    let last = lines.last().unwrap();
    assert_eq!(*last, format!("  cure: {cure}"), "{text}\n{found}");
}

#[test]
fn all_errors_come_at_once_with_line_column_and_caret() {
    let text = "\
inputs:
  pods: {pods: {rot: /var/log/pods}}
pipelines:
  main:
    from: [pod]
    stages:
      - jsn: {fields: {level: level}}
    to: [loki]
outputs:
  loki:
    loki: {url: 'loki:3100'}
    linger: fast
";
    let want = "\
t.yaml:2:17: unknown key `rot` in `inputs.NAME.pods`
  2 |   pods: {pods: {rot: /var/log/pods}}
    |                 ^^^
  cure: did you mean `root`?
t.yaml:5:12: there is no input `pod`
  5 |     from: [pod]
    |            ^^^
  cure: did you mean `pods`?
t.yaml:7:9: unknown key `jsn` in `stage`
  7 |       - jsn: {fields: {level: level}}
    |         ^^^
  cure: did you mean `json`?
t.yaml:11:17: `url` is no URL, it has no scheme: `loki:3100`
  11 |     loki: {url: 'loki:3100'}
     |                 ^^^^^^^^^^^
  cure: write scheme, host and port, for example `http://loki:3100/...`
t.yaml:12:13: `linger` is no duration: `fast`
  12 |     linger: fast
     |             ^^^^
  cure: write a whole number with ms, s, m, h or d, for example `250ms`; at most 365d
5 errors in t.yaml
";
    assert_eq!(refused(text), want);
}

#[test]
fn top_level_mistakes() {
    for (extra, cause, cure) in [
        (
            "pipelines: {p: {from: pods, to: loki}}\npipelines: {}",
            "4:1: the key `pipelines` stands twice",
            "keep one of the two; the first is on line 3",
        ),
        (
            "pipelines: [p]",
            "3:12: `pipelines` takes a map by name, not a list",
            "write `pipelines: {a-name: ...}`",
        ),
        (
            "pipelines: {p: {from: pods, to: []}}",
            "3:33: `to` is empty",
            "name at least one: `to: [...]`",
        ),
        (
            "pipelines: {p: {from: pods}}",
            "3:13: the pipeline `p` sends its records nowhere",
            "add `to: [...]` with the names of outputs",
        ),
        (
            "pipelines: {p: {from: pods, to: [loki, loki]}}",
            "3:40: `loki` is named twice",
            "name it once; each record would come twice",
        ),
        (
            "pipelines: {p: {from: pods, stages: [{drop_all: {}}]}}",
            "2:11: no pipeline sends to the output `loki`",
            "name it in the `to` of a pipeline, or remove it",
        ),
        (
            "pipelines: {p: {from: pods, to: loki}}\nstate: ${STATE_DIR}",
            "4:8: the environment has no variable `STATE_DIR`",
            "set it, or write `${STATE_DIR:-default}`",
        ),
    ] {
        check_bad(&with(extra), cause, cure);
    }
}

#[test]
fn wrong_values() {
    for (extra, cause, cure) in [
        (
            "pipelines: {p: {from: pods, to: loki}}\nadmin: {listen: 'localhost:9400'}",
            "4:17: `listen` is no address with a port: `localhost:9400`",
            "write an IP address, not a host name: `127.0.0.1:9400`, `0.0.0.0:9400`, `[::]:9400`",
        ),
        (
            "pipelines: {p: {from: pods, to: loki}}\nwake: {rung: tpbtf}",
            "4:14: `rung` does not know `tpbtf`",
            "did you mean `tp_btf`?",
        ),
        (
            "pipelines: {p: {from: pods, to: loki}}\nlimits: {readers: 0}",
            "4:19: `readers` is out of range: `0`",
            "it may be from 1 to 64",
        ),
        (
            "pipelines: {p: {from: pods, to: loki}}\nlimits: {memory: lots}",
            "4:18: `memory` is no size: `lots`",
            "write a whole number with B, KiB, MiB, GiB, KB, MB or GB, for example `8MiB`",
        ),
        (
            "pipelines: {p: {from: pods, to: loki}}\nlimits: {memory: 8MiB}",
            "4:18: `limits.memory` is too small with 1 encoder(s) and 1 reader(s): pool 2MiB + \
             windows 6MiB + batches 2MiB + joins 4MiB = 14MiB of 8MiB",
            "set `limits.memory: 16MiB` or more, or lower `window_bytes` or `batch_bytes` of an \
             output, or `limits.encoders` or `limits.record_bytes_max`",
        ),
        (
            "pipelines: {p: {from: pods, to: loki}}\nlimits: {memory: 64MiB, buffer_bytes: 4MiB}",
            "2:11: the `window_bytes` of `loki` hold less than 4 read buffers: 6MiB",
            "set `window_bytes: 16MiB` or more, or lower `limits.buffer_bytes`",
        ),
        (
            "pipelines: {p: {from: pods, to: loki}}\nentries: {a: &x []}",
            "4:17: YAML anchors and aliases are not read",
            "write the value out; stages that are used twice go into `entries`, with `goto`",
        ),
    ] {
        check_bad(&with(extra), cause, cure);
    }
}

#[test]
fn stage_mistakes() {
    for (stages, cause, cure) in [
        (
            "{json: {fields: {a: b}}}, {cri: {}}",
            "4:29: `cri` is not the first stage of its pipeline",
            "move `cri` to the front of the pipeline's `stages`",
        ),
        (
            "cri",
            "4:2: a stage is a map of one key, not `cri`",
            "write `- cri: {}` with its keys between the braces",
        ),
        (
            "{cri: {}, labels: [a]}",
            "4:12: a second stage, `labels`, stands in one list item",
            "begin each stage with `- ` on a line of its own",
        ),
        (
            "{json: {}}",
            "4:9: `stage.json` needs the key `fields`",
            "add for example `fields: {level: level}`",
        ),
        (
            "{labels: {app-name: x}}",
            "4:12: `app-name` cannot be a label's name",
            "use letters, digits and `_`, not first a digit, for example `app_name`",
        ),
        (
            "{drop: {}}",
            "4:9: `drop` has no condition",
            "add `expression`, `value`, `longer_than` or `older_than`; `drop_all` drops \
             everything",
        ),
        (
            "{drop: {expression: '(a'}}",
            "4:22: `expression` is no regular expression: unclosed group",
            "the syntax is that of RE2: no look-around and no back references; in double quotes \
             write `\\\\` for a backslash, or use single quotes",
        ),
    ] {
        check_bad(&staged(stages), cause, cure);
    }
}

#[test]
fn steps_that_lead_nowhere() {
    for (stages, cause, cure) in [
        (
            "{timestamp: {source: t, format: rfc339}}",
            "4:34: `format` does not know `rfc339`",
            "did you mean `rfc3339`?",
        ),
        (
            "{match: {selector: '{a=b}', stages: []}}",
            "4:21: `selector` cannot be read: the value of `a` does not stand in closed quotes",
            "write for example `'{namespace=\"shop\", container!~\"istio.*\"}'`",
        ),
        (
            "{goto: x}",
            "4:9: there is no entry `x`",
            "there are no entries yet; add one",
        ),
        (
            "{drop_all: {}}, {labels: [a]}",
            "4:18: no record reaches this stage: nothing comes out of `drop_all`",
            "move it before `drop_all`, or remove it",
        ),
    ] {
        // Drops the second error that some of these bring with them: `to` after `drop_all`.
        let text = staged(stages);
        let text = text.replace(
            ", to: loki",
            if stages.contains("drop_all") {
                ""
            } else {
                ", to: loki"
            },
        );
        check_bad(&text, cause, cure);
    }
}

#[test]
fn output_mistakes() {
    for (output, cause, cure) in [
        (
            "{}",
            "1:11: the output `o` has no kind",
            "add `loki: {url: ...}` or `elasticsearch: {urls: [...], data_stream: ...}`",
        ),
        (
            "{loki: {url: 'http://h:3100'}}",
            "1:27: `url` has no path",
            "write the whole push endpoint, for example `http://loki:3100/loki/api/v1/push`",
        ),
        (
            "{loki: {url: http://h/p, labels: {x: '{namespce}'}}}",
            "1:51: the template `{namespce}` names no known field",
            "did you mean `namespace`?",
        ),
        (
            "{elasticsearch: {urls: http://h}}",
            "1:30: `elasticsearch` needs `data_stream` or `index`",
            "add for example `data_stream: logs-kubernetes-default`",
        ),
        (
            "{elasticsearch: {urls: http://h, index: Logs}}",
            "1:54: `index` is no name for an index: `Logs`",
            "write it in lower case",
        ),
        (
            "{loki: {url: http://h/p}, retry: {min: 2s, max: 1s}}",
            "1:47: `min` is longer than `max`",
            "swap them, or raise `max`",
        ),
    ] {
        let text = format!(
            "outputs: {{o: {output}}}\ninputs: {{i: {{pods: {{}}}}}}\n\
             pipelines: {{p: {{from: i, to: o}}}}\n"
        );
        check_bad(&text, cause, cure);
    }
}

#[test]
fn more_than_sixteen_outputs_are_refused() {
    let outputs: Vec<String> = (0..17)
        .map(|n| format!("  o{n}: {{loki: {{url: http://h/p}}, window_bytes: 1KiB}}"))
        .collect();
    let names: Vec<String> = (0..16).map(|n| format!("o{n}")).collect();
    let text = format!(
        "inputs: {{i: {{pods: {{}}}}}}\npipelines: {{p: {{from: i, to: [{}]}}}}\noutputs:\n{}\n",
        names.join(", "),
        outputs.join("\n")
    );
    check_bad(
        &text,
        "20:3: 17 outputs are more than 16",
        "remove some, or run a second agent with a state directory of its own",
    );
}

#[test]
fn circles_of_goto_are_refused_and_diamonds_are_not() {
    let entries = |d: &str| {
        with(&format!(
            "pipelines: {{p: {{from: pods, stages: [{{goto: a}}]}}}}\nentries:\n  \
             a: [{{copy: [[{{goto: b}}], [{{goto: c}}]]}}]\n  b: [{{goto: d}}]\n  \
             c: [{{goto: d}}]\n  d: [{d}]"
        ))
    };
    assert_eq!(plan(&entries("{output: loki}")).entries.len(), 4);
    check_bad(
        &entries("{goto: a}"),
        "8:14: `goto` leads from `d` in a circle back to it",
        "remove one `goto` of the circle: a record must come to an end",
    );
}

#[test]
fn no_message_and_no_page_holds_a_secret() {
    let secret = ["hunter2", "joe", "s3cr3t"];
    let hidden = |text: &str| {
        for word in secret {
            assert!(!text.contains(word), "{word} in:\n{text}");
        }
    };
    for url in [
        "http://joe:s3cr3t@",
        "joe:s3cr3t@h",
        "http://joe:${PASSWORD}@h:99999/x",
        "'http://joe:s3cr3t@h/p bad'",
        "http://joe:s3cr3t@h/p, password: s3cr3t",
        "http://joe:s3cr3t@h/p, token: 's3cr3t joe'",
        "http://joe:s3cr3t@h/p, linger: ${PASSWORD}",
        "http://joe:s3cr3t@h/p}, linger: ${PASSWORD}, x: {",
        "[http://joe:s3cr3t@h/p]",
        "{http://joe:s3cr3t@h/p: ",
    ] {
        hidden(&refused(&format!(
            "outputs: {{o: {{loki: {{url: {url}}}}}}}\n"
        )));
    }
    let good = plan(
        &with("pipelines: {p: {from: pods, to: loki}}")
            .replace("http://h/push", "'http://joe:${PASSWORD}@h/push'"),
    );
    hidden(&print::yaml(&good));
    hidden(&check(&good, 1).unwrap());
}

#[test]
fn text_that_is_no_config() {
    for (text, cause) in [
        ("", "t.yaml: the config is empty"),
        ("# only a comment\n", "t.yaml: the config is empty"),
        ("- a\n", "t.yaml:1:1: `config` takes a map, not a list"),
        (
            "a: [\n",
            "t.yaml:1:4: this is no YAML: unclosed bracket '['",
        ),
        ("a: \"b\n", "t.yaml:1:4: this is no YAML"),
        ("inputs: {}\n", "t.yaml:1:9: `inputs` is empty"),
    ] {
        let found = refused(text);
        assert!(found.starts_with(cause), "{text}\n{found}");
    }
    let deep = format!("entries: {}{}", "[".repeat(60), "]".repeat(60));
    assert!(
        refused(&deep).contains("stand more than 48 deep"),
        "{}",
        refused(&deep)
    );
}

#[test]
fn input_mistakes() {
    for (input, cause) in [
        ("{}", "the input `i` has no kind"),
        (
            "{pods: {}, files: {paths: /a/b}}",
            "the input `i` has two kinds",
        ),
        ("{files: {}}", "`paths`"),
        ("{files: {paths: []}}", "`paths` is empty"),
        ("{files: {paths: a/*.log}}", "it is no absolute path"),
        (
            "{files: {paths: '/*/x.log'}}",
            "it does not begin with a directory",
        ),
        ("{files: {paths: '/a/[x'}}", "a `[` is not closed"),
        (
            "{files: {paths: '/a/x', exclude: '/a/../x'}}",
            "a component `.` or `..`",
        ),
        (
            "{pods: {link_roots: [/]}}",
            "`/` is no directory that links may lead to",
        ),
        ("{pods: {link_roots: docker}}", "`docker` is no directory"),
    ] {
        let text = format!(
            "inputs: {{i: {input}}}\npipelines: {{p: {{from: i, to: o}}}}\n\
             outputs: {{o: {{loki: {{url: http://h/push}}}}}}\n"
        );
        let said = refused(&text);
        assert!(said.contains(cause), "{input}: {said}");
    }
}

#[test]
fn kubernetes_mistakes() {
    let text = |input: &str, labels: &str| {
        format!(
            "inputs: {{i: {{pods: {{{input}}}}}, j: {{pods: {{kubernetes: {{labels: [app]}}}}}}}}\n\
             pipelines: {{p: {{from: [i, j], to: o}}}}\n\
             outputs: {{o: {{loki: {{url: http://h/push, labels: {{x: '{labels}'}}}}}}}}\n"
        )
    };
    for (input, labels, cause) in [
        (
            "kubernetes: {labels: [app], node: 'A b'}",
            "{pod}",
            "t.yaml:1:55: `A b` is no name of a node",
        ),
        (
            "kubernetes: {labels: ['a b']}",
            "{pod}",
            "`a b` is no pattern for names of labels",
        ),
        (
            "kubernetes: {labels: [app], opt_out_annotation: 'x*'}",
            "{pod}",
            "`x*` is no name of an annotation",
        ),
        (
            "kubernetes: {labels: [app], on_missing_metadata: drop}",
            "{pod}",
            "`on_missing_metadata` does not know `drop`",
        ),
        (
            "kubernetes: {labels: [app], metadata_wait: 2d}",
            "{pod}",
            "`metadata_wait` is longer than a day",
        ),
        (
            "kubernetes: {lables: [app]}",
            "{pod}",
            "did you mean `labels`?",
        ),
        (
            "kubernetes: {}",
            "{pod}",
            "t.yaml:1:39: the `kubernetes` of `j` differs from that of `i`",
        ),
        (
            "kubernetes: {labels: [app]}",
            "{labels.team}",
            "cure: add `team` to `labels` of the input's `kubernetes`",
        ),
        (
            "kubernetes: {labels: [app]}",
            "{annotations.team}",
            "cure: add `team` to `annotations` of the input's `kubernetes`",
        ),
        (
            "kubernetes: {labels: [app]}",
            "{labels.}",
            "names no known field",
        ),
    ] {
        let said = refused(&text(input, labels));
        assert!(said.contains(cause), "{input}: {said}");
    }
    plan(&text("kubernetes: {labels: [app]}", "{labels.app}/{owner}"));
    let without = |field: &str| {
        let labels = format!("x: '{{{field}}}'");
        let output = format!("{{loki: {{url: http://h/push, labels: {{{labels}}}}}}}");
        refused(&format!(
            "inputs: {{i: {{pods: {{}}}}}}\npipelines: {{p: {{from: i, to: o}}}}\noutputs: {{o: {output}}}\n"
        ))
    };
    let cure = "cure: add `kubernetes: {labels: [app]}` to an input of kind `pods`";
    assert!(
        without("labels.app").contains(cure),
        "{}",
        without("labels.app")
    );
    let cure = "cure: add `kubernetes: {}` to an input of kind `pods`";
    assert!(without("owner").contains(cure), "{}", without("owner"));
}
