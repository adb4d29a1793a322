//! Reads out of the test runner's JUnit report how many tests each binary ran.

use std::collections::BTreeMap;

/// What ran, by test binary.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Tally(BTreeMap<String, Counts>);

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Counts {
    ran: usize,
    failed: usize,
}

impl Tally {
    /// Takes the `testsuite` elements; the runner writes one for each binary that ran a test.
    pub fn read(report: &str) -> Self {
        let mut tally = Self::default();
        for element in report.split("<testsuite ").skip(1) {
            let tag = element.split_once('>').map_or(element, |(tag, _)| tag);
            let number = |name| attribute(tag, name).and_then(|text| text.parse().ok());
            let Some(name) = attribute(tag, "name") else { continue };
            let counts = tally.0.entry(name.to_owned()).or_default();
            counts.ran += number("tests").unwrap_or(0);
            counts.failed += number("failures").unwrap_or(0) + number("errors").unwrap_or(0);
        }
        tally
    }

    /// How many tests of each binary ran, passed or not.
    pub fn ran(&self) -> BTreeMap<String, usize> {
        self.0.iter().map(|(name, counts)| (name.clone(), counts.ran)).collect()
    }

    /// Over all binaries.
    pub fn passed(&self) -> usize {
        self.0.values().map(|counts| counts.ran - counts.failed.min(counts.ran)).sum()
    }

    /// Over all binaries.
    pub fn failed(&self) -> usize {
        self.0.values().map(|counts| counts.failed).sum()
    }
}

fn attribute<'tag>(tag: &'tag str, name: &str) -> Option<&'tag str> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="5" failures="1" errors="1" time="0.1">
    <testsuite name="signet-model" tests="3" disabled="0" errors="0" failures="1">
        <testcase name="a" classname="signet-model"><failure type="x">2 > 1</failure></testcase>
    </testsuite>
    <testsuite name="signet-datapath::verdicts" tests="2" disabled="0" errors="1" failures="0">
    </testsuite>
</testsuites>"#;

    #[test]
    fn each_binary_counts_what_it_ran() {
        let ran: Vec<_> = Tally::read(REPORT).ran().into_iter().collect();
        let expected =
            [("signet-datapath::verdicts".to_owned(), 2), ("signet-model".to_owned(), 3)];
        assert_eq!(ran, expected);
    }

    #[test]
    fn a_test_that_could_not_start_is_a_failure() {
        let tally = Tally::read(REPORT);
        assert_eq!((tally.passed(), tally.failed()), (3, 2));
    }

    #[test]
    fn a_report_that_breaks_off_is_read_as_far_as_it_goes() {
        assert_eq!(Tally::read("<testsuite name=\"x\" tests=").passed(), 0);
    }
}
