//! The JSON form of answers, and how they differ from what was expected.

use serde_json::{Map, Value, json};

use crate::question::answer::{Answer, SideAnswer, Verdict};

impl Answer {
    /// The JSON form, added to what was asked.
    pub fn to_json(&self, probe: &Map<String, Value>) -> Value {
        let mut object = probe.clone();
        let refused = matches!(self.inside, Some((Verdict::Denied, _)));
        let mut own = match self.deciding() {
            Some(side) => side_json(side),
            None => json!({"reason": null, "rule": null, "rules": [], "because": []}),
        };
        if refused {
            own = json!({"reason": "l7", "code": null, "rule": null, "rules": [], "because": []});
        }
        if let Value::Object(fields) = own {
            object.extend(fields);
        }
        object.insert("verdict".to_owned(), self.verdict.as_str().into());
        object.insert("egress".to_owned(), self.egress.as_ref().map_or(Value::Null, side_json));
        object.insert("ingress".to_owned(), self.ingress.as_ref().map_or(Value::Null, side_json));
        let inside = self.inside.as_ref().map_or(Value::Null, |(verdict, rule)| {
            json!({"verdict": verdict.as_str(), "rule": rule.as_ref().map(ToString::to_string)})
        });
        object.insert("l7".to_owned(), inside);
        Value::Object(object)
    }
}

fn side_json(side: &SideAnswer) -> Value {
    let rules: Vec<String> = side.rules.iter().map(ToString::to_string).collect();
    let because: Vec<String> = side.because.iter().map(ToString::to_string).collect();
    json!({
        "verdict": side.verdict.as_str(),
        "reason": side.reason,
        "code": side.code,
        "rule": rules.first(),
        "rules": rules,
        "because": because,
        "shadow": null,
    })
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
