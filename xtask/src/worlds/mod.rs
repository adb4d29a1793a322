//! Runs the tests in every world they must hold in: this host and stock kernels.
//!
//! A test that silently stops running proves nothing, so how many ran in which
//! binary is compared with the committed list. A world that did not run is a
//! failure, never a skip. Does not know what the tests are about.

mod junit;
mod list;

use std::ffi::OsString;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io, thread};

use junit::Tally;
use list::{List, World};

use crate::{process, repository, vm};

/// Emulated processors are slow: this is twice what the tests need.
const GUEST_TIMEOUT: Duration = Duration::from_secs(2400);
const GUEST_CPUS: u32 = 2;

/// Why the tests of a world cannot be said to have run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The list of worlds is not there or not legal.
    #[error(transparent)]
    List(#[from] list::Error),
    /// A world that nobody has described.
    #[error("no world `{name}` in tests/worlds.toml; there are {known}")]
    Unknown {
        /// As asked for.
        name: String,
        /// All that there are.
        known: String,
    },
    /// The tests do not build.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The guest did not come up or did not end.
    #[error(transparent)]
    Machine(#[from] vm::Error),
    /// The test runner broke off before it could tell what ran.
    #[error("the test runner left no report at `{}`", path.display())]
    NoReport {
        /// Where the report should be.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        source: io::Error,
    },
    /// A file beside the report cannot be used.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Runs the named worlds, or all. With `bless` the list takes over what ran.
/// Returns whether everything passed and everything listed ran.
pub fn run(names: &[String], bless: bool) -> Result<bool, Error> {
    let mut list = List::read()?;
    let names = if names.is_empty() { list.names() } else { names.to_vec() };
    let unknown =
        |name: &String| Error::Unknown { name: name.clone(), known: list.names().join(", ") };
    let worlds = names
        .into_iter()
        .map(|name| Ok((list.get(&name).cloned().ok_or_else(|| unknown(&name))?, name)))
        .collect::<Result<Vec<_>, Error>>()?;
    let results = run_all(&worlds);
    if bless {
        for (name, result) in &results {
            if let Ok(tally) = result {
                list.set(name, tally.ran());
            }
        }
        list.write()?;
    }
    Ok(summarise(&list, &results))
}

/// The host by itself, then the guests at once: the emulator uses one processor for each.
fn run_all(worlds: &[(World, String)]) -> Vec<(String, Result<Tally, Error>)> {
    let mut results = Vec::new();
    for (world, name) in worlds.iter().filter(|(world, _)| world.kernel.is_none()) {
        eprintln!("\n== {name} ==");
        results.push((name.clone(), run_here(world)));
    }
    let guests = worlds
        .iter()
        .filter_map(|(world, name)| Some((world.kernel.as_deref()?, world, name)))
        .collect::<Vec<_>>();
    if guests.is_empty() {
        return results;
    }
    eprintln!(
        "\n== {} ==",
        guests.iter().map(|guest| guest.2.as_str()).collect::<Vec<_>>().join(" and ")
    );
    thread::scope(|scope| {
        let running = guests
            .iter()
            .map(|&(series, world, name)| {
                (name, scope.spawn(move || run_in_guest(series, world, name)))
            })
            .collect::<Vec<_>>();
        for (name, running) in running {
            let result = running.join().unwrap_or_else(|panic| resume_unwind(panic));
            results.push((name.clone(), result));
        }
    });
    results
}

/// Where the runner leaves its report under that profile.
fn report(profile: &str) -> PathBuf {
    repository::target().join("nextest").join(profile).join("junit.xml")
}

/// Which tests, as the runner reads it, beside what its profile says. Everything is built
/// for every world: what is built for some packages alone has other features and would be
/// built once more.
fn filter(world: &World) -> Vec<String> {
    let packages = world.packages.iter().map(|name| format!("package(={name})"));
    let packages = packages.collect::<Vec<_>>().join(" | ");
    let chosen = [Some(packages).filter(|some| !some.is_empty()), world.filter.clone()];
    let chosen: Vec<_> = chosen.into_iter().flatten().map(|one| format!("({one})")).collect();
    if chosen.is_empty() { Vec::new() } else { vec!["-E".to_owned(), chosen.join(" & ")] }
}

fn run_here(world: &World) -> Result<Tally, Error> {
    let report = report("default");
    // A report of an earlier run must not pass for this one's.
    let _ = fs::remove_file(&report);
    let mut tests = process::command("cargo");
    tests.args(["nextest", "run", "--no-tests=pass", "--workspace"]).args(filter(world));
    let outcome = process::run(&mut tests);
    match (read_report(&report), outcome) {
        // What failed is in the report.
        (Ok(tally), _) => Ok(tally),
        (Err(_), Err(broken)) => Err(broken.into()),
        (Err(missing), Ok(())) => Err(missing),
    }
}

fn run_in_guest(series: &str, world: &World, name: &str) -> Result<Tally, Error> {
    let share = vm::Share::create()?;
    let write = |name: &str, bytes: Vec<u8>| {
        let path = share.path().join(name);
        fs::write(&path, bytes).map_err(|source| Error::File { path, source })
    };
    let mut build = process::command("cargo");
    build
        .args(["nextest", "list", "--workspace"])
        .args(["--list-type=binaries-only", "--message-format=json"])
        .stderr(std::process::Stdio::inherit());
    write("binaries.json", process::output(&mut build)?)?;
    let mut metadata = process::command("cargo");
    metadata.args(["metadata", "--format-version=1"]);
    write("cargo.json", process::output(&mut metadata)?)?;

    let machine = vm::Machine {
        series: series.to_owned(),
        cpus: GUEST_CPUS,
        timeout: GUEST_TIMEOUT,
        prefix: Some(format!("{name}: ")),
    };
    let code = vm::run(&machine, &share, &guest_command(share.path(), filter(world)))?;
    eprintln!("{name}: the test runner ended with {code}");
    read_report(&share.path().join("junit.xml"))
}

/// The same runner as on the host, on the binaries that the host has built.
fn guest_command(share: &Path, filter: Vec<String>) -> Vec<OsString> {
    // The guest sees the host's target directory, an old report included.
    const SCRIPT: &str = r#"
        rm -f "$2"
        cargo-nextest nextest run --profile vm --no-tests=pass \
            --binaries-metadata "$1/binaries.json" --cargo-metadata "$1/cargo.json" "${@:3}"
        code=$?
        cp "$2" "$1/junit.xml"
        exit $code"#;
    let words = ["bash", "-c", SCRIPT, "tests"].map(OsString::from);
    let folders = [share.into(), report("vm").into()];
    words.into_iter().chain(folders).chain(filter.into_iter().map(OsString::from)).collect()
}

fn read_report(path: &Path) -> Result<Tally, Error> {
    fs::read_to_string(path)
        .map(|text| Tally::read(&text))
        .map_err(|source| Error::NoReport { path: path.to_path_buf(), source })
}

/// Prints what ran where, and the closing line that people and machines look for.
fn summarise(list: &List, results: &[(String, Result<Tally, Error>)]) -> bool {
    let (mut passed, mut failed) = (0, 0);
    let mut complaints = Vec::new();
    println!("\n{:<10} {:>7} {:>7}", "world", "passed", "failed");
    for (name, result) in results {
        match result {
            Ok(tally) => {
                println!("{name:<10} {:>7} {:>7}", tally.passed(), tally.failed());
                passed += tally.passed();
                failed += tally.failed();
                let differences = list.compare(name, &tally.ran());
                complaints.extend(differences.into_iter().map(|what| format!("{name}: {what}")));
            }
            Err(error) => {
                println!("{name:<10} did not run");
                failed += 1;
                complaints.push(format!("{name}: did not run: {error}"));
                let mut cause = std::error::Error::source(error);
                while let Some(error) = cause {
                    complaints.push(format!("{name}:   because {error}"));
                    cause = error.source();
                }
            }
        }
    }
    for complaint in &complaints {
        println!("{complaint}");
    }
    if !complaints.is_empty() {
        println!(
            "tests/worlds.toml says what must run; if the change is meant: cargo xtask test --bless"
        );
    }
    println!("\n{passed} passed, {failed} failed");
    failed == 0 && complaints.is_empty()
}
