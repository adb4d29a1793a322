//! Filters written in the Common Expression Language, over `_flow`.
//!
//! An expression is read, checked against the fields that a flow has, and weighed
//! before any flow is looked at: what it may cost is bounded by its text, not by
//! who is asked. One that fails on a flow does not match it.

mod check;
mod message;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use cel::common::types::{CelBool, CelString, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::parser::Parser;
use cel::{Context, Env, ExecutionError, IdedExpr, Value};
use regex::Regex;

use super::FilterError;
use super::application::pattern;
use crate::proto::flow::{Flow, FlowFilter};
use check::Check;
use message::Message;

/// Field of the filter, as errors name it.
const FIELD: &str = "experimental.cel_expression";
/// Longest text of one.
const LENGTH: usize = 4096;
/// Stack on which one is read: the parser goes as deep as the text wants. It is
/// taken from the system only as far as it is used.
const STACK: usize = 256 << 20;
/// Characters of one that an error repeats.
const SHOWN: usize = 120;

/// Most of them in one request.
const NUMBER: usize = 32;

/// Refuses a request with more expressions than one may have.
pub(super) fn few_enough<'a>(
    filters: impl Iterator<Item = &'a FlowFilter>,
) -> Result<(), FilterError> {
    let mut texts = filters
        .flat_map(|filter| &filter.experimental)
        .flat_map(|experimental| &experimental.cel_expression);
    match texts.nth(NUMBER) {
        Some(text) => {
            Err(refused(text, format!("a request may have {NUMBER} expressions, this is one more")))
        }
        None => Ok(()),
    }
}

/// A checked expression.
pub(super) struct Expression {
    expression: IdedExpr,
    context: Context<'static, 'static>,
}

impl Expression {
    /// Reads one, or says what is wrong with it.
    pub(super) fn new(text: &str) -> Result<Self, FilterError> {
        if text.len() > LENGTH {
            return Err(refused(text, format!("it is longer than {LENGTH} bytes")));
        }
        Self::read_apart(text)
            .unwrap_or_else(|| Err("it cannot be read".to_owned()))
            .map_err(|reason| refused(text, reason))
    }

    /// On a thread of its own: the parser is a foreign one, and its input anybody's.
    fn read_apart(text: &str) -> Option<Result<Self, String>> {
        thread::scope(|scope| {
            let reader = thread::Builder::new().name("expression".to_owned()).stack_size(STACK);
            let reading = reader.spawn_scoped(scope, || Self::read(text)).ok()?;
            reading.join().ok()
        })
    }

    fn read(text: &str) -> Result<Self, String> {
        let mut expression = Parser::new().parse(text).map_err(|errors| {
            let first = errors.errors.first();
            first.map_or_else(
                || "it cannot be read".to_owned(),
                |error| format!("at {}:{}: {}", error.pos.0, error.pos.1, error.msg),
            )
        })?;
        let found = Check::of(&mut expression)?;
        let mut context = Context::with_env(environment()?);
        for (name, text) in found.patterns {
            let pattern = pattern(&text)
                .ok_or_else(|| format!("`{text}` is no regular expression, or too large a one"))?;
            context.add_variable_as_val(name, Box::new(Pattern(pattern)));
        }
        let this = Self { expression, context };
        match this.evaluate(&Flow::default()) {
            Ok(Some(_)) => Ok(this),
            Ok(None) => Err("it is no condition: it gives something else than a bool".to_owned()),
            Err(ExecutionError::NoSuchOverload(error)) if !found.is_dynamic => Err(format!(
                "`{}` is not for {}",
                check::spelled(error.function()),
                error.argument_types().join(" and ")
            )),
            // What is not there in an empty flow may be in others.
            Err(_) => Ok(this),
        }
    }

    /// Whether a flow fulfils it.
    pub(super) fn matches(&self, flow: &Flow) -> bool {
        let result = catch_unwind(AssertUnwindSafe(|| self.evaluate(flow)));
        matches!(result, Ok(Ok(Some(true))))
    }

    /// `None`: it gives no bool.
    fn evaluate(&self, flow: &Flow) -> Result<Option<bool>, ExecutionError> {
        let Some(message) = Message::of(flow) else { return Ok(Some(false)) };
        let mut context = self.context.new_inner_scope();
        context.add_variable_as_val(check::FLOW, Box::new(message));
        let value = Value::resolve_val(&self.expression, &context)?;
        Ok(value.downcast_ref::<CelBool>().map(|value| *value.inner()))
    }
}

fn refused(text: &str, reason: String) -> FilterError {
    let mut expression: String = text.chars().take(SHOWN).collect();
    if expression.len() < text.len() {
        expression.push('…');
    }
    FilterError::Expression { field: FIELD, expression, reason }
}

/// The standard functions, and `matches` with a pattern that was read before.
fn environment() -> Result<Arc<Env>, String> {
    let mut env = Env::stdlib();
    let failed = |error: cel::DeclarationError| error.to_string();
    env.add_member_overload(
        "matches",
        "string_matches_pattern",
        STRING_TYPE,
        vec![PATTERN.to_owned()],
        matches_pattern,
    )
    .map_err(failed)?;
    Ok(Arc::new(env))
}

fn matches_pattern<'b, 'v>(
    arguments: Vec<CowVal<'b, 'v>>,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let missing = || ExecutionError::invalid_argument_count(2, arguments.len());
    let text = arguments.first().and_then(|value| value.downcast_ref::<CelString>());
    let pattern = arguments.get(1).and_then(|value| value.downcast_ref::<Pattern>());
    let (text, pattern) = text.zip(pattern).ok_or_else(missing)?;
    Ok(CowVal::owned(CelBool::from(pattern.0.is_match(text.inner()))))
}

static PATTERN: Type = Type::new_unspecified_type("pattern");

/// A regular expression that was read when the request came.
#[derive(Clone, Debug)]
struct Pattern(Regex);

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &PATTERN
    }

    fn cel_type() -> &'static Type {
        &PATTERN
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}
