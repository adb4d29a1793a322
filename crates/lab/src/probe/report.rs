//! All answers: a table of expected against observed, or one object a line.

use crate::probe::answer::Answer;
use crate::probe::file::ExpectedSide;
use crate::probe::flows::Decision;
use crate::status::aligned;

/// The answers, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    answers: Vec<Answer>,
}

impl Report {
    /// Of these answers.
    pub fn new(answers: Vec<Answer>) -> Self {
        Self { answers }
    }

    /// The answers.
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// Whether nothing differs anywhere.
    pub fn is_as_expected(&self) -> bool {
        self.answers.iter().all(|answer| answer.differences().is_empty())
    }

    /// `N of M as expected`, and every difference before it.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let mut good = 0;
        for answer in &self.answers {
            let differences = answer.differences();
            good += usize::from(differences.is_empty());
            for difference in differences {
                text.push_str(&format!("{}: {difference}\n", field(answer, "id")));
            }
        }
        text.push_str(&format!("{good} of {} as expected", self.answers.len()));
        text
    }

    /// Nothing but numbers: what happened, and whether that was expected.
    pub fn counts(&self) -> String {
        let number = |verdict: &str| {
            self.answers.iter().filter(|answer| answer.verdict().as_str() == verdict).count()
        };
        let good = self.answers.iter().filter(|answer| answer.differences().is_empty()).count();
        let unclear = match number("error") {
            0 => String::new(),
            some => format!(", {some} unclear"),
        };
        format!(
            "{} attempts: {} allowed, {} denied{unclear}; {good} of {} as expected\n",
            self.answers.len(),
            number("allowed"),
            number("denied"),
            self.answers.len()
        )
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut rows = vec![["", "PROBE", "FROM", "TO", "EXPECTED", "OBSERVED"].map(str::to_owned)];
        rows.extend(self.answers.iter().map(row));
        let mut text = String::new();
        aligned(&mut text, &rows);
        text.push_str(&self.summary());
        text.push('\n');
        text
    }

    /// For programs: one object a line.
    pub fn jsonl(&self) -> String {
        self.answers.iter().map(|answer| format!("{}\n", answer.json())).collect()
    }
}

fn row(answer: &Answer) -> [String; 6] {
    let mark = if answer.differences().is_empty() { "ok" } else { "NO" };
    let expected = answer.expected.as_ref().map_or_else(String::new, |expected| {
        let of = |side: &Option<ExpectedSide>| side.as_ref().and_then(|side| side.reason.clone());
        let reason = expected.reason.clone();
        let reason = reason.or_else(|| of(&expected.ingress)).or_else(|| of(&expected.egress));
        words(&expected.verdict, reason.as_deref())
    });
    let deciding = answer.found.as_ref().ok().and_then(|findings| {
        let both = [&findings.decisions.egress, &findings.decisions.ingress];
        let mut both = both.into_iter().flatten();
        let denied = both.clone().find(|decision| !decision.allowed);
        denied.or_else(|| both.next_back())
    });
    [
        mark.to_owned(),
        field(answer, "id"),
        bare(&field(answer, "from")),
        destination(answer),
        expected,
        observed(answer, deciding),
    ]
}

fn observed(answer: &Answer, deciding: Option<&Decision>) -> String {
    let mut text = words(answer.verdict().as_str(), deciding.map(|it| it.reason.as_str()));
    if let Some(rule) = deciding.and_then(|decision| decision.rules.first()) {
        text.push_str(&format!(" {}", rule.split_once('/').map_or(rule.as_str(), |(_, it)| it)));
    }
    text
}

fn words(verdict: &str, reason: Option<&str>) -> String {
    reason.map_or_else(|| verdict.to_owned(), |reason| format!("{verdict} ({reason})"))
}

fn destination(answer: &Answer) -> String {
    let what = match (field(answer, "port"), field(answer, "protocol")) {
        (port, _) if !port.is_empty() => format!(":{port}"),
        (_, protocol) => format!(" {protocol}"),
    };
    let family = if field(answer, "family") == "6" { " v6" } else { "" };
    format!("{}{what}{family}", bare(&field(answer, "to")))
}

/// An end without its kind where the name says enough.
fn bare(end: &str) -> String {
    end.strip_prefix("pod:").or(end.strip_prefix("entity:")).unwrap_or(end).to_owned()
}

fn field(answer: &Answer, key: &str) -> String {
    match answer.object.get(key) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}
