//! Memory of the agent and of the kernel, by pods here and identities elsewhere.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::site::{NODE, Site, pod};

pub fn measure() {
    println!(
        "{:>8} {:>6} {:>13} {:>13} {:>13} {:>13}",
        "remote", "local", "agent", "most", "promised", "kernel"
    );
    for (remote, local) in [(10, 10), (1_000, 10), (100_000, 10), (10, 250)] {
        row(remote, local);
    }
}

fn row(remote: usize, local: usize) {
    let mut site = Site::new();
    for (part, numbers) in (0..remote).collect::<Vec<_>>().chunks(5_000).enumerate() {
        let text: String = numbers.iter().map(|number| pod("elsewhere", *number)).collect();
        site.put(&format!("remote-{part}.yaml"), &text);
    }
    let pods: String = (0..local).map(|number| pod("here", number)).collect();
    site.put("local.yaml", &format!("{NODE}{pods}"));
    (0..local).for_each(|number| site.record(number));
    site.start(local, remote + local);
    // Several looks, with nothing else to do.
    thread::sleep(Duration::from_secs(12));
    let status = site.status().unwrap();
    let limit = status.limits.iter().find(|limit| limit.what == "bytes of the agent's memory");
    let limit = limit.unwrap();
    let process = fs::read_to_string(format!("/proc/{}/status", site.agent())).unwrap();
    let most = process.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!(
        "{remote:>8} {local:>6} {:>13} {:>13} {:>13} {:>13}",
        limit.used,
        most.trim(),
        limit.limit,
        status.kernel_memory_bytes,
    );
}
