//! The committed list of worlds: what runs there and how many tests that must be.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::{fs, io};

use serde::Deserialize;

use crate::repository;

/// Why the list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or written.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("`{}` is not a list of worlds", path.display())]
    Syntax {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<toml::de::Error>,
    },
}

/// One place where tests run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// The kernel series of a virtual machine; none: this host.
    pub kernel: Option<String>,
    /// Packages whose tests run there; none: the whole workspace.
    pub packages: Vec<String>,
    /// Which of them, as the test runner reads it, beside what its profile says.
    pub filter: Option<String>,
    /// Tests that must run, by test binary.
    #[serde(default)]
    tests: BTreeMap<String, usize>,
}

/// All worlds by name.
#[derive(Debug, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub struct List(BTreeMap<String, World>);

impl List {
    /// From the committed file.
    pub fn read() -> Result<Self, Error> {
        let path = path();
        let text = fs::read_to_string(&path)
            .map_err(|source| Error::File { path: path.clone(), source })?;
        toml::from_str(&text).map_err(|source| Error::Syntax { path, source: Box::new(source) })
    }

    /// To the committed file.
    pub fn write(&self) -> Result<(), Error> {
        let path = path();
        fs::write(&path, self.text()).map_err(|source| Error::File { path, source })
    }

    /// In the order in which they run.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The world of that name.
    pub fn get(&self, name: &str) -> Option<&World> {
        self.0.get(name)
    }

    /// Takes over how many tests ran in a world.
    pub fn set(&mut self, name: &str, ran: BTreeMap<String, usize>) {
        if let Some(world) = self.0.get_mut(name) {
            world.tests = ran;
        }
    }

    /// Every way in which what ran is not what is listed.
    pub fn compare(&self, name: &str, ran: &BTreeMap<String, usize>) -> Vec<String> {
        let nothing = BTreeMap::new();
        let listed = self.0.get(name).map_or(&nothing, |world| &world.tests);
        let mut differences = Vec::new();
        for (binary, &expected) in listed {
            match ran.get(binary) {
                Some(&count) if count == expected => {}
                Some(count) => {
                    differences.push(format!("{binary}: {expected} tests listed, {count} ran"));
                }
                None => differences.push(format!("{binary}: {expected} tests listed, none ran")),
            }
        }
        for (binary, count) in ran {
            if !listed.contains_key(binary) {
                differences.push(format!("{binary}: {count} tests ran, none listed"));
            }
        }
        differences
    }

    fn text(&self) -> String {
        let mut text = String::from(
            "# Where the tests run, and how many of each binary must run there. `make test`\n\
             # fails when a world did not run or ran another number of tests.\n\
             # Numbers are written by `cargo xtask test --bless`, the rest by hand.\n",
        );
        // Writing to a String cannot fail.
        for (name, World { kernel, packages, filter, tests }) in &self.0 {
            let is_bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            let name = if is_bare { name.clone() } else { format!("{name:?}") };
            let _ = writeln!(text, "\n[{name}]");
            if let Some(kernel) = kernel {
                let _ = writeln!(text, "kernel = {kernel:?}");
            }
            let _ = writeln!(text, "packages = {packages:?}");
            if let Some(filter) = filter {
                let _ = writeln!(text, "filter = {filter:?}");
            }
            let _ = writeln!(text, "\n[{name}.tests]");
            for (binary, count) in tests {
                let _ = writeln!(text, "{binary:?} = {count}");
            }
        }
        text
    }
}

fn path() -> PathBuf {
    repository::root().join("tests/worlds.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `compare` says when `listed` should run and `ran` did: pairs of binary and count.
    #[track_caller]
    fn check(listed: &[(&str, usize)], ran: &[(&str, usize)], expected: &[&str]) {
        let map = |pairs: &[(&str, usize)]| {
            pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let world = World { kernel: None, packages: Vec::new(), filter: None, tests: map(listed) };
        let list = List(BTreeMap::from([("host".to_owned(), world)]));
        assert_eq!(list.compare("host", &map(ran)), expected);
    }

    #[test]
    fn the_listed_number_of_tests_is_no_difference() {
        check(&[("a", 2), ("b", 1)], &[("b", 1), ("a", 2)], &[]);
    }

    #[test]
    fn a_binary_that_lost_a_test_is_a_difference() {
        check(&[("a", 2)], &[("a", 1)], &["a: 2 tests listed, 1 ran"]);
    }

    #[test]
    fn a_binary_that_did_not_run_is_a_difference() {
        check(&[("a", 2)], &[], &["a: 2 tests listed, none ran"]);
    }

    #[test]
    fn a_binary_that_nobody_listed_is_a_difference() {
        check(&[], &[("a", 3)], &["a: 3 tests ran, none listed"]);
    }

    #[test]
    fn what_is_written_reads_back_equal() {
        let text = "[host]\npackages = []\n['vm-6.1']\nkernel = '6.1'\npackages = ['p']\nfilter = 'not test(x)'\n\
                    ['vm-6.1'.tests]\n'p::net' = 4\n";
        let list: List = toml::from_str(text).unwrap();
        assert_eq!(toml::from_str::<List>(&list.text()).unwrap(), list);
    }
}
