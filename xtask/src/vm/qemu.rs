//! Boots QEMU and sees to it that it ends.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Machine;
use super::kernel::Kernel;

const MEMORY: &str = "2G";
const POLL: Duration = Duration::from_millis(50);

/// One thread for all of the guest's processors. With one for each, the QEMU of Debian 12
/// (7.2) goes on with translations of code that another processor has rewritten. The kernel
/// rewrites its static keys so, and fell over its own breakpoint ("Oops: int3") within
/// seconds of switching cpusets on and off beside a process that allocates; with one thread
/// it did so for minutes.
const EMULATOR: &str = "tcg,thread=single";

/// The boot's log on the console, so that a guest that does not come up says why;
/// a panic switches off at once. The timer is not tried, which fails where the emulator
/// waits for a processor. The security modules are those of Debian, with `bpf`.
/// `signet.guest` tells tests that the machine is theirs: they may set its clock.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check \
    signet.guest lsm=landlock,lockdown,yama,integrity,apparmor,bpf";

/// How the machine went off.
pub enum Ended {
    /// It switched itself off.
    Itself,
    /// It ran out of time.
    Killed,
}

/// Boots and waits until the machine is off or out of time. Nothing is left running.
pub fn boot(machine: &Machine, kernel: &Kernel, share: &Path) -> io::Result<Ended> {
    let deadline = Instant::now() + machine.timeout;
    // QEMU closes its output when its input ends: the pipe stays open, and silent.
    let mut qemu = command(machine, kernel, share);
    if machine.prefix.is_some() {
        qemu.stdout(Stdio::piped());
    }
    let mut guest = qemu.stdin(Stdio::piped()).spawn()?;
    let input = guest.stdin.take();
    let prefix = machine.prefix.clone().unwrap_or_default();
    let passed_on = guest.stdout.take().map(|output| thread::spawn(|| pass_on(output, prefix)));
    let ended = loop {
        if guest.try_wait()?.is_some() {
            break Ended::Itself;
        }
        if Instant::now() >= deadline {
            guest.kill()?;
            guest.wait()?;
            break Ended::Killed;
        }
        thread::sleep(POLL);
    };
    drop(input);
    if let Some(passed_on) = passed_on {
        // It ends with the guest; what it could not print is no answer of the guest's.
        let _ = passed_on.join();
    }
    Ok(ended)
}

/// Prints each line of `output` behind `prefix`, as a whole: others print meanwhile.
fn pass_on(output: impl Read, prefix: String) {
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let line = [prefix.as_bytes(), &line, b"\n"].concat();
        // A closed standard output must not keep the guest from being read.
        let _ = io::stdout().lock().write_all(&line);
    }
}

fn command(machine: &Machine, kernel: &Kernel, share: &Path) -> Command {
    // The kernel kills QEMU should we be killed: no guest outlives its runner.
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-accel", EMULATOR, "-cpu", "max", "-m", MEMORY])
        .args(["-smp", &machine.cpus.to_string()])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&kernel.initramfs)
        .args(["-append", KERNEL_ARGUMENTS]);
    folder(&mut qemu, "host", Path::new("/"), ",readonly=on");
    folder(&mut qemu, "share", share, "");
    let console = share.join("console");
    qemu.args(["-chardev", "stdio,id=output", "-device", "virtio-serial-pci"])
        .args(["-device", "virtserialport,chardev=output,name=output"])
        .args(["-chardev", &format!("file,id=console,path={}", escape(&console))])
        .args(["-serial", "chardev:console"]);
    qemu
}

/// Gives the guest a folder of the host's under the name `tag`.
fn folder(qemu: &mut Command, tag: &str, path: &Path, options: &str) {
    let path = escape(path);
    qemu.arg("-fsdev")
        .arg(format!("local,id={tag},path={path},security_model=none,multidevs=remap{options}"))
        .arg("-device")
        .arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
}

/// QEMU's options end at a comma; a doubled one is a comma.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}
