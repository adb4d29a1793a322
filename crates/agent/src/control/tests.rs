//! The control loop against a kernel that is a fake: it remembers what it was told.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use datapath::{AttachKind, Features, Limits, TableInForce};

use super::*;
use crate::config::AgentSettings;
use crate::state::Facts;
use crate::testing::{self, CLUSTER};

/// A kernel that remembers what it was told, or refuses.
#[derive(Clone, Default)]
pub(super) struct Fake(Rc<RefCell<Told>>);

#[derive(Default)]
struct Told {
    desired: Vec<Desired>,
    refuse: bool,
    expired: usize,
    faults: Vec<Fault>,
    compared: Option<usize>,
    unsure: bool,
    in_force: InForce,
}

impl Kernel for Fake {
    fn apply(&mut self, desired: &Desired) -> Result<Applied, ApplyError> {
        let mut told = self.0.borrow_mut();
        if told.refuse {
            let what = "addresses".to_owned();
            return Err(ApplyError::TooMany { what, needed: 9, limit: 8, field: "addresses" });
        }
        told.desired.push(desired.clone());
        let revision = 10 + u32::try_from(told.desired.len()).unwrap();
        Ok(Applied { revision, written: 1 })
    }

    fn expire_connections(&mut self) -> Result<u32, MapError> {
        self.0.borrow_mut().expired += 1;
        Ok(0)
    }

    fn guard_uplinks(&mut self, uplinks: &BTreeMap<u32, String>) -> Vec<UplinkState> {
        let state = |(ifindex, interface): (&u32, &String)| UplinkState {
            interface: interface.clone(),
            ifindex: *ifindex,
            missing: None,
        };
        uplinks.iter().map(state).collect()
    }

    fn counters(&self) -> Result<Counters, MapError> {
        Ok(Counters::default())
    }

    fn revision(&self) -> u32 {
        10
    }

    fn in_force(&self) -> InForce {
        self.0.borrow().in_force.clone()
    }

    fn check(&mut self, desired: Option<&Desired>) -> Vec<Fault> {
        let mut told = self.0.borrow_mut();
        told.compared = desired.map(|desired| desired.endpoints.len());
        std::mem::take(&mut told.faults)
    }

    fn is_unsure(&self) -> bool {
        self.0.borrow().unsure
    }

    fn fill(&self) -> Result<Vec<Fill>, MapError> {
        Ok(vec![Fill { what: "addresses", used: 95, limit: 100 }])
    }

    fn memory(&self) -> u64 {
        12_345
    }
}

pub(super) struct Bench {
    pub control: Control<Fake>,
    kernel: Fake,
    pub state: Arc<NodeState>,
    root: tempfile::TempDir,
}

pub(super) fn bench() -> Bench {
    let root = tempfile::tempdir().unwrap();
    for folder in ["state/endpoints", "cluster"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    start(root, InForce::default())
}

/// An agent on these folders, which an earlier one may have used, and on what that one
/// left in force.
fn start(root: tempfile::TempDir, in_force: InForce) -> Bench {
    let mut settings = AgentSettings::new(
        "node-1",
        "/sys/fs/bpf/signet/test/node-1",
        root.path().join("state"),
        root.path().join("cluster"),
    );
    settings.cluster = "jakarta".into();
    let config = AgentConfig::try_from(settings).unwrap();
    let state = Arc::new(NodeState::new(Facts {
        node: "node-1".into(),
        cluster: "jakarta".into(),
        kernel_release: "6.18".into(),
        features: Features { attach: AttachKind::Tcx, hooks: vec![], taken_over: true },
        started: Instant::now(),
    }));
    let kernel = Fake::default();
    kernel.0.borrow_mut().in_force = in_force;
    let control = Control::new(kernel.clone(), &config, Arc::clone(&state));
    Bench { control, kernel, state, root }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn cluster(&self, text: &str) {
        replace(&self.path("cluster/all.yaml"), text);
    }

    pub fn wire(&self, record: &EndpointRecord) {
        cni::record::write(&self.path("state/endpoints"), record).unwrap();
    }

    /// The agent is gone, another one starts on its folders.
    fn restart(self) -> Self {
        let mut bench = start(self.root, InForce::default());
        bench.step();
        bench
    }

    /// The same on a kernel that went on; the next agent has not looked yet.
    pub fn succeeded(self) -> Self {
        let Desired { endpoints, host, tables, .. } = self.last();
        let room = Limits::default().table_entries;
        let tables = tables.into_iter().map(|(number, table)| {
            (number, TableInForce { places: table.places().collect(), room })
        });
        let in_force = InForce {
            tables: tables.collect(),
            endpoints: endpoints.values().map(|it| (it.id, it.table)).collect(),
            host: host.subject,
            ..InForce::default()
        };
        start(self.root, in_force)
    }

    /// The next agent on a kernel that knows nothing any more; it has not looked yet.
    pub fn restarted(self) -> Self {
        start(self.root, InForce::default())
    }

    /// The next agent finds the state of another version.
    pub fn succeeded_by_another_version(self) -> Self {
        start(self.root, InForce { foreign: true, ..InForce::default() })
    }

    /// Interfaces that are installed.
    #[track_caller]
    pub fn check_installed(&self, want: &[u32]) {
        assert_eq!(self.last().endpoints.into_keys().collect::<Vec<_>>(), want);
    }

    /// Names of the policies that count.
    fn policies(&self) -> Vec<String> {
        let plan = self.state.control().newest.clone().unwrap();
        plan.snapshot.policies.iter().map(|policy| policy.name.name.clone()).collect()
    }

    /// Looks, and enforces what is new; whether anything was.
    pub fn step(&mut self) -> bool {
        let changed = self.control.look();
        if changed {
            self.control.enforce(Instant::now());
        }
        changed
    }

    /// How often something was installed.
    pub fn installs(&self) -> usize {
        self.kernel.0.borrow().desired.len()
    }

    pub fn last(&self) -> Desired {
        self.kernel.0.borrow().desired.last().cloned().unwrap()
    }
}

fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("tmp");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, path).unwrap();
}

#[test]
fn what_the_cluster_says_is_installed_once() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    assert!(bench.step());
    assert_eq!(bench.last().endpoints.keys().collect::<Vec<_>>(), [&5]);
    assert!(!bench.step(), "nothing new");
    assert_eq!(bench.installs(), 1);
    let control = bench.state.control();
    assert_eq!(control.enforced.revision(), 11);
    assert_eq!((&control.pending, &control.last_error), (&None, &None));
}

#[test]
fn a_new_pod_and_a_new_policy_are_installed() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.step();
    assert!(bench.last().endpoints.is_empty());
    bench.wire(&testing::api());
    assert!(bench.step());
    assert_eq!(bench.last().endpoints.len(), 1);
    let before = bench.last().tables;
    bench.cluster(&CLUSTER.replace("port: '8080'", "port: '9090'"));
    assert!(bench.step());
    assert_ne!(bench.last().tables, before);
    cni::record::remove(&bench.path("state/endpoints"), "sg5").unwrap();
    assert!(bench.step());
    assert!(bench.last().endpoints.is_empty());
}

#[test]
fn nothing_is_installed_before_the_cluster_was_seen() {
    let mut bench = bench();
    fs::remove_dir(bench.path("cluster")).unwrap();
    bench.wire(&testing::api());
    assert!(bench.step());
    assert_eq!(bench.installs(), 0);
    let control = bench.state.control();
    assert_eq!(control.enforced.revision(), 10, "what an earlier agent left");
    let (error, _) = control.last_error.clone().unwrap();
    assert!(error.starts_with("cannot read the cluster directory"), "{error}");
}

#[test]
fn a_cluster_that_is_out_of_sight_stays_as_it_was() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    bench.step();
    fs::rename(bench.path("cluster"), bench.path("away")).unwrap();
    bench.wire(&testing::db());
    assert!(bench.step());
    assert_eq!(bench.last().endpoints.len(), 2, "a new pod is still wired");
    assert!(bench.state.control().last_error.is_some());
}

#[test]
fn a_refused_install_leaves_the_last_good_plan_and_is_tried_again() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    bench.step();
    bench.kernel.0.borrow_mut().refuse = true;
    bench.wire(&testing::db());
    bench.step();
    let control = bench.state.control();
    let in_force = control.enforced.plan().unwrap();
    assert_eq!(in_force.desired.endpoints.len(), 1);
    assert_eq!(control.newest.as_ref().unwrap().desired.endpoints.len(), 2);
    let want = "addresses do not fit: 9 needed, 8 is the limit (raise `addresses`)";
    assert_eq!(control.pending.as_deref(), Some(want));

    let (first_due, pause) = bench.control.retry.unwrap();
    assert_eq!(pause, RETRY_FIRST);
    bench.control.enforce(first_due);
    let (_, pause) = bench.control.retry.unwrap();
    assert_eq!(pause, 2 * RETRY_FIRST, "each failure doubles the pause");

    bench.kernel.0.borrow_mut().refuse = false;
    bench.control.enforce(Instant::now());
    assert!(bench.control.retry.is_none());
    let control = bench.state.control();
    assert_eq!((control.enforced.revision(), &control.pending), (12, &None));
    assert_eq!(bench.last().endpoints.len(), 2);
}

#[test]
fn the_pause_between_tries_is_bounded() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.kernel.0.borrow_mut().refuse = true;
    bench.step();
    for _ in 0..20 {
        bench.control.enforce(Instant::now());
    }
    assert_eq!(bench.control.retry.unwrap().1, RETRY_MOST);
}

#[test]
fn policies_and_tables_keep_the_revision_of_their_last_change() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    bench.step();
    bench.wire(&testing::db());
    bench.step();
    let control = bench.state.control();
    let plan = control.newest.as_ref().unwrap();
    let policy = &plan.snapshot.policies[0].name;
    let table = plan.desired.endpoints[&5].table;
    assert_eq!(control.enforced.policy(policy).unwrap().revision, 11);
    assert_eq!(control.enforced.table(table).unwrap().revision, 11);
    bench.cluster(&CLUSTER.replace("port: '8080'", "port: '9090'"));
    bench.step();
    let control = bench.state.control();
    assert_eq!(control.enforced.policy(policy).unwrap().revision, 13);
    assert_eq!(control.enforced.table(table).unwrap().revision, 13);
    let db = control.newest.as_ref().unwrap().desired.endpoints[&6].table;
    assert_eq!(control.enforced.table(db).unwrap().revision, 12);
}

#[test]
fn rule_names_are_on_disk_before_the_kernel_uses_them() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    bench.kernel.0.borrow_mut().refuse = true;
    bench.step();
    let (_, saved, _) = Journal::open(bench.path("state/rules.json"));
    assert_eq!(saved.len(), 2, "the rule, and who switched default deny on");
}

#[test]
fn names_are_known_before_the_first_packet_can_be_judged() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    bench.kernel.0.borrow_mut().refuse = true;
    bench.step();
    let plan = bench.state.control().newest.clone().unwrap();
    let id = plan.desired.endpoints[&5].id;
    let names = bench.state.names();
    assert_eq!(names.place_of_endpoint(id).unwrap().pod, testing::pod("payment/api"));
}

/// The only policy of the cluster with a slip.
fn slip() -> String {
    CLUSTER.replace("endpointSelector", "endpointSelektor")
}

#[test]
fn a_policy_that_turned_bad_keeps_its_last_good_version_across_restarts() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    bench.step();
    let good = bench.last();
    bench.cluster(&slip());
    bench.step();
    assert_eq!(bench.last().tables, good.tables);
    let mut bench = bench.restart().restart();
    assert_eq!(bench.last().tables, good.tables);
    bench.check_installed(&[5]);
    // A new pod is covered by the last good version, too.
    bench.wire(&testing::db());
    bench.step();
    bench.check_installed(&[5, 6]);
    assert_eq!(bench.state.control().last_error, None);
}

#[test]
fn a_policy_that_turns_bad_while_no_agent_runs_keeps_its_last_good_version() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    bench.step();
    let good = bench.last();
    bench.cluster("{");
    let bench = bench.restart();
    assert_eq!(bench.policies(), ["api"]);
    // Who is in the cluster is not remembered: nobody is installed by guess.
    bench.check_installed(&[]);
    bench.cluster(&slip());
    let bench = bench.restart();
    assert_eq!(bench.last().tables, good.tables);
}

#[test]
fn what_was_removed_from_good_files_does_not_come_back_with_a_restart() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    let more = bench.path("cluster/more.yaml");
    replace(&more, POLICY);
    bench.step();
    assert_eq!(bench.policies(), ["api", "more"]);
    fs::remove_file(&more).unwrap();
    bench.step();
    replace(&more, "{");
    let bench = bench.restart();
    assert_eq!(bench.policies(), ["api"]);
}

const POLICY: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: more, namespace: payment}
spec: {endpointSelector: {}, egress: [{}]}
";

#[test]
fn a_first_start_that_finds_a_refused_policy_installs_nobody_it_may_be_about() {
    let mut bench = bench();
    bench.cluster(&slip());
    bench.wire(&testing::api());
    bench.step();
    bench.check_installed(&[]);
    let control = bench.state.control();
    let (error, _) = control.last_error.clone().expect("the status says it");
    assert!(error.contains("CiliumNetworkPolicy/payment/api"), "{error}");
    let bench = bench.restart();
    bench.check_installed(&[]);
    bench.cluster(CLUSTER);
    bench.restart().check_installed(&[5]);
}

#[test]
fn a_new_policy_that_is_refused_changes_nothing_for_pods_in_force_also_after_a_restart() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    bench.step();
    let bad = POLICY.replace("endpointSelector", "endpointSelektor");
    replace(&bench.path("cluster/more.yaml"), &bad);
    bench.step();
    bench.check_installed(&[5]);
    bench.wire(&testing::db());
    bench.step();
    bench.check_installed(&[5]);
    let mut bench = bench.restart();
    bench.check_installed(&[5]);
    replace(&bench.path("cluster/more.yaml"), POLICY);
    bench.step();
    bench.check_installed(&[5, 6]);
}

#[test]
fn a_bad_endpoint_record_hides_no_other() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    fs::write(bench.path("state/endpoints/sg9.json"), "{").unwrap();
    bench.step();
    assert_eq!(bench.last().endpoints.len(), 1);
    let (error, _) = bench.state.control().last_error.clone().unwrap();
    assert!(error.contains("sg9.json"), "{error}");
}

#[test]
fn a_running_loop_sees_changes_and_stops_when_told() {
    let Bench { mut control, root, .. } = bench();
    let state = Arc::clone(&control.state);
    replace(&root.path().join("cluster/all.yaml"), CLUSTER);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(10);
            while state.control().enforced.revision() < 11 && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
            cni::record::write(&root.path().join("state/endpoints"), &testing::api()).unwrap();
            while state.control().enforced.revision() < 12 && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
        });
        control.start();
        control.run(&stop);
    });
    assert_eq!(state.control().enforced.revision(), 12);
    assert!(state.counters().is_some());
}

pub(super) const NODE_POLICY: &str = "---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: shut}
spec:
  nodeSelector: {}
  ingress: [{fromEntities: [world], toPorts: [{ports: [{port: '22', protocol: TCP}]}]}]
";

/// How the node is judged, as the kernel was told last.
pub(super) fn host(bench: &Bench) -> Option<datapath::HostSubject> {
    bench.last().host.subject
}

fn confirm(bench: &mut Bench, names: &[&str]) -> Vec<String> {
    answer(bench, names).unwrap().iter().map(ToString::to_string).collect()
}

/// What whoever confirms is told.
pub(super) fn answer(bench: &mut Bench, names: &[&str]) -> Result<Vec<model::PolicyName>, String> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    bench.state.confirm(crate::state::Confirmation { names, reply });
    let wishes = bench.state.confirmations();
    bench.control.confirm(wishes, Instant::now());
    answer.try_recv().unwrap()
}

#[test]
fn a_node_policy_is_on_trial_until_somebody_confirms_it() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.step();
    assert_eq!(host(&bench), None);
    bench.cluster(&format!("{CLUSTER}{NODE_POLICY}"));
    assert!(bench.step());
    let trial = host(&bench).unwrap().trial.unwrap();
    let left = trial.confirm_by - trial::monotonic();
    assert!((119..=121).contains(&left), "{left}");
    assert!(bench.last().tables.contains_key(&trial.fallback));
    // Whoever comes after does not begin anew.
    let mut bench = bench.restart();
    assert_eq!(host(&bench).unwrap().trial, Some(trial));
    assert_eq!(confirm(&mut bench, &["other"]), Vec::<String>::new());
    assert!(host(&bench).unwrap().trial.is_some());
    assert_eq!(confirm(&mut bench, &[]), ["CiliumClusterwideNetworkPolicy/-/shut"]);
    assert_eq!(host(&bench).unwrap().trial, None);
    let mut bench = bench.restart();
    assert_eq!(host(&bench).unwrap().trial, None, "confirmed is confirmed");
    bench.cluster(CLUSTER);
    bench.step();
    assert_eq!(host(&bench), None);
}

/// Kinds of the events that Hubble has no kind for, with their words.
pub(super) fn other_events(state: &NodeState) -> Vec<(String, String)> {
    use api::proto::flow::agent_event::Notification;
    let events = state.agent_events();
    let mut found = Vec::new();
    for number in events.oldest()..events.next() {
        let answer = events.read(number).unwrap_or_else(|_| panic!("missed")).unwrap();
        if let Some(Notification::Unknown(other)) = answer.agent_event.unwrap().notification {
            found.push((other.r#type, other.notification));
        }
    }
    found
}

#[test]
fn what_somebody_changed_is_told_once_counted_and_shown() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    let stays = || Fault {
        kind: datapath::FaultKind::Program,
        detail: "another program runs first".into(),
        left: Some("not ours".into()),
    };
    bench.control.check();
    assert_eq!(bench.kernel.0.borrow().compared, None, "nothing is in force yet");
    bench.step();
    for _ in 0..2 {
        bench.kernel.0.borrow_mut().faults = vec![stays()];
        bench.control.check();
    }
    assert_eq!(bench.kernel.0.borrow().compared, Some(1));
    let told = "another program runs first; it stays so: not ours";
    let events = other_events(&bench.state);
    let of = |kind: &str| {
        let own = events.iter().filter(|(of, _)| of == kind);
        own.map(|(_, text)| text.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of("fault"), [told]);
    assert_eq!(of("limit"), ["addresses: 95 of 100"]);
    assert_eq!(bench.state.control().last_error.clone().unwrap().0, told);
    let health = bench.state.health();
    assert_eq!((health.open.len(), health.kernel_bytes), (1, 12_345));
    assert_eq!(bench.control.check(), Duration::from_secs(2));
    assert!(bench.state.health().open.is_empty(), "it is gone");
    bench.kernel.0.borrow_mut().unsure = true;
    assert_eq!(bench.control.check(), Duration::from_secs(1), "somebody looks again soon");
}

#[test]
fn a_source_that_cannot_be_read_leaves_what_is_in_force_and_ages() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    bench.step();
    let read = bench.control.health.source_read.unwrap();
    fs::rename(bench.path("cluster"), bench.path("away")).unwrap();
    assert!(!bench.step());
    bench.check_installed(&[5]);
    assert_eq!(bench.control.health.source_read, Some(read), "not read since");
    assert!(other_events(&bench.state).iter().any(|(kind, _)| kind == "error"));
    assert_eq!(bench.state.health().errors, 1);
    fs::rename(bench.path("away"), bench.path("cluster")).unwrap();
    bench.step();
    assert!(bench.control.health.source_read.unwrap() > read);
}

#[test]
fn a_change_that_is_refused_is_counted_and_told() {
    let mut bench = bench();
    bench.cluster(CLUSTER);
    bench.wire(&testing::api());
    bench.kernel.0.borrow_mut().refuse = true;
    bench.step();
    assert_eq!(bench.control.health.refusals, 1);
    let events = other_events(&bench.state);
    let refused = events.iter().find(|(kind, _)| kind == "refused").unwrap();
    assert!(refused.1.contains("9 needed, 8 is the limit"), "{refused:?}");
}
