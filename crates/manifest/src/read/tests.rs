//! Reading text: what documents come out, and what is refused where.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// Every document as `apiVersion kind line:column json`.
#[track_caller]
fn check(text: &str, want: &[&str]) {
    let shown: Vec<String> = read("f", text)
        .unwrap()
        .iter()
        .map(|document| {
            let Document { api_version, kind, path, root, .. } = document;
            let Position { line, column } = root.at;
            let mut body = root.to_json();
            if let Some(body) = body.as_object_mut() {
                body.shift_remove("apiVersion");
                body.shift_remove("kind");
            }
            format!("{api_version} {kind} {path}@{line}:{column} {body}")
        })
        .collect();
    assert_eq!(shown, want, "{text}");
}

#[track_caller]
fn check_refused(text: &str, want: &[&str]) {
    let refusals = read("f", text).unwrap_err();
    assert_eq!(refusals.iter().map(ToString::to_string).collect::<Vec<_>>(), want, "{text}");
}

#[test]
fn one_file_may_hold_many_documents() {
    check(
        "apiVersion: v1\nkind: Pod\n---\n# nothing\n---\napiVersion: a/v2\nkind: X\na: 1\n",
        &["v1 Pod @1:1 {}", "a/v2 X @6:1 {\"a\":1}"],
    );
    check("", &[]);
    check("# nothing\n", &[]);
    check("\u{feff}apiVersion: v1\nkind: Pod\n", &["v1 Pod @1:1 {}"]);
}

#[test]
fn json_is_read_as_well() {
    check(
        "{\n\t\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n\t\"a\": [1, 2.5, true, null, \"\\u00e9\\/\"]\n}",
        &["v1 Pod @1:1 {\"a\":[1,2.5,true,null,\"é/\"]}"],
    );
}

#[test]
fn lists_are_unpacked() {
    check(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n- apiVersion: a/v2\n  kind: X\n",
        &["v1 Pod items[0]@4:3 {}", "a/v2 X items[1]@6:3 {}"],
    );
    check("apiVersion: v1\nkind: PodList\nitems:\n- a: 1\n", &["v1 Pod items[0]@4:3 {\"a\":1}"]);
    // A kind that only ends like a list.
    check("apiVersion: v1\nkind: AllowList\n", &["v1 AllowList @1:1 {}"]);
    check_refused(
        "apiVersion: v1\nkind: List\nitems:\n- kind: Pod\n",
        &["f:4:3: items[0]: no `apiVersion`: nobody can say what this is (fix: if this is a \
           template or a fragment, render it first)"],
    );
}

#[test]
fn quotes_make_a_string_of_anything() {
    check(
        "apiVersion: v1\nkind: X\na: '8080'\nb: \"yes\"\nc: !!str 8080\nd: |\n  no\ne: 8080\nf: no\n",
        &[
            "v1 X @1:1 {\"a\":\"8080\",\"b\":\"yes\",\"c\":\"8080\",\"d\":\"no\\n\",\"e\":8080,\"f\":false}",
        ],
    );
}

#[test]
fn keys_are_what_kubernetes_makes_of_them() {
    check(
        "apiVersion: v1\nkind: X\n80: a\nyes: b\n'no': c\n",
        &["v1 X @1:1 {\"80\":\"a\",\"true\":\"b\",\"no\":\"c\"}"],
    );
}

#[test]
fn positions_are_of_the_value() {
    let documents = read("f", "apiVersion: v1\nkind: X\nspec:\n  ä: [a, {b: c}]\n").unwrap();
    let at = |node: &Node| (node.at.line, node.at.column);
    let list = documents[0].root.path(&["spec", "ä"]).unwrap();
    assert_eq!(at(list), (4, 6));
    assert_eq!(at(&list.items()[0]), (4, 7));
    assert_eq!(at(list.items()[1].get("b").unwrap()), (4, 14));
}

#[test]
fn a_key_that_is_set_twice_is_refused() {
    check_refused(
        "apiVersion: v1\nkind: X\na:\n  b: 1\n  b: 2\nkind: Y\n",
        &[
            "f:5:3: `b` is already set in line 4 (fix: keep one of them)",
            "f:6:1: `kind` is already set in line 2 (fix: keep one of them)",
        ],
    );
    // Kubernetes reads both as `true`.
    check_refused(
        "apiVersion: v1\nkind: X\nyes: 1\non: 2\n",
        &["f:4:1: `true` is already set in line 3 (fix: keep one of them)"],
    );
}

#[test]
fn aliases_and_merges_are_refused() {
    check_refused(
        "apiVersion: v1\nkind: X\na: &x [1]\nb: *x\n",
        &["f:4:4: aliases are not read: what they stand for is written elsewhere (fix: write the \
         value out)"],
    );
    check_refused(
        "apiVersion: v1\nkind: X\n<<: {a: 1}\n",
        &["f:3:1: merge keys are not read: what they merge is written elsewhere (fix: write the \
         fields out)"],
    );
    // An anchor that nobody refers to changes nothing.
    check("apiVersion: v1\nkind: X\na: &x 1\n", &["v1 X @1:1 {\"a\":1}"]);
}

#[test]
fn tags_of_ones_own_are_refused() {
    check_refused(
        "apiVersion: v1\nkind: X\na: !secret b\n",
        &["f:3:4: the tag `!secret` is not read (fix: leave the tag out)"],
    );
    check_refused(
        "apiVersion: v1\nkind: X\na: !!int b\n",
        &["f:3:4: the tag `tag:yaml.org,2002:!int` is not read (fix: leave the tag out)"],
    );
}

#[test]
fn what_nobody_can_name_is_refused() {
    let hint = "(fix: if this is a template or a fragment, render it first)";
    check_refused(
        "kind: Pod\n---\napiVersion: v1\nkind: 7\n---\napiVersion: ''\nkind: Pod\n",
        &[
            &format!("f:1:1: no `apiVersion`: nobody can say what this is {hint}"),
            &format!("f:4:7: `kind` is a string, this is an integer {hint}"),
            &format!("f:6:13: `apiVersion` is empty {hint}"),
        ],
    );
    check_refused("- a\n", &["f:1:1: a manifest is a mapping, this is a list"]);
    check_refused("just text\n", &["f:1:1: a manifest is a mapping, this is a string"]);
}

#[test]
fn templates_are_refused() {
    check_refused(
        "apiVersion: v1\nkind: {{ .Values.kind }}\n",
        &["f:2:8: a key of a mapping is a text, not a list or a mapping (fix: if this is a \
         template, render it first; else quote the key)"],
    );
    let refusals = read("f", "{{- if .Values.on }}\nkind: X\n{{- end }}\n").unwrap_err();
    assert_eq!(refusals[0].fix.as_deref(), Some("this looks like a template: render it first"));
}

#[test]
fn text_that_is_not_yaml_is_refused_with_its_place() {
    let refusals = read("f", "apiVersion: v1\nkind: X\na: [1, 2\nb: 3\n").unwrap_err();
    assert!(refusals[0].reason.starts_with("not YAML: "), "{}", refusals[0]);
    assert!((3..=5).contains(&refusals[0].at.line), "{}", refusals[0]);
}

#[test]
fn control_characters_are_refused() {
    // The parser takes NUL for the end and would leave out what follows.
    check_refused(
        "apiVersion: v1\nkind: X\na\0: b\n",
        &["f:3:2: the character \\u{0} cannot stand in a manifest"],
    );
    check_refused("a: \u{1b}[2J", &["f:1:4: the character \\u{1b} cannot stand in a manifest"]);
}

#[test]
fn bytes_that_are_not_utf8_are_refused_with_their_place() {
    let refusals = read_bytes("f", b"apiVersion: v1\nk\xc3\xa4\xff").unwrap_err();
    assert_eq!(
        refusals[0].to_string(),
        "f:2:3: the bytes here are not UTF-8 (fix: save the file as UTF-8)"
    );
}

/// Far more than any of these takes without optimisation on a busy machine, and
/// far less than what is not linear would take.
const PATIENCE: Duration = Duration::from_secs(10);

#[track_caller]
fn check_bounded(text: &str, reason: &str) {
    let start = Instant::now();
    let refusals = read("f", text).unwrap_err();
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert!(refusals[0].reason.contains(reason), "{}", refusals[0]);
    assert!(refusals.len() <= 101, "{}", refusals.len());
}

#[test]
fn hostile_sizes_are_refused_quickly() {
    check_bounded(&"a: b\n".repeat(2_500_000), "the file has 12500000 bytes");
    check_bounded(&"[".repeat(1_000_000), "nested deeper than 64 levels");
    check_bounded(&"- ".repeat(100_000), "nested deeper than 64 levels");
    check_bounded(&"{a: ".repeat(100_000), "nested deeper than 64 levels");
    check_bounded(&format!("a: {}", "x".repeat(2_000_000)), "a text of 2000000 bytes");
    check_bounded(&"a: 1\n".repeat(50_000), "`a` is already set in line 1");
    let bomb = (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| {
        format!("{text}a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1)
    });
    check_bounded(&bomb, "aliases are not read");
}

#[test]
fn ten_thousand_entries_are_read_quickly() {
    let items: String = (0..10_000).map(|n| format!("- key: k{n}\n  values: [a, b]\n")).collect();
    let start = Instant::now();
    let documents = read("f", &format!("apiVersion: v1\nkind: X\nitems:\n{items}")).unwrap();
    assert_eq!(documents[0].root.get("items").unwrap().items().len(), 10_000);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

/// Pieces of YAML that mean something, in any order.
fn shards() -> impl Strategy<Value = String> {
    let shard = prop::sample::select(vec![
        "apiVersion: v1",
        "kind: X",
        "spec",
        ":",
        ": ",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "'",
        "\"",
        "|",
        ">",
        "|-2",
        "&a",
        "*a",
        "!",
        "!!str",
        "%YAML 1.1\n",
        "%TAG ! x\n",
        "---",
        "...",
        "#",
        "? ",
        "<<",
        "\\x41",
        "\\uD800",
        "\t",
        "\r",
        "\u{85}",
        "\u{2028}",
        "ä",
        "🦀",
        "0x",
        "1e9",
        "~",
        "@",
        "`",
        "=",
    ]);
    prop::collection::vec(shard, 0..60).prop_map(|shards| shards.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_bytes("f", &bytes);
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = read("f", &text);
    }

    #[test]
    fn no_mixture_of_yaml_panics(text in shards()) {
        let _ = read("f", &text);
    }

    #[test]
    fn json_is_read_as_what_it_says(text in "[ -~äπ🦀]{0,40}", number in any::<i32>()) {
        let written = serde_json::json!({"apiVersion": "v1", "kind": "X", "text": text, "n": [number]});
        let documents = read("f", &written.to_string()).unwrap();
        prop_assert_eq!(documents[0].root.to_json(), written);
    }
}
