//! What tests of labs share: manifests of a small one, and a look for remains
//! that goes by the kernel's own lists, not by the lab's code.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it goes wrong")]
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lab::{Lab, Options};

/// Two nodes, three pods, one of them with two containers, and the internet.
const MANIFESTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: web, labels: {app: client}}
spec:
  nodeName: node-1
  containers: [{name: main}]
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: payment, labels: {app: server}}
spec:
  nodeName: node-2
  containers:
    - name: main
      command: [busybox, httpd, -f, -p, "8080", -h, /usr/share/doc]
      ports: [{name: http, containerPort: 8080}]
    - name: side
      env: [{name: COLOUR, value: red}]
      command: [sh, -c, 'echo "hello from $COLOUR"; exec sleep infinity']
---
apiVersion: v1
kind: Pod
metadata: {name: user, namespace: web}
spec:
  nodeName: node-1
  containers:
    - name: main
      securityContext: {runAsUser: 1000, runAsGroup: 1000, capabilities: {add: [NET_ADMIN]}}
"#;

/// A directory of manifests for a lab of this name.
pub fn directory(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let lab = format!(
        "apiVersion: signet.dev/v1alpha1\nkind: Lab\nmetadata: {{name: {name}}}\n\
         spec:\n  external:\n    - name: internet\n      command: [busybox, httpd, -f, -p, \"80\"]\n"
    );
    fs::write(directory.path().join("lab.yaml"), lab).unwrap();
    fs::write(directory.path().join("pods.yaml"), MANIFESTS).unwrap();
    directory
}

/// Options with the program that stands in for `signet`.
pub fn options() -> Options {
    let signet = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-in/signet");
    Options { signet, confirm: false, quiet: true }
}

/// A lab that goes when the test ends, whatever its end.
pub struct Scene {
    /// Its manifests.
    pub directory: tempfile::TempDir,
    /// The lab.
    pub lab: Lab,
}

impl Scene {
    /// Up.
    pub fn of(name: &str) -> Self {
        let directory = directory(name);
        let lab = Lab::up(directory.path(), &options()).unwrap_or_else(|error| {
            panic!("{}", error.chain());
        });
        Self { directory, lab }
    }

    /// Runs a command in the first container of a pod.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Output {
        self.exec_in(pod, None, command)
    }

    /// Runs a command in a container of a pod.
    pub fn exec_in(&self, pod: &str, container: Option<&str>, command: &[&str]) -> Output {
        let container = self.lab.pod(pod).unwrap().container(container).unwrap();
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(self.lab.places.runtime()).arg("exec").arg(&container.id);
        runc.args(command).output().unwrap()
    }

    /// Runs a command in a member's network namespace.
    pub fn inside(&self, member: &str, command: &[&str]) -> Output {
        let netns = self.lab.places.netns(member);
        let argument = format!("--net={}", netns.display());
        Command::new("nsenter").arg(argument).args(command).output().unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let gone = self.lab.clone().down();
        if !std::thread::panicking() {
            gone.unwrap_or_else(|error| panic!("{}", error.chain()));
            assert_eq!(remains(&self.lab.journal.name), Vec::<String>::new());
        }
    }
}

/// Everything of a lab that the host still has.
pub fn remains(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["/run/signet", "/sys/fs/bpf/signet"] {
        let path = Path::new(folder).join(name);
        found.extend(path.exists().then(|| path.display().to_string()));
    }
    let netns = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let prefix = format!("signet.{name}.");
    found.extend(
        netns
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|netns| netns.starts_with(&prefix)),
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = |line: &&str| {
        line.contains(&format!("/run/signet/{name}/")) || line.contains(&format!("/{prefix}"))
    };
    found.extend(mounts.lines().filter(ours).map(str::to_owned));
    found.extend(cgroups(Path::new("/sys/fs/cgroup"), name));
    found.extend(processes(name));
    found
}

fn cgroups(root: &Path, name: &str) -> Vec<String> {
    let candidates = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let candidates: Vec<PathBuf> = candidates.chain([root.to_owned()]).collect();
    candidates
        .iter()
        .map(|root| root.join("signet").join(name))
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect()
}

/// Processes in a cgroup of the lab, or with one of its paths on their command line.
fn processes(name: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let ours = cgroup.contains(&format!("/signet/{name}"))
            || command.contains(&format!("/run/signet/{name}/"));
        let zombie = command.is_empty();
        (ours && !zombie).then(|| format!("process {pid}: {command}"))
    })
    .collect()
}
