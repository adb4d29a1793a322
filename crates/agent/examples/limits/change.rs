//! From a manifest's rename to the first packet that is judged by it.

use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use datapath::{Config, Datapath, Limits, TestRun};
use model::{Direction, Verdict};

use crate::site::{MAC, NODE, Site, address, eventually, pod, pod_name};

/// Changes of each row.
const CHANGES: u32 = 300;

/// Asked of the kernel so often.
const STEP: Duration = Duration::from_micros(300);

/// One line: how the rules are spread.
struct Row {
    what: &'static str,
    /// Pods of this node, each somebody else.
    pods: usize,
    /// Policies, each in a file of its own; the first one changes.
    policies: usize,
    /// Rules of each.
    rules: usize,
    /// Whether each policy is about one pod, or about all of them.
    one_each: bool,
}

const ROWS: [Row; 6] = [
    Row { what: "1 rule", pods: 1, policies: 1, rules: 1, one_each: true },
    Row { what: "100 rules in a policy", pods: 1, policies: 1, rules: 100, one_each: true },
    Row { what: "10,000 rules in a policy", pods: 1, policies: 1, rules: 10_000, one_each: true },
    Row { what: "1 rule each of 100 pods", pods: 100, policies: 100, rules: 1, one_each: true },
    Row {
        what: "100 rules each of 100 pods",
        pods: 100,
        policies: 100,
        rules: 100,
        one_each: true,
    },
    Row {
        what: "100 rules about all 100 pods",
        pods: 100,
        policies: 1,
        rules: 100,
        one_each: false,
    },
];

pub fn measure() {
    println!("{:<30} {:>8} {:>8} {:>8} {:>8}", "rules", "changes", "p50 ms", "p99 ms", "most ms");
    for row in &ROWS {
        let mut times = row.times();
        times.sort();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
        println!(
            "{:<30} {:>8} {:>8.1} {:>8.1} {:>8.1}",
            row.what,
            times.len(),
            at(50),
            at(99),
            at(100)
        );
    }
}

impl Row {
    fn times(&self) -> Vec<Duration> {
        let mut site = Site::new();
        let pods: String = (0..self.pods).map(|number| pod("here", number)).collect();
        site.put("pods.yaml", &format!("{NODE}{pods}{}", pod("elsewhere", 0)));
        (0..self.pods).for_each(|number| site.record(number));
        for policy in 0..self.policies {
            site.put(&format!("policy-{policy}.yaml"), &self.policy(policy, true));
        }
        let config = Config { pins: site.pins(), cgroup: None, limits: Limits::default() };
        let datapath = Datapath::open(&config).unwrap();
        let programs = TestRun::new(&datapath);
        site.start(self.pods, self.pods + 1);
        let frame = frame();
        let passes = || {
            let outcome = programs.run(Direction::Ingress, &frame, 1).unwrap();
            outcome.verdict == Verdict::Forwarded
        };
        eventually("the first policy is in force", passes);
        let changes = (0..CHANGES).map(|change| {
            let open = change % 2 == 1;
            // Not in step with anything that the agent does from time to time.
            thread::sleep(Duration::from_micros(100_000 + u64::from(change * 7919 % 97) * 1_000));
            let text = self.policy(0, open);
            let start = Instant::now();
            site.put("policy-0.yaml", &text);
            while passes() != open {
                assert!(start.elapsed() < Duration::from_secs(60), "{} of {}", change, self.what);
                thread::sleep(STEP);
            }
            start.elapsed()
        });
        changes.collect()
    }

    /// Whom it lets in besides others: if it is open, the one who knocks.
    fn policy(&self, number: usize, open: bool) -> String {
        let subject = if self.one_each {
            format!("app: {}", pod_name("here", number))
        } else {
            "io.kubernetes.pod.namespace: bank".to_owned()
        };
        let mut text = format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
             metadata: {{name: p{number}, namespace: bank}}\nspec:\n  \
             endpointSelector: {{matchLabels: {{{subject}}}}}\n  ingress:\n"
        );
        for rule in 1..self.rules {
            let (high, low) = (rule / 250, rule % 250);
            let first = 100 + number;
            let _ = writeln!(text, "  - fromCIDR: [{first}.{high}.{low}.0/24]");
        }
        let who = if open { pod_name("elsewhere", 0) } else { "nobody".to_owned() };
        let _ = writeln!(
            text,
            "  - fromEndpoints: [{{matchLabels: {{app: {who}}}}}]\n    \
             toPorts: [{{ports: [{{port: '7100', protocol: UDP}}]}}]"
        );
        text
    }
}

/// A datagram from the first pod elsewhere to the first pod here.
fn frame() -> Vec<u8> {
    let mut frame = MAC.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(address("elsewhere", 0).octets());
    frame.extend(address("here", 0).octets());
    frame.extend([0x40, 0]);
    frame.extend(7100u16.to_be_bytes());
    frame.extend([0, 8, 0, 0]);
    frame
}
