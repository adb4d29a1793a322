//! What came out of a probe, and how that differs from what was expected.
//!
//! Pure. The verdict is what really happened (the client's success and the
//! packets seen at the destination); what the datapath reported is compared with
//! it, never believed.

use policy::question::Answer as Meant;
use serde_json::{Map, Value, json};

use crate::probe::client::Outcome;
use crate::probe::file::{Client, Expected, ExpectedSide};
use crate::probe::flows::{Decision, Decisions, Wanted};
use crate::probe::meaning;

/// What really happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The client got through, and the destination saw it.
    Allowed,
    /// The client did not get through, and the destination saw nothing.
    Denied,
    /// Nobody can say, and why.
    Error(String),
}

impl Verdict {
    /// As it is written in answers.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Error(_) => "error",
        }
    }
}

/// Everything that was found out about one probe.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Findings {
    /// Who tried.
    pub client: Client,
    /// How that went.
    pub outcome: Outcome,
    /// Packets that the destination saw.
    pub arrived: u64,
    /// What the datapath reported.
    pub decisions: Decisions,
    /// Why there is no report, when nobody could be asked for one.
    pub unreported: Option<String>,
    /// Which ends had to report.
    pub wanted: Wanted,
}

impl Findings {
    /// What really happened.
    pub fn verdict(&self) -> Verdict {
        let client = format!("{} ({})", self.client.program(), self.outcome.detail);
        match (self.outcome.success, self.arrived > 0) {
            (true, true) => Verdict::Allowed,
            (false, false) => Verdict::Denied,
            (true, false) => Verdict::Error(format!(
                "the client got through, {client}, but the destination saw no packet"
            )),
            (false, true) => Verdict::Error(format!(
                "the destination saw {} packets, but the client failed: {client}",
                self.arrived
            )),
        }
    }

    /// Where the datapath's report does not fit what really happened.
    fn contradictions(&self) -> Vec<String> {
        if let Some(reason) = &self.unreported {
            return vec![reason.clone()];
        }
        let mut found = Vec::new();
        let Decisions { egress, ingress } = &self.decisions;
        let denied = [egress, ingress].into_iter().flatten().any(|decision| !decision.allowed);
        match self.verdict() {
            Verdict::Allowed if denied => {
                found.push("a denial is reported, but it got through".into())
            }
            Verdict::Denied if !denied && (self.wanted.egress || self.wanted.ingress) => {
                found.push("it did not get through, but no denial is reported".into());
            }
            _ => {}
        }
        let stopped = egress.as_ref().is_some_and(|decision| !decision.allowed);
        if self.wanted.egress && egress.is_none() {
            found.push("the source's node reported no flow".into());
        }
        if self.wanted.ingress && ingress.is_none() && !stopped {
            found.push("the destination's node reported no flow".into());
        }
        // Who sends on a node itself is not always known.
        if let Some(decision) = egress.as_ref().filter(|_| self.wanted.program) {
            found.extend(wrong_program("egress", decision, self.client));
        }
        if let Some(decision) = ingress.as_ref().filter(|_| self.wanted.same_node) {
            found.extend(wrong_program("ingress", decision, self.client));
        }
        found
    }
}

/// The flow must name the program that really sent: `nc` may be `nc.openbsd`.
fn wrong_program(side: &str, decision: &Decision, client: Client) -> Option<String> {
    let wanted = client.program();
    match &decision.sender {
        Ok(path) => {
            let name = path.rsplit('/').next().unwrap_or(path);
            let wrong = !name.starts_with(wanted);
            wrong.then(|| format!("{side} process: `{path}`, not `{wanted}`"))
        }
        Err(why) => Some(format!("{side} process: not known ({why}), not `{wanted}`")),
    }
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The probe as written.
    pub object: Map<String, Value>,
    /// What was expected; `None`: nothing.
    pub expected: Option<Expected>,
    /// What was found; or why nothing could be.
    pub found: Result<Findings, String>,
    /// What manifests mean, if they are asked; or why they say nothing.
    pub meant: Option<Result<Meant, String>>,
}

impl Answer {
    /// What really happened.
    pub fn verdict(&self) -> Verdict {
        match &self.found {
            Ok(findings) => findings.verdict(),
            Err(reason) => Verdict::Error(reason.clone()),
        }
    }

    /// Every difference from what was expected; none: as expected.
    pub fn differences(&self) -> Vec<String> {
        let verdict = self.verdict();
        let mut differences = Vec::new();
        if let Verdict::Error(reason) = &verdict {
            differences.push(reason.clone());
        }
        let Ok(findings) = &self.found else { return differences };
        differences.extend(findings.contradictions());
        match &self.meant {
            None => {}
            Some(Err(why)) => differences.push(format!("manifests say nothing: {why}")),
            Some(Ok(meant)) => differences.extend(meaning::differences(
                verdict.as_str(),
                &findings.decisions,
                meant,
            )),
        }
        let Some(expected) = &self.expected else { return differences };
        if verdict.as_str() != expected.verdict {
            differences.push(format!("verdict: {}, not {}", verdict.as_str(), expected.verdict));
        }
        if findings.unreported.is_some() {
            return differences;
        }
        let Decisions { egress, ingress } = &findings.decisions;
        let whole = ExpectedSide {
            verdict: None,
            reason: expected.reason.clone(),
            rule: expected.rule.clone(),
            because: expected.because.clone(),
        };
        differences.extend(compare_deciding(&whole, &findings.decisions));
        for (side, decision, expected) in
            [("egress", egress, &expected.egress), ("ingress", ingress, &expected.ingress)]
        {
            if let Some(expected) = expected {
                differences.extend(compare_side(side, expected, decision.as_ref()));
            }
        }
        differences
    }

    /// The answer as DESIGN section 5 has it.
    pub fn json(&self) -> Value {
        let mut object = self.object.clone();
        let verdict = self.verdict();
        object.insert("verdict".into(), json!(verdict.as_str()));
        let findings = self.found.as_ref().ok();
        let decisions = findings.map(|findings| &findings.decisions);
        let side = |decision: Option<&Option<Decision>>| {
            decision.and_then(Option::as_ref).map_or(Value::Null, side_json)
        };
        object.insert("egress".into(), side(decisions.map(|it| &it.egress)));
        object.insert("ingress".into(), side(decisions.map(|it| &it.ingress)));
        if let Some(findings) = findings {
            object.insert("arrived".into(), json!(findings.arrived));
            object.insert("clientDetail".into(), json!(findings.outcome.detail));
        }
        let differences = self.differences();
        object.insert("asExpected".into(), json!(differences.is_empty()));
        if !differences.is_empty() {
            object.insert("differences".into(), json!(differences));
        }
        Value::Object(object)
    }
}

fn side_json(decision: &Decision) -> Value {
    let mut object = json!({
        "verdict": if decision.allowed { "allowed" } else { "denied" },
        "reason": decision.reason,
        "rule": decision.rules.first(),
        "rules": decision.rules,
        "because": decision.because,
        "process": match &decision.program {
            Ok(path) => json!({"binary": path}),
            Err(why) => json!({"unknown": why}),
        },
    });
    if !decision.allowed {
        object["code"] = json!(decision.code);
    }
    object
}

/// For a denial the end that denied must agree; else one of the judged ends.
fn compare_deciding(expected: &ExpectedSide, decisions: &Decisions) -> Vec<String> {
    let both: Vec<_> = [("egress", &decisions.egress), ("ingress", &decisions.ingress)]
        .into_iter()
        .filter_map(|(side, decision)| decision.as_ref().map(|decision| (side, decision)))
        .collect();
    if let Some((side, decision)) = both.iter().find(|(_, decision)| !decision.allowed) {
        return compare_side(side, expected, Some(decision));
    }
    let mut answers: Vec<_> = both
        .iter()
        .rev()
        .map(|(side, decision)| compare_side(side, expected, Some(decision)))
        .collect();
    match answers.iter().position(Vec::is_empty) {
        Some(_) => Vec::new(),
        // The destination's word comes last and is the one to show.
        None if answers.is_empty() => compare_side("decision", expected, None),
        None => answers.swap_remove(0),
    }
}

fn compare_side(side: &str, expected: &ExpectedSide, found: Option<&Decision>) -> Vec<String> {
    let ExpectedSide { verdict, reason, rule, because } = expected;
    let Some(found) = found else {
        let nothing = *expected == ExpectedSide::default();
        return if nothing { vec![] } else { vec![format!("{side}: not judged")] };
    };
    let mut differences = Vec::new();
    let mut differ = |what: &str, found: &str, wanted: &str| {
        differences.push(format!("{side} {what}: {found}, not {wanted}"));
    };
    let verdict_found = if found.allowed { "allowed" } else { "denied" };
    if let Some(verdict) = verdict.as_ref().filter(|it| *it != verdict_found) {
        differ("verdict", verdict_found, verdict);
    }
    if let Some(reason) = reason.as_ref().filter(|it| **it != found.reason) {
        differ("reason", &found.reason, reason);
    }
    if let Some(rule) = rule.as_ref().filter(|it| !found.rules.contains(it)) {
        differ("rule", &listed(&found.rules), rule);
    }
    if let Some(because) = because {
        let mut wanted = because.clone();
        wanted.sort();
        if wanted != found.because {
            differ("because", &listed(&found.because), &listed(&wanted));
        }
    }
    differences
}

fn listed(items: &[String]) -> String {
    if items.is_empty() { "none".into() } else { items.join(", ") }
}

#[cfg(test)]
mod tests;
