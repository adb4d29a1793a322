//! Rules that cannot be put together: what `check` says, what is denied, and what
//! is not (facts: `policy.md` sections 1.5 and 1.8).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use std::time::{Duration, Instant};

use policy::Options;

mod support;

const CLUSTER: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: a, labels: {app: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: job, namespace: a, labels: {app: job}}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: a, labels: {app: api, tier: back}}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
";

const HTTP: &str = "rules: {http: [{path: /x}]}";
const KAFKA: &str = "rules: {kafka: [{topic: t}]}";
const DNS: &str = "rules: {dns: [{matchPattern: \"*\"}]}";
const SNI: &str = "serverNames: [x.example]";
const TLS_ONE: &str = "terminatingTLS: {secret: {namespace: s, name: one}}";
const TLS_TWO: &str = "terminatingTLS: {secret: {namespace: s, name: two}}";

/// A policy in `a` for pods that `subject` selects.
fn policy(name: &str, subject: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: {name}, namespace: a}}\n\
         spec: {{endpointSelector: {{{subject}}}, {rules}}}\n"
    )
}

/// A rule from pods of `app` to TCP 80, or to `port`.
fn from(app: &str, port: &str, more: &str) -> String {
    format!(
        "{{fromEndpoints: [{{matchLabels: {{app: {app}}}}}], toPorts: [{{ports: [{{port: \
         \"{port}\", protocol: TCP}}]{more}}}]}}"
    )
}

/// Two policies about `api`, with an ingress rule each.
fn two(one: &str, other: &str) -> String {
    let api = "matchLabels: {app: api}";
    CLUSTER.to_owned()
        + &policy("one", api, &format!("ingress: [{one}]"))
        + &policy("two", api, &format!("ingress: [{other}]"))
}

/// What `check` refuses, without the file.
fn refusals(text: &str) -> Vec<String> {
    let documents = manifest::read("f", text).expect("readable");
    let report = manifest::check(&documents, &Options::default());
    report.outcome.refusals.iter().map(ToString::to_string).collect()
}

/// `check` refuses it for this, and nothing passes from `web` to TCP 80.
#[track_caller]
fn contradicts(text: &str, about: &str) {
    let found = refusals(text);
    assert!(
        found.len() == 1 && found[0].contains(about) && found[0].contains("contradict"),
        "{found:#?}\n{text}"
    );
    support::check(
        text,
        "pod:a/web -> pod:a/api TCP/80 {\"http\":{\"method\":\"GET\",\"path\":\"/x\"}} => denied \
         ingress=unsupported\n\
         pod:a/web -> pod:a/api TCP/80 => denied ingress=unsupported",
    );
}

/// `check` has nothing against it, and connections from `web` to TCP 80 pass.
#[track_caller]
fn merges(text: &str) {
    assert_eq!(refusals(text), Vec::<String>::new(), "{text}");
    support::check(text, "pod:a/web -> pod:a/api TCP/80 => allowed ingress=rule");
}

#[test]
fn different_kinds_of_requests_contradict_each_other() {
    let rule = |more: &str| from("web", "80", &format!(", {more}"));
    contradicts(&two(&rule(HTTP), &rule(KAFKA)), "different kinds of `rules`");
    contradicts(&two(&rule(SNI), &rule(KAFKA)), "different kinds of `rules`");
    // The same kind is joined, TLS alone can become HTTP, and no rules lift them.
    merges(&two(&rule(HTTP), &rule("rules: {http: [{path: /y}]}")));
    merges(&two(&rule(SNI), &rule(HTTP)));
    merges(&two(&rule(SNI), &rule("serverNames: [y.example]")));
    merges(&two(&rule(HTTP), &from("web", "80", "")));
}

#[test]
fn the_last_rule_of_a_contradiction_is_named_with_its_line() {
    let rule = |more: &str| from("web", "80", &format!(", {more}"));
    assert_eq!(
        refusals(&two(&rule(HTTP), &rule(KAFKA))),
        ["f:22:63: spec.ingress[0]: `CiliumNetworkPolicy/a/one#spec.ingress[0]` and \
          `CiliumNetworkPolicy/a/two#spec.ingress[0]` contradict each other: different kinds of \
          `rules` for the same peers and the same ports; nothing passes there (fix: let them ask \
          for the same, or name other peers or ports)"]
    );
}

#[test]
fn a_rule_can_contradict_itself() {
    let ports = |more: &str| format!("{{ports: [{{port: \"80\", protocol: TCP}}], {more}}}");
    let text = CLUSTER.to_owned()
        + &policy(
            "p",
            "",
            &format!(
                "ingress: [{{fromEndpoints: [{{}}], toPorts: [{}, {}]}}]",
                ports(HTTP),
                ports(KAFKA)
            ),
        );
    contradicts(&text, "contradicts itself");
}

#[test]
fn different_secrets_contradict_each_other() {
    let rule = |more: &str| from("web", "80", &format!(", {more}"));
    contradicts(&two(&rule(TLS_ONE), &rule(TLS_TWO)), "different `terminatingTLS`");
    let originating = |name: &str| format!("originatingTLS: {{secret: {{name: {name}}}}}");
    contradicts(
        &two(&rule(&originating("one")), &rule(&originating("two"))),
        "different `originatingTLS`",
    );
    let other_entry = "terminatingTLS: {secret: {namespace: s, name: one}, certificate: other.crt}";
    contradicts(&two(&rule(TLS_ONE), &rule(other_entry)), "different `terminatingTLS`");
    // The same secret, also where what is usual is written out; and one that only
    // one of them names.
    let written = "terminatingTLS: {secret: {namespace: s, name: one}, certificate: tls.crt}";
    merges(&two(&rule(TLS_ONE), &rule(written)));
    merges(&two(&rule(TLS_ONE), &rule(SNI)));
}

#[test]
fn listeners_of_one_priority_contradict_each_other() {
    let rule = |name: &str, priority: &str| {
        format!(
            "{{toEndpoints: [{{matchLabels: {{app: api}}}}], toPorts: [{{ports: [{{port: \"80\", \
             protocol: TCP}}], listener: {{envoyConfig: {{kind: CiliumEnvoyConfig, name: c}}, \
             name: {name}{priority}}}}}]}}"
        )
    };
    let two = |one: &str, other: &str| {
        CLUSTER.to_owned()
            + &policy("one", "matchLabels: {app: web}", &format!("egress: [{one}, {other}]"))
    };
    let asked = "pod:a/web -> pod:a/api TCP/80 => ";
    for (one, other) in [("", ""), (", priority: 7", ", priority: 7")] {
        let text = two(&rule("x", one), &rule("z", other));
        assert!(refusals(&text)[0].contains("different listeners of one priority"));
        support::check(&text, &format!("{asked}denied egress=unsupported"));
    }
    for (one, other) in [
        (rule("x", ", priority: 7"), rule("z", ", priority: 8")),
        (rule("x", ""), rule("z", ", priority: 7")),
        (rule("x", ""), rule("x", "")),
    ] {
        let text = two(&one, &other);
        assert_eq!(refusals(&text), Vec::<String>::new());
        support::check(&text, &format!("{asked}allowed egress=rule"));
    }
}

#[test]
fn different_modes_of_authentication_contradict_each_other() {
    let rule = |mode: &str| {
        let rule = from("web", "80", "");
        rule[..rule.len() - 1].to_owned() + &format!(", authentication: {{mode: {mode}}}}}")
    };
    contradicts(&two(&rule("required"), &rule("disabled")), "different modes of `authentication`");
    merges(&two(&rule("required"), &rule("required")));
    merges(&two(&rule("required"), &from("web", "80", "")));
}

/// Other peers, ports, subjects, directions: nothing is shared, so nothing is
/// contradicted. What is shared only in part is denied only there.
#[test]
fn only_what_is_shared_is_denied() {
    let rule = |app: &str, port: &str, more: &str| from(app, port, &format!(", {more}"));
    // Another port, and another peer.
    let text = two(&rule("web", "80", HTTP), &rule("web", "81", KAFKA));
    assert_eq!(refusals(&text), Vec::<String>::new());
    let text = two(&rule("web", "80", HTTP), &rule("job", "80", KAFKA));
    assert_eq!(refusals(&text), Vec::<String>::new());
    support::check(
        &text,
        "pod:a/web -> pod:a/api TCP/80 => allowed\npod:a/job -> pod:a/api TCP/80 => allowed",
    );
    // A selector that is written differently is another, even where both match:
    // either rule may let a request through then.
    let all = "{fromEndpoints: [{}], toPorts: [{ports: [{port: \"80\", protocol: TCP}], rules: \
               {kafka: [{topic: t}]}}]}";
    merges(&two(&rule("web", "80", HTTP), all));
    // One of two peers and one of two ports are shared.
    let wide = "{fromEndpoints: [{matchLabels: {app: web}}, {matchLabels: {app: job}}], toPorts: \
                [{ports: [{port: \"80\", protocol: TCP}, {port: \"81\", protocol: TCP}], rules: \
                {kafka: [{topic: t}]}}]}";
    let text = two(&rule("web", "80", HTTP), wide);
    assert_eq!(refusals(&text).len(), 1);
    support::check(
        &text,
        "pod:a/web -> pod:a/api TCP/80 => denied ingress=unsupported
         pod:a/web -> pod:a/api TCP/81 => allowed ingress=rule
         pod:a/job -> pod:a/api TCP/80 => allowed ingress=rule
         pod:a/job -> pod:a/api TCP/82 => denied ingress=default-deny",
    );
}

#[test]
fn subjects_must_meet() {
    let rule = |more: &str| from("web", "80", &format!(", {more}"));
    let about = |one: &str, other: &str| {
        policy("one", one, &format!("ingress: [{}]", rule(HTTP)))
            + &policy("two", other, &format!("ingress: [{}]", rule(KAFKA)))
    };
    let (api, job) = ("matchLabels: {app: api}", "matchLabels: {app: job}");
    let back = "matchLabels: {tier: back}";
    assert_eq!(refusals(&(CLUSTER.to_owned() + &about(api, job))), Vec::<String>::new());
    // Without pods one selector must cover the other; with pods, one must have both.
    assert_eq!(refusals(&about("", api)).len(), 1);
    assert_eq!(refusals(&about(api, back)), Vec::<String>::new());
    contradicts(&(CLUSTER.to_owned() + &about(api, back)), "different kinds of `rules`");
}

/// Nothing lifts a contradiction but an order that comes before it.
#[test]
fn a_broader_rule_does_not_lift_a_contradiction() {
    let rule = |more: &str| from("web", "80", &format!(", {more}"));
    let text = two(&rule(HTTP), &rule(KAFKA))
        + &policy("open", "matchLabels: {app: api}", "ingress: [{fromEntities: [all]}]");
    contradicts(&text, "different kinds of `rules`");
    support::check(
        &text,
        "pod:a/web -> pod:a/api TCP/81 => allowed ingress=rule
         pod:a/job -> pod:a/api TCP/80 => allowed ingress=rule",
    );
    let text = two(&rule(HTTP), &rule(KAFKA))
        + &policy("closed", "matchLabels: {app: api}", "ingressDeny: [{fromEntities: [all]}]");
    support::check(&text, "pod:a/web -> pod:a/api TCP/80 => denied ingress=deny-rule");
}

#[test]
fn queries_and_requests_contradict_each_other() {
    let rule = |protocol: &str, more: &str| {
        format!(
            "{{toEndpoints: [{{matchLabels: {{app: api}}}}], toPorts: [{{ports: [{{port: \"53\", \
             protocol: {protocol}}}], {more}}}]}}"
        )
    };
    let text = CLUSTER.to_owned()
        + &policy(
            "p",
            "matchLabels: {app: web}",
            &format!("egress: [{}, {}]", rule("ANY", DNS), rule("TCP", HTTP)),
        );
    assert_eq!(refusals(&text).len(), 1);
    // Only TCP is shared.
    support::check(
        &text,
        "pod:a/web -> pod:a/api TCP/53 => denied egress=unsupported
         pod:a/web -> pod:a/api UDP/53 {\"dns\":{\"name\":\"x.example\"}} => allowed egress=rule",
    );
}

/// `pod:a/web` to TCP `port` of `api`, whose ingress has these rules; both ends
/// are pods, so that demanded proof is there over TCP and `required` passes; what
/// always fails shows which mode counts.
#[track_caller]
fn proof(rules: &[(&str, &str)], port: u16, fails: bool) {
    let rules: Vec<String> = rules
        .iter()
        .map(|(rule, mode)| match *mode {
            "" => format!("{{{rule}}}"),
            mode => format!("{{{rule}, authentication: {{mode: {mode}}}}}"),
        })
        .collect();
    let text = CLUSTER.to_owned()
        + &policy("p", "matchLabels: {app: api}", &format!("ingress: [{}]", rules.join(", ")));
    let want = if fails { "denied ingress=auth-required" } else { "allowed ingress=rule" };
    support::check(&text, &format!("pod:a/web -> pod:a/api TCP/{port} => {want}"));
}

/// The entry that decides says which proof is demanded: the narrower ports, then
/// the peer that is named. If it says nothing, the strictest of the others does.
#[test]
fn the_narrowest_rule_says_which_proof_is_demanded() {
    let web = "fromEndpoints: [{matchLabels: {app: web}}]";
    let all = "fromEndpoints: [{}]";
    let ports = |peer: &str, ports: &str| {
        let peer = if peer.is_empty() { String::new() } else { format!("{peer}, ") };
        format!("{peer}toPorts: [{{ports: [{{{ports}, protocol: TCP}}]}}]")
    };
    let (p80, fails, off) = ("port: \"80\"", "test-always-fail", "disabled");
    // A port is narrower than none, in both orders.
    proof(&[(web, fails), (&ports(web, p80), off)], 80, false);
    proof(&[(web, off), (&ports(web, p80), fails)], 80, true);
    proof(&[(web, off), (&ports(web, p80), fails)], 81, false);
    // The narrower of two ranges, by the block of ports that holds the packet's:
    // 8080-8083 is one block of four, 8080-8081 one of two.
    let (wide, narrow) =
        (ports(web, "port: \"8080\", endPort: 8083"), ports(web, "port: \"8080\", endPort: 8081"));
    proof(&[(&wide, fails), (&narrow, off)], 8081, false);
    proof(&[(&wide, off), (&narrow, fails)], 8081, true);
    proof(&[(&wide, off), (&narrow, fails)], 8082, false);
    // A named port is the port it stands for.
    proof(&[(&ports(web, "port: http"), off), (&wide, fails), (web, fails)], 80, false);
    // The same ports: the peer that is named, over anybody.
    proof(&[(&ports("", p80), fails), (&ports(web, p80), off)], 80, false);
    proof(&[(&ports("", p80), off), (&ports(web, p80), fails)], 80, true);
    // Two selectors of one rank are one entry: the strictest.
    proof(&[(&ports(all, p80), fails), (&ports(web, p80), off)], 80, true);
    // Said by nobody who decides: the strictest of the others.
    proof(&[(&ports(web, p80), ""), (web, fails), (&ports("", p80), off)], 80, true);
    proof(&[(&ports(web, p80), ""), (web, off)], 80, false);
    proof(&[(&ports(web, p80), ""), (web, "")], 80, false);
}

/// Who is handed connections ranks before who is not, however narrow.
#[test]
fn a_rule_about_requests_ranks_first() {
    let web = "fromEndpoints: [{matchLabels: {app: web}}]";
    let http = "toPorts: [{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{}]}}]";
    let plain = "toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]";
    proof(&[(http, "disabled"), (&format!("{web}, {plain}"), "test-always-fail")], 80, false);
    proof(&[(http, "test-always-fail"), (&format!("{web}, {plain}"), "disabled")], 80, true);
    // For the same peers and ports they are one, with all that either says.
    proof(&[(http, ""), (plain, "test-always-fail")], 80, true);
}

/// Ten thousand rules that all contradict each other, and as many that do not.
#[test]
fn contradictions_are_found_in_bounded_time() {
    let list = |mode: &dyn Fn(usize) -> String| {
        let rules: Vec<String> = (0..10_000).map(mode).collect();
        policy("p", "", &format!("egress: [{}]", rules.join(",\n")))
    };
    let rule = |name: usize, priority: usize| {
        format!(
            "{{toEndpoints: [{{}}], toPorts: [{{ports: [{{port: \"80\"}}], listener: \
             {{envoyConfig: {{kind: CiliumEnvoyConfig, name: c}}, name: l{name}, priority: \
             {priority}}}}}]}}"
        )
    };
    for (text, want) in
        [(list(&|at| rule(at, 1)), true), (list(&|at| rule(at % 100, at % 100 + 1)), false)]
    {
        let documents = manifest::read("f", &text).expect("readable");
        let policies = manifest::policies(&documents).policies;
        let rules = policies[0].rules.len();
        assert_eq!(rules, 10_000);
        let subject = [model::Label::k8s("io.kubernetes.pod.namespace", "a")].into_iter().collect();
        let begun = Instant::now();
        let found = policy::conflicts(&policies, [&subject]);
        assert_eq!(!found.is_empty(), want);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}
