//! Pictures for the documentation: real commands on the real bank, in a terminal, as
//! SVG files.
//!
//! Runs the demo in a lab of a name of its own, then the scenes that
//! `docs/pictures/scenes.txt` describes, and takes the lab away.

mod svg;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use crate::process;
use crate::repository;

const BANK: &str = "examples/bank";
const SCENES: &str = "docs/pictures/scenes.txt";
const PICTURES: &str = "docs/pictures";
/// Seconds.
const LIMIT: u32 = 180;

/// What a shell calls `signet` where only one lab runs.
const SHELL: &str = r#"
signet() {
  case "$1 $2" in
    "lab status") "$program" lab status "$lab" "${@:3}" ;;
    "lab "*) "$program" lab "$2" --lab "$lab" "${@:3}" ;;
    "policy check" | "policy evaluate") "$program" "$@" ;;
    *) "$program" "$@" --server "unix:/run/signet/$lab/relay.sock" ;;
  esac
}
stty rows 50 cols 118
shown() { printf '\033[32m$\033[0m \033[1m%s\033[0m\n' "$1"; eval "$1" 2>&1 </dev/null; }
unseen() { eval "$1" >/dev/null 2>&1; }
"#;

/// A picture to take.
#[derive(Debug, Eq, PartialEq)]
struct Scene {
    name: String,
    title: String,
    /// Command lines, and whether each is shown.
    commands: Vec<(bool, String)>,
}

/// The lab of one run; it goes with the value.
struct Stage {
    folder: tempfile::TempDir,
    program: PathBuf,
    lab: String,
}

/// Takes all pictures with that `signet`; without one, with the release build.
pub fn run(program: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let built = repository::target().join("release/signet");
    let program = fs::canonicalize(program.unwrap_or(&built))?;
    let scenes = scenes(&fs::read_to_string(repository::root().join(SCENES))?)?;
    let stage = Stage::set(program)?;
    let demo = stage.told(&format!("bash {BANK}/demo.sh"))?;
    let parts: Vec<&str> = demo.split("\n\u{1b}[1m").collect();
    let part = |number: &str| parts.iter().find(|part| part.starts_with(number));
    for (name, title, numbers) in [
        ("demo", "make demo: flat, closed, opened", ["1.", "2.", "3."].as_slice()),
        ("attack", "make demo: a pod is taken over", &["4."]),
    ] {
        let found: Option<Vec<_>> = numbers.iter().map(|number| part(number)).collect();
        let found = found.ok_or("the demo did not tell its whole story")?;
        let text: Vec<_> = found.iter().map(|part| format!("\u{1b}[1m{part}")).collect();
        write(name, title, &text.join("\n"))?;
    }
    for scene in &scenes {
        let script = scene.commands.iter().map(|(shown, line)| {
            let how = if *shown { "shown" } else { "unseen" };
            format!("{how} '{}'\n", line.replace('\'', r"'\''"))
        });
        write(&scene.name, &scene.title, &stage.told(&script.collect::<String>())?)?;
    }
    Ok(())
}

fn write(name: &str, title: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let path = repository::root().join(PICTURES).join(format!("{name}.svg"));
    fs::write(&path, svg::picture(title, text))?;
    eprintln!("{PICTURES}/{name}.svg");
    Ok(())
}

impl Stage {
    fn set(program: PathBuf) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let lab = format!("pictures-{}", std::process::id());
        let bank = folder.path().join(BANK);
        copy(&repository::root().join(BANK), &bank)?;
        let object = bank.join("lab.yaml");
        let text = fs::read_to_string(&object)?;
        fs::write(object, text.replacen("\n  name: bank\n", &format!("\n  name: {lab}\n"), 1))?;
        Ok(Self { folder, program, lab })
    }

    /// What a terminal shows of a script.
    fn told(&self, script: &str) -> Result<String, Box<dyn Error>> {
        let file = self.folder.path().join("scene.sh");
        fs::write(&file, format!("{SHELL}{script}"))?;
        let folder = self.program.parent().unwrap_or(Path::new("/"));
        let mut path = folder.as_os_str().to_owned();
        path.push(":");
        path.push(process::path());
        let mut terminal = process::command("script");
        // Nothing here takes longer; what hangs must not hang whoever waits for it.
        let script = format!("timeout {LIMIT} bash {}", file.display());
        terminal.args(["--quiet", "--return", "--command"]).arg(script);
        terminal.arg("/dev/null").current_dir(self.folder.path());
        terminal.env("PATH", path).env("program", &self.program).env("lab", &self.lab);
        let text = String::from_utf8_lossy(&process::output(&mut terminal)?).into_owned();
        Ok(text.replace("\r\n", "\n").replace(&self.lab, "bank"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let mut down = process::command(&self.program);
        if let Err(error) = process::run(down.args(["lab", "down", &self.lab])) {
            eprintln!("xtask: {error}");
        }
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, target)?;
        }
    }
    Ok(())
}

fn scenes(text: &str) -> Result<Vec<Scene>, String> {
    let mut scenes: Vec<Scene> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let wrong =
            || format!("{SCENES}: `{line}` is neither `== NAME: TITLE`, `! LINE` nor `$ LINE`");
        if let Some(head) = line.strip_prefix("== ") {
            let (name, title) = head.split_once(": ").ok_or_else(wrong)?;
            let (name, title) = (name.to_owned(), title.to_owned());
            scenes.push(Scene { name, title, commands: vec![] });
            continue;
        }
        let (sign, command) = line.split_at_checked(2).ok_or_else(wrong)?;
        let scene = scenes.last_mut().filter(|_| ["$ ", "! "].contains(&sign)).ok_or_else(wrong)?;
        scene.commands.push((sign == "$ ", command.to_owned()));
    }
    Ok(scenes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_is_a_title_and_commands() {
        let found = scenes("# c\n\n== a: what it is\n! x 1\n$ y: 2\n").unwrap();
        let commands = vec![(false, "x 1".to_owned()), (true, "y: 2".to_owned())];
        assert_eq!(found, [Scene { name: "a".into(), title: "what it is".into(), commands }]);
        assert!(scenes("$ y\n").is_err());
        assert!(scenes("== a: b\ny\n").is_err());
    }
}
