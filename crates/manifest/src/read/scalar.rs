//! Plain scalars, as the YAML 1.1 reader of Kubernetes' tools takes them.
//!
//! Not YAML 1.2: `yes` is a boolean, `010` is eight, and so is what the API
//! server gets to see.

use crate::document::Value;

/// What an unquoted text stands for.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let digits = text.replace('_', "");
    match text.as_bytes().first() {
        Some(b'0'..=b'9' | b'+' | b'-') => integer(&digits).or_else(|| float(&digits)),
        Some(b'.') => float(text),
        _ => None,
    }
    .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A whole number with the prefixes of Go: `0x`, `0b`, `0o`, and `0` for octal.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, lower.get(2..)?),
        [b'0', b'b', ..] => (2, lower.get(2..)?),
        [b'0', b'o', ..] => (8, lower.get(2..)?),
        [b'0', _, ..] => (8, lower.get(1..)?),
        _ => (10, lower.as_str()),
    };
    // A second sign would be taken by the standard library.
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -value } else { value };
    match i64::try_from(value) {
        Ok(value) => Some(Value::Int(value)),
        // Beyond 64 bits it is a text, up to there a number without a sign.
        Err(_) if u64::try_from(value).is_ok() => Some(Value::Float(value as f64)),
        Err(_) => None,
    }
}

/// A decimal number. A whole one is the same as an integer once it is JSON.
fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mantissa = unsigned.split(['e', 'E']).next()?;
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let shaped = mantissa.bytes().any(is_digit)
        && mantissa.bytes().all(|byte| is_digit(byte) || byte == b'.')
        && unsigned.bytes().all(|byte| is_digit(byte) || b".eE+-".contains(&byte));
    let value: f64 = text.parse().ok().filter(|_| shaped)?;
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Some(Value::Int(value as i64));
    }
    Some(Value::Float(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Value) {
        assert_eq!(resolve(text), want, "{text}");
    }

    fn string(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    #[test]
    fn words_of_yaml_1_1_are_booleans_and_null() {
        for text in ["y", "Yes", "on", "TRUE", "true"] {
            check(text, Value::Bool(true));
        }
        for text in ["n", "No", "off", "FALSE"] {
            check(text, Value::Bool(false));
        }
        for text in ["", "~", "null", "NULL"] {
            check(text, Value::Null);
        }
        check("yEs", string("yEs"));
        check("nUll", string("nUll"));
    }

    #[test]
    fn integers_have_the_prefixes_of_go() {
        check("8080", Value::Int(8080));
        check("-1", Value::Int(-1));
        check("+7", Value::Int(7));
        check("010", Value::Int(8));
        check("0o10", Value::Int(8));
        check("0x1F", Value::Int(31));
        check("0b101", Value::Int(5));
        check("1_000", Value::Int(1000));
        check("0", Value::Int(0));
        check("9223372036854775808", Value::Float(9_223_372_036_854_775_808.0));
    }

    #[test]
    fn whole_floats_are_integers() {
        check("8080.0", Value::Int(8080));
        check("1e3", Value::Int(1000));
        check("1.5", Value::Float(1.5));
        check(".5", Value::Float(0.5));
        check("08", Value::Int(8));
        check("-.inf", Value::Float(f64::NEG_INFINITY));
    }

    #[test]
    fn everything_else_is_text() {
        for text in [
            "10.0.0.1",
            "10.0.0.0/8",
            "http",
            "2024-01-01",
            "1-2",
            "0x",
            "--1",
            "+-1",
            "-",
            ".",
            "e5",
            "1e",
            "infinity",
            "nan",
            "+inf",
        ] {
            check(text, string(text));
        }
    }
}
