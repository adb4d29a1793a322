//! The JSON form of answers, and how they differ from what was expected.

use serde_json::{Map, Value, json};

use crate::question::answer::{Answer, SideAnswer, Verdict};
use crate::question::probe::ProbeError;

impl Answer {
    /// The JSON form, added to what was asked.
    pub fn to_json(&self, probe: &Map<String, Value>) -> Value {
        self.beside(probe, None)
    }

    /// The JSON form with what a candidate would answer, at each end and as a
    /// whole, under `shadow`.
    pub fn beside(
        &self,
        probe: &Map<String, Value>,
        shadow: Option<&Result<Self, ProbeError>>,
    ) -> Value {
        let mut object = probe.clone();
        object.extend(self.summary());
        let candidate = shadow.and_then(|shadow| shadow.as_ref().ok());
        for (name, end, shadow) in [
            ("egress", &self.egress, candidate.and_then(|shadow| shadow.egress.as_ref())),
            ("ingress", &self.ingress, candidate.and_then(|shadow| shadow.ingress.as_ref())),
        ] {
            let end = end.as_ref().map(|end| {
                let mut end = side(end);
                end.insert("shadow".to_owned(), shadow.map(side).into());
                end
            });
            object.insert(name.to_owned(), end.into());
        }
        let shadow = shadow.map(|shadow| match shadow {
            Ok(shadow) => shadow.summary(),
            Err(error) => map(json!({"verdict": "error", "reason": error.to_string()})),
        });
        object.insert("shadow".to_owned(), shadow.into());
        Value::Object(object)
    }

    /// The verdict, with what the end says that decides, or that requests are
    /// refused.
    fn summary(&self) -> Map<String, Value> {
        let refused = matches!(self.inside, Some((Verdict::Denied, _)));
        let nothing = json!({"reason": null, "rule": null, "rules": [], "because": []});
        let mut summary = match self.deciding() {
            _ if refused => map(json!({
                "reason": "l7", "code": null, "rule": null, "rules": [], "because": []
            })),
            Some(end) => side(end),
            None => map(nothing),
        };
        summary.insert("verdict".to_owned(), self.verdict.as_str().into());
        let inside = self.inside.as_ref().map_or(Value::Null, |(verdict, rule)| {
            json!({"verdict": verdict.as_str(), "rule": rule.as_ref().map(ToString::to_string)})
        });
        summary.insert("l7".to_owned(), inside);
        summary
    }
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn side(side: &SideAnswer) -> Map<String, Value> {
    let rules: Vec<String> = side.rules.iter().map(ToString::to_string).collect();
    let because: Vec<String> = side.because.iter().map(ToString::to_string).collect();
    map(json!({
        "verdict": side.verdict.as_str(),
        "reason": side.reason,
        "code": side.code,
        "rule": rules.first(),
        "rules": rules,
        "because": because,
    }))
}

/// Where an answer is not what was expected, in words; nothing if all is.
///
/// `rule` and `reason` at the top may be those of either end; below, an object
/// needs only hold what is expected of it.
pub fn differences(expect: &Value, answer: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let Some(expected) = expect.as_object() else { return vec!["`expect` is no object".into()] };
    for (key, wanted) in expected {
        let ends = ["egress", "ingress"].map(|end| answer.pointer(&format!("/{end}/{key}")));
        let either = matches!(key.as_str(), "rule" | "reason" | "because" | "rules")
            && ends.into_iter().flatten().any(|got| got == wanted);
        if !either {
            compare(key, wanted, answer.get(key), &mut found);
        }
    }
    found
}

fn compare(path: &str, wanted: &Value, got: Option<&Value>, found: &mut Vec<String>) {
    match (wanted, got) {
        (Value::Object(wanted), Some(got @ Value::Object(_))) => {
            for (key, wanted) in wanted {
                compare(&format!("{path}.{key}"), wanted, got.get(key), found);
            }
        }
        (wanted, Some(got)) if wanted == got => {}
        (Value::Null, None) => {}
        (wanted, got) => {
            let got = got.unwrap_or(&Value::Null);
            found.push(format!("{path}: expected {wanted}, got {got}"));
        }
    }
}
