//! The failure that a runtime is told: a number of the CNI specification, what
//! went wrong, and why.
//!
//! The other modules have their own error types; they become a [`Failure`] at
//! the edge of a command.

use std::error::Error;

use serde_json::json;

use crate::version::Version;

/// Numbers of the CNI specification (below 100) and of this plugin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Code {
    /// The configuration's `cniVersion` is not spoken here.
    IncompatibleVersion = 1,
    /// A field of the configuration that nobody reads.
    UnsupportedField = 2,
    /// A `CNI_*` variable is missing or wrong.
    InvalidEnvironment = 4,
    /// A file could not be read or written.
    Io = 5,
    /// Not JSON, or not of the expected shape.
    Decode = 6,
    /// A value of the configuration is wrong.
    InvalidConfig = 7,
    /// It will work later.
    TryLater = 11,
    /// New pods cannot be served.
    Unavailable = 50,
    /// The kernel refused a step of the wiring.
    Wiring = 100,
    /// The programs that judge the pod's packets could not be put in place.
    Programs = 101,
    /// CHECK found a difference.
    Differs = 102,
}

/// What a runtime is told when a command fails.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Its number.
    pub code: Code,
    /// What went wrong and what to do, in one line.
    pub message: String,
    /// Why, down to the kernel's word; may be empty.
    pub details: String,
}

impl Failure {
    /// A failure that has no deeper cause.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    /// The failure that `error` and the chain of its causes describe.
    pub fn caused_by(code: Code, error: &(dyn Error + 'static)) -> Self {
        Self { code, message: error.to_string(), details: causes(error) }
    }

    /// Adds a line to the details.
    #[must_use]
    pub fn with_detail(mut self, detail: &str) -> Self {
        if !self.details.is_empty() {
            self.details.push_str("; ");
        }
        self.details.push_str(detail);
        self
    }

    /// The error object of the CNI specification.
    pub fn to_json(&self, version: Version) -> serde_json::Value {
        json!({
            "cniVersion": version.as_str(),
            "code": self.code as u32,
            "msg": self.message,
            "details": self.details,
        })
    }
}

/// The causes of `error`, outermost first, without `error` itself.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let chain = std::iter::successors(error.source(), |&cause| cause.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_the_error_object_of_the_specification() {
        let failure = Failure::new(Code::TryLater, "no agent answered").with_detail("waited 10 s");
        assert_eq!(
            failure.to_json(Version::V1_0_0).to_string(),
            r#"{"cniVersion":"1.0.0","code":11,"msg":"no agent answered","details":"waited 10 s"}"#
        );
    }
}
