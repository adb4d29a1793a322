//! An error with its causes, in one line.

use std::error::Error;

/// `what: why: why`.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let level = error.to_string();
        // Transparent errors say what their source says.
        if !text.ends_with(&level) {
            text.push_str(": ");
            text.push_str(&level);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("cannot read `a`")]
        Read(#[source] std::io::Error),
        #[error(transparent)]
        Other(std::io::Error),
    }

    #[test]
    fn every_level_is_said_once() {
        let cause = || std::io::Error::other("disk on fire");
        assert_eq!(chain(&Outer::Read(cause())), "cannot read `a`: disk on fire");
        assert_eq!(chain(&Outer::Other(cause())), "disk on fire");
    }
}
