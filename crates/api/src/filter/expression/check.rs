//! What can be said of an expression before it meets a flow: that its names are
//! there, that it compares like with like, and what it may cost.
//!
//! Rewrites it on the way: enum names become numbers, `has()` asks for presence, a
//! pattern becomes a variable that holds it ready. Each part keeps its place.

use std::collections::BTreeMap;

use cel::IdedExpr;
use cel::common::ast::operators as operator;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr};
use cel::common::types::CelInt;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use super::message::is_wrapper;
use crate::json;
use crate::proto::flow::Flow;

/// The one variable.
pub(super) const FLOW: &str = "_flow";
/// Before the name of a field: the question whether it is set.
pub(super) const PRESENCE: char = '?';
/// The package of flows, whose names need no prefix.
const PACKAGE: &str = "flow";

/// Most steps of one expression, a loop's counted as of [`LOOP`] turns. One takes
/// less than a microsecond.
const STEPS: usize = 2000;
const LOOP: usize = 16;
/// How deep its parts may lie in each other.
const DEPTH: usize = 64;

/// Functions of the standard library; all take time that grows with their
/// arguments' lengths at most.
const FUNCTIONS: [&str; 14] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
    operator::NOT_STRICTLY_FALSE,
];
const OPERATORS: [&str; 17] = [
    operator::CONDITIONAL,
    operator::LOGICAL_AND,
    operator::LOGICAL_OR,
    operator::LOGICAL_NOT,
    operator::SUBSTRACT,
    operator::ADD,
    operator::MULTIPLY,
    operator::DIVIDE,
    operator::MODULO,
    operator::EQUALS,
    operator::NOT_EQUALS,
    operator::GREATER_EQUALS,
    operator::LESS_EQUALS,
    operator::GREATER,
    operator::LESS,
    operator::NEGATE,
    operator::IN,
];

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
enum Kin {
    Message(MessageDescriptor),
    Messages(MessageDescriptor),
    Enum(EnumDescriptor),
    Package,
    Text,
    Number,
    Bool,
    /// It shows when it is there.
    Unknown,
}

/// What was found besides.
pub(super) struct Found {
    /// Patterns by the variables that stand for them.
    pub(super) patterns: BTreeMap<String, String>,
    /// Whether values occur whose kind depends on the flow.
    pub(super) is_dynamic: bool,
}

/// A walk through an expression.
pub(super) struct Check {
    /// Variables of the loops around, with what they hold.
    bound: Vec<(String, Kin)>,
    steps: usize,
    depth: usize,
    /// Steps that one step here stands for.
    weight: usize,
    found: Found,
}

type Checked = Result<Kin, String>;

impl Check {
    /// Checks the whole.
    pub(super) fn of(expression: &mut IdedExpr) -> Result<Found, String> {
        let found = Found { patterns: BTreeMap::new(), is_dynamic: false };
        let mut check = Self { bound: Vec::new(), steps: 0, depth: 0, weight: 1, found };
        match check.any(expression)? {
            Kin::Bool | Kin::Unknown => Ok(check.found),
            _ => Err("it is no condition: it gives something else than a bool".to_owned()),
        }
    }

    fn any(&mut self, part: &mut IdedExpr) -> Checked {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("its parts lie more than {DEPTH} deep in each other"));
        }
        let kin = self.one(part);
        self.depth -= 1;
        kin
    }

    fn one(&mut self, part: &mut IdedExpr) -> Checked {
        self.steps += self.weight;
        if self.steps > STEPS {
            return Err(format!(
                "it may take more than {STEPS} steps, a loop's counted {LOOP} times"
            ));
        }
        match &mut part.expr {
            Expr::Literal(value) => Ok(literal(value)),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => {
                let (kin, constant) = self.select(select)?;
                if let Some(number) = constant {
                    part.expr = Expr::Literal(LiteralValue::Int(CelInt::from(number)));
                }
                Ok(kin)
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                for element in &mut list.elements {
                    self.any(element)?;
                }
                Ok(Kin::Unknown)
            }
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    let EntryExpr::MapEntry(entry) = &mut entry.expr else {
                        return Err("it makes a message".to_owned());
                    };
                    self.any(&mut entry.key)?;
                    self.any(&mut entry.value)?;
                }
                self.found.is_dynamic = true;
                Ok(Kin::Unknown)
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Struct(_) => Err("it makes a message".to_owned()),
            Expr::Unspecified => Err("it is empty".to_owned()),
        }
    }

    fn variable(&mut self, name: &str) -> Checked {
        if let Some((_, kin)) = self.bound.iter().rev().find(|(bound, _)| bound == name) {
            return Ok(kin.clone());
        }
        let flow = || json::descriptor::<Flow>().map_err(|error| error.to_string());
        match name {
            FLOW => Ok(Kin::Message(flow()?)),
            PACKAGE => Ok(Kin::Package),
            name => enumeration(&flow()?, name)
                .map(Kin::Enum)
                .ok_or_else(|| format!("there is no `{name}`: a flow is `{FLOW}`")),
        }
    }

    /// What a selection gives, and the number of an enum's name.
    fn select(&mut self, select: &mut SelectExpr) -> Result<(Kin, Option<i64>), String> {
        let name = select.field.clone();
        match self.any(&mut select.operand)? {
            Kin::Message(message) => {
                let field = message
                    .get_field_by_name(&name)
                    .ok_or_else(|| format!("a `{}` has no field `{name}`", message.full_name()))?;
                if select.test {
                    select.field.insert(0, PRESENCE);
                    return Ok((Kin::Bool, None));
                }
                Ok((self.field(&field)?, None))
            }
            Kin::Enum(kind) => {
                let value = kind.get_value_by_name(&name);
                let value = value.ok_or_else(|| format!("`{}` has no `{name}`", kind.name()))?;
                Ok((Kin::Number, Some(value.number().into())))
            }
            Kin::Package => {
                let message = json::descriptor::<Flow>().map_err(|error| error.to_string())?;
                let kind = enumeration(&message, &name);
                let kind = kind.ok_or_else(|| format!("there is no `{PACKAGE}.{name}`"))?;
                Ok((Kin::Enum(kind), None))
            }
            Kin::Unknown => Ok((if select.test { Kin::Bool } else { Kin::Unknown }, None)),
            Kin::Messages(_) | Kin::Text | Kin::Number | Kin::Bool => {
                Err(format!("`.{name}` is asked of what has no fields"))
            }
        }
    }

    fn field(&mut self, field: &FieldDescriptor) -> Checked {
        let kind = field.kind();
        let message = kind.as_message().cloned();
        if let Some(message) = message.filter(|_| !is_wrapper(&kind)) {
            return match message.full_name() {
                "google.protobuf.Timestamp" => Err(format!(
                    "`{}` is a moment, which expressions do not hold here: use since and until",
                    field.name()
                )),
                "google.protobuf.Any" => Ok(self.dynamic()),
                _ if field.is_list() => Ok(Kin::Messages(message)),
                _ => Ok(Kin::Message(message)),
            };
        }
        if field.is_list() {
            return Ok(Kin::Unknown);
        }
        Ok(match kind {
            Kind::Message(_) => self.dynamic(),
            Kind::String => Kin::Text,
            Kind::Bool => Kin::Bool,
            Kind::Bytes => Kin::Unknown,
            _ => Kin::Number,
        })
    }

    fn dynamic(&mut self) -> Kin {
        self.found.is_dynamic = true;
        Kin::Unknown
    }

    fn call(&mut self, call: &mut CallExpr) -> Checked {
        let name = call.func_name.clone();
        if name == operator::INDEX {
            return self.index(call);
        }
        if !FUNCTIONS.contains(&name.as_str()) && !OPERATORS.contains(&name.as_str()) {
            return Err(format!("there is no `{}`", spelled(&name)));
        }
        if name == "matches" {
            return self.matches(call);
        }
        let target = call.target.iter_mut().map(|target| &mut **target);
        let mut kins = Vec::new();
        for argument in target.chain(&mut call.args) {
            kins.push(self.any(argument)?);
        }
        match name.as_str() {
            operator::EQUALS | operator::NOT_EQUALS => {
                like_with_like(&name, &kins)?;
                Ok(Kin::Bool)
            }
            operator::LOGICAL_AND
            | operator::LOGICAL_OR
            | operator::LOGICAL_NOT
            | operator::GREATER
            | operator::GREATER_EQUALS
            | operator::LESS
            | operator::LESS_EQUALS
            | operator::IN
            | operator::NOT_STRICTLY_FALSE
            | "contains"
            | "startsWith"
            | "endsWith"
            | "bool" => Ok(Kin::Bool),
            operator::ADD
            | operator::SUBSTRACT
            | operator::MULTIPLY
            | operator::DIVIDE
            | operator::MODULO => {
                like_with_like(&name, &kins)?;
                Ok(kins.into_iter().next().unwrap_or(Kin::Unknown))
            }
            "size" | "int" | "uint" | "double" => Ok(Kin::Number),
            "string" => Ok(Kin::Text),
            _ => Ok(Kin::Unknown),
        }
    }

    fn index(&mut self, call: &mut CallExpr) -> Checked {
        let mut kins = Vec::new();
        for argument in &mut call.args {
            kins.push(self.any(argument)?);
        }
        Ok(match kins.into_iter().next() {
            Some(Kin::Messages(message)) => Kin::Message(message),
            _ => Kin::Unknown,
        })
    }

    /// A pattern is read once, so it must stand there as such.
    fn matches(&mut self, call: &mut CallExpr) -> Checked {
        if call.target.is_none() && call.args.len() == 2 {
            call.target = Some(Box::new(call.args.remove(0)));
        }
        let (Some(target), [argument]) = (&mut call.target, call.args.as_mut_slice()) else {
            return Err("`matches` is for a text and a pattern".to_owned());
        };
        self.any(target)?;
        let Expr::Literal(LiteralValue::String(pattern)) = &argument.expr else {
            return Err("`matches` takes its pattern as a text in quotes".to_owned());
        };
        // No name that can be written.
        let name = format!("{PRESENCE}{}", self.found.patterns.len());
        self.found.patterns.insert(name.clone(), pattern.inner().to_owned());
        argument.expr = Expr::Ident(name);
        Ok(Kin::Bool)
    }

    fn comprehension(&mut self, comprehension: &mut ComprehensionExpr) -> Checked {
        let ComprehensionExpr {
            iter_range,
            iter_var,
            iter_var2,
            accu_var,
            accu_init,
            loop_cond,
            loop_step,
            result,
        } = comprehension;
        let element = match self.any(iter_range)? {
            Kin::Messages(message) => Kin::Message(message),
            _ => Kin::Unknown,
        };
        let gathered = self.any(accu_init)?;
        let outside = self.bound.len();
        self.bound.push((accu_var.clone(), gathered.clone()));
        self.bound.push((iter_var.clone(), element));
        self.bound.extend(iter_var2.iter().map(|name| (name.clone(), Kin::Unknown)));
        self.weight *= LOOP;
        self.any(loop_cond)?;
        self.any(loop_step)?;
        self.weight /= LOOP;
        self.bound.truncate(outside);
        self.bound.push((accu_var.clone(), gathered));
        let kin = self.any(result)?;
        self.bound.truncate(outside);
        Ok(kin)
    }
}

fn literal(value: &LiteralValue) -> Kin {
    match value {
        LiteralValue::Boolean(_) => Kin::Bool,
        LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_) => Kin::Number,
        LiteralValue::String(_) => Kin::Text,
        LiteralValue::Bytes(_) | LiteralValue::Null => Kin::Unknown,
    }
}

fn enumeration(flow: &MessageDescriptor, name: &str) -> Option<EnumDescriptor> {
    flow.parent_file().enums().find(|kind| kind.name() == name)
}

/// A text is never a number: such a comparison is a mistake, not a filter.
fn like_with_like(operator: &str, kins: &[Kin]) -> Result<(), String> {
    let word = |kin: &Kin| match kin {
        Kin::Message(_) => Some("a message"),
        Kin::Messages(_) => Some("a list"),
        Kin::Text => Some("a text"),
        Kin::Number => Some("a number"),
        Kin::Bool => Some("a bool"),
        Kin::Enum(_) | Kin::Package => Some("a name"),
        Kin::Unknown => None,
    };
    match kins {
        [left, right] => match (word(left), word(right)) {
            (Some(left), Some(right)) if left != right => {
                Err(format!("`{}` is between {left} and {right}", spelled(operator)))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// An operator as it is written.
pub(super) fn spelled(name: &str) -> &str {
    name.trim_matches(|c| c == '_' || c == '@')
}
