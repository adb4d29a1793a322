//! All answers: a table of expected against observed, or one object a line.

use std::collections::BTreeMap;

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

    /// For people, where there are many: how many of each cell are as expected,
    /// by transport and family.
    pub fn cells(&self) -> String {
        let mut columns: Vec<String> = Vec::new();
        let mut counts: Vec<(String, BTreeMap<String, Count>)> = Vec::new();
        for answer in &self.answers {
            let (cell, column) = (field(answer, "cell"), column(answer));
            if !columns.contains(&column) {
                columns.push(column.clone());
            }
            let at = counts.iter().position(|(known, _)| *known == cell);
            let at = at.unwrap_or_else(|| {
                counts.push((cell, BTreeMap::new()));
                counts.len() - 1
            });
            if let Some((_, row)) = counts.get_mut(at) {
                let count = row.entry(column).or_default();
                count.all += 1;
                count.good += usize::from(answer.differences().is_empty());
            }
        }
        columns.sort();
        let mut text = rows(&columns, &counts);
        text.push_str(&self.summary());
        text.push('\n');
        text
    }

    /// For programs: one object a line.
    pub fn jsonl(&self) -> String {
        self.answers.iter().map(|answer| format!("{}\n", answer.json())).collect()
    }
}

/// Probes, and those of them that went as expected.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    good: usize,
    all: usize,
}

impl Count {
    fn text(self) -> String {
        let Self { good, all } = self;
        if good == all { good.to_string() } else { format!("{good} of {all}") }
    }
}

/// What a probe sends: `TCP v4`.
fn column(answer: &Answer) -> String {
    let protocol = match field(answer, "protocol").as_str() {
        "" => "TCP".to_owned(),
        "ICMPv6" => "ICMP".to_owned(),
        other => other.to_owned(),
    };
    let v6 = field(answer, "protocol") == "ICMPv6" || field(answer, "family") == "6";
    format!("{protocol} v{}", if v6 { 6 } else { 4 })
}

fn rows(columns: &[String], counts: &[(String, BTreeMap<String, Count>)]) -> String {
    let header: Vec<_> = ["", "CELL"].map(str::to_owned).into_iter().collect();
    let mut rows = vec![[header, columns.to_vec()].concat()];
    for (cell, row) in counts {
        let good = row.values().all(|count| count.good == count.all);
        let mark = if good { "ok" } else { "NO" }.to_owned();
        let cell = if cell.is_empty() { "-".to_owned() } else { cell.clone() };
        let counts = columns.iter().map(|column| match row.get(column) {
            Some(count) => count.text(),
            None => "-".to_owned(),
        });
        rows.push([mark, cell].into_iter().chain(counts).collect());
    }
    let mut text = String::new();
    aligned(&mut text, &rows);
    text
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
