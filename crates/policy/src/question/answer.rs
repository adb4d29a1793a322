//! Answers, and their JSON form.

use std::collections::BTreeMap;

use model::{Direction, DropReason, Labels, Node, PolicyName, Reserved, RuleId};

use crate::conflict::{Disagreement, disagreement};
use crate::evaluate::{Judgement, Probe, judge};
use crate::mode::World;
use crate::question::ends::{Target, Who, port_of};
use crate::question::inside::{self, Inside, Route};
use crate::question::probe::{Ask, ProbeError};
use crate::question::{Asked, explain};
use crate::rule::{Authentication, Rule, Subject};
use crate::table::Why;

/// Whether traffic passes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It does.
    Allowed,
    /// It does not.
    Denied,
}

impl Verdict {
    /// As it is written in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

/// What one end's policies say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SideAnswer {
    /// Whether traffic passes this end.
    pub verdict: Verdict,
    /// Why: `rule`, `default-deny` and so on.
    pub reason: &'static str,
    /// Hubble's number of the reason, for denials that have one.
    pub code: Option<u8>,
    /// The rules that decide together, sorted.
    pub rules: Vec<RuleId>,
    /// For a default denial: the policies that switched it on, sorted.
    pub because: Vec<PolicyName>,
    /// What the rules contradict each other about, if nothing passes for that.
    pub contradiction: Option<Disagreement>,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Whether traffic passes.
    pub verdict: Verdict,
    /// What the sender's policies say; `None`: nobody judges there.
    pub egress: Option<SideAnswer>,
    /// What the receiver's policies say.
    pub ingress: Option<SideAnswer>,
    /// What is said about the request inside, and by which rule.
    pub inside: Option<(Verdict, Option<RuleId>)>,
    /// How it came to that.
    pub explanation: explain::Explanation,
}

/// The reason of a denial of packets that carry packets.
pub(super) const CARRIES_PACKETS: &str = "encapsulation_traffic_is_prohibited";

/// One end as the subject of policies.
pub(super) struct Judged {
    pub labels: Labels,
    /// Whether it is a node, whose overlay packs what was judged.
    pub is_node: bool,
    pub ports: BTreeMap<String, (u8, u16)>,
}

/// One end's question, put to its policies.
pub(super) struct Side {
    pub subject: Judged,
    pub peer: Labels,
    pub direction: Direction,
    pub protocol: u8,
    pub port: u16,
    /// The name by which the peer is asked for.
    pub name: Option<String>,
}

impl Side {
    pub fn probe(&self) -> Probe<'_> {
        let (direction, protocol, port) = (self.direction, self.protocol, self.port);
        Probe { direction, peer: &self.peer, protocol, port }
    }

    /// Names of the destination's ports.
    pub fn named(&self) -> BTreeMap<String, (u8, u16)> {
        match self.direction {
            Direction::Ingress => self.subject.ports.clone(),
            Direction::Egress => crate::references::named_ports(&self.peer),
        }
    }
}

impl Asked<'_> {
    /// Answers a question.
    pub fn answer(&self, ask: &Ask) -> Result<Answer, ProbeError> {
        let (from, to) = (self.ends(&ask.from)?, self.ends(&ask.to)?);
        if to.is_empty() {
            return Ok(no_backend());
        }
        let mut answers: Vec<(String, Answer)> = Vec::new();
        for from in &from {
            for to in &to {
                let answer = if stays_on_the_wire(ask, from, to) {
                    is_a_clusterip()
                } else {
                    self.between(ask, from, to)?
                };
                let known = answers.iter().any(|(_, known)| same(known, &answer));
                if !known {
                    answers.push((format!("{} to {}", from.name, to.name), answer));
                }
            }
        }
        let several = answers.len() > 1;
        match answers.pop() {
            Some((_, answer)) if !several => Ok(answer),
            last => {
                let list: Vec<String> = answers
                    .iter()
                    .chain(&last)
                    .map(|(ends, answer)| format!("{ends}: {}", answer.verdict.as_str()))
                    .collect();
                Err(ProbeError(format!("the ends have different answers: {}", list.join("; "))))
            }
        }
    }

    fn between(&self, ask: &Ask, from: &Target<'_>, to: &Target<'_>) -> Result<Answer, ProbeError> {
        let port = port_of(ask, to)?;
        let family = ask.family.unwrap_or_else(|| family(ask, &from.who, &to.who));
        if let (Who::Pod { pod, cluster }, Who::Pod { pod: other, cluster: elsewhere }) =
            (&from.who, &to.who)
            && pod.name == other.name
            && cluster == elsewhere
        {
            return Ok(Answer::unjudged("a pod always reaches itself"));
        }
        let (from_node, to_node) = (self.place(&from.who, &to.who), self.place(&to.who, &from.who));
        let learnt = match &to.who {
            Who::Name(name) => {
                self.judged(&from.who, to_node).is_some_and(|s| self.asks_for(&s, name))
            }
            _ => false,
        };
        let side = |who: &Who<'_>, own: Option<&Node>, other: &Who<'_>, direction| {
            let subject = self.judged(who, own)?;
            let peer = self.peer_labels(other, own, learnt, family);
            let name = match other {
                Who::Name(name) => Some(name.clone()),
                _ => None,
            };
            Some(Side { subject, peer, direction, protocol: ask.protocol, port, name })
        };
        let egress = side(&from.who, from_node, &to.who, Direction::Egress);
        let ingress = side(&to.who, to_node, &from.who, Direction::Ingress);
        let provable = ask.protocol == 6 && is_workload(&from.who) && is_workload(&to.who);
        Ok(self.judge_sides(ask, egress.as_ref(), ingress.as_ref(), provable))
    }

    fn judge_sides(
        &self,
        ask: &Ask,
        egress: Option<&Side>,
        ingress: Option<&Side>,
        provable: bool,
    ) -> Answer {
        let judged = |side: &Side| {
            let judgement = judge(
                &self.policies,
                &side.subject.labels,
                &side.subject.ports,
                &side.probe(),
                &self.options,
            );
            self.said(ask, side, &judgement, provable)
        };
        let (egress_said, ingress_said) = (egress.map(judged), ingress.map(judged));
        let explanation = explain::explain(
            &self.policies,
            &self.options,
            egress.zip(egress_said.as_ref().map(|(answer, _)| answer)),
            ingress.zip(ingress_said.as_ref().map(|(answer, _)| answer)),
        );
        let said: Vec<&(SideAnswer, Inside)> = egress_said.iter().chain(&ingress_said).collect();
        let passes = said.iter().all(|(answer, _)| answer.verdict == Verdict::Allowed);
        let mut inside = None;
        if passes {
            for (_, looked) in &said {
                match looked {
                    Inside::NotLooked => {}
                    Inside::Refused(_) => {
                        inside = Some((Verdict::Denied, None));
                        break;
                    }
                    Inside::Admitted(rules) => {
                        inside = Some((Verdict::Allowed, rules.first().cloned()));
                    }
                }
            }
        }
        let refused = inside.as_ref().is_some_and(|(verdict, _)| *verdict == Verdict::Denied);
        let verdict = if passes && !refused { Verdict::Allowed } else { Verdict::Denied };
        let (egress, ingress) =
            (egress_said.map(|(answer, _)| answer), ingress_said.map(|(answer, _)| answer));
        Answer { verdict, egress, ingress, inside, explanation }
    }

    /// The node that an end is on.
    fn place<'n>(&self, who: &Who<'n>, other: &Who<'n>) -> Option<&'n Node>
    where
        Self: 'n,
    {
        let of = |who: &Who<'n>| match who {
            Who::Pod { pod, cluster: None } => {
                self.cluster.nodes.iter().find(|node| node.name == pod.node).map(|n| n.name.clone())
            }
            Who::Node(node) => Some(node.name.clone()),
            _ => None,
        };
        let name = match who {
            Who::OwnNode => of(other),
            who => of(who),
        }?;
        match who {
            Who::Node(node) => Some(node),
            _ => self.node_named(&name),
        }
    }

    /// The end as a subject, if policies of this cluster judge it.
    fn judged(&self, who: &Who<'_>, place: Option<&Node>) -> Option<Judged> {
        match who {
            Who::Pod { pod, cluster: None } => Some(Judged {
                labels: self.pod_labels(pod, &self.options.cluster),
                is_node: false,
                ports: Self::ports(pod),
            }),
            Who::Node(_) | Who::OwnNode => {
                let labels = self.node_subject(place?);
                let selected =
                    self.policies.iter().flat_map(|policy| &policy.rules).any(|rule| {
                        matches!(rule.subject, Subject::Nodes(_)) && rule.selects(&labels)
                    });
                selected.then(|| Judged { labels, is_node: true, ports: BTreeMap::new() })
            }
            Who::Entity(entity) => judged_entity(*entity),
            Who::Address(address) => judged_entity(self.reserved_at(*address)?),
            Who::Pod { .. } | Who::Apart(_) | Who::Name(_) => None,
        }
    }

    /// Whether a subject may ask for a name where somebody learns from it.
    fn asks_for(&self, subject: &Judged, name: &str) -> bool {
        let request = crate::layer7::Request { dns: Some(name.to_owned()), ..Default::default() };
        let deciding = self.policies.iter().filter(|policy| policy.mode.counts_in(World::Live));
        deciding.flat_map(|policy| &policy.rules).any(|rule| {
            rule.direction == Direction::Egress
                && rule.selects(&subject.labels)
                && rule
                    .layer7
                    .as_ref()
                    .is_some_and(|layer7| layer7.is_dns() && layer7.admits(&request))
        })
    }
}

impl<'a> Asked<'a> {
    fn node_named(&self, name: &str) -> Option<&'a Node> {
        self.cluster.nodes.iter().find(|node| node.name == name)
    }
}

fn family(ask: &Ask, from: &Who<'_>, to: &Who<'_>) -> u8 {
    let is_v6 = |who: &Who<'_>| match who {
        Who::Address(address) => address.is_ipv6(),
        Who::Pod { pod, .. } => {
            !pod.addresses.is_empty() && pod.addresses.iter().all(|at| at.is_ipv6())
        }
        _ => false,
    };
    let text_v6 = |text: &str| {
        text.rsplit_once("ip:").is_some_and(|(_, at)| at.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let v6 =
        ask.protocol == 58 || is_v6(from) || is_v6(to) || text_v6(&ask.from) || text_v6(&ask.to);
    if v6 { 6 } else { 4 }
}

/// Those without labels that policies select all the same.
fn judged_entity(entity: Reserved) -> Option<Judged> {
    let labels = entity.identity().labels;
    matches!(entity, Reserved::Health | Reserved::Ingress | Reserved::Init).then(|| Judged {
        labels,
        is_node: false,
        ports: BTreeMap::new(),
    })
}

/// Whether an end can prove who it is.
fn is_workload(who: &Who<'_>) -> bool {
    matches!(who, Who::Pod { .. })
}

impl Asked<'_> {
    /// What one end's policies say, the demand for proof included.
    fn said(
        &self,
        ask: &Ask,
        side: &Side,
        judgement: &Judgement<'_>,
        provable: bool,
    ) -> (SideAnswer, Inside) {
        let Judgement { decision, default_deny, deciding } = judgement;
        let (reason, code) = match decision.why {
            Why::Unenforced => ("unenforced", None),
            Why::Rule | Why::LocalHost => ("rule", None),
            Why::DefaultDeny => ("default-deny", Some(DropReason::POLICY_DENIED.0)),
            Why::DenyRule => ("deny-rule", Some(DropReason::POLICY_DENY.0)),
            Why::Unsupported => ("unsupported", Some(DropReason::POLICY_DENIED.0)),
        };
        let verdict = if decision.allow { Verdict::Allowed } else { Verdict::Denied };
        let mut answer = SideAnswer {
            verdict,
            reason,
            code,
            rules: decision.rules.rules.clone(),
            because: decision.rules.because.clone(),
            contradiction: contradiction(deciding),
        };
        if !side.subject.is_node && judgement.is_unnamed_carrier(&side.probe()) {
            answer.verdict = Verdict::Denied;
            answer.reason = CARRIES_PACKETS;
            (answer.code, answer.contradiction) = (Some(DropReason::ENCAPSULATION.0), None);
            return (answer, Inside::NotLooked);
        }
        if decision.why != Why::Rule {
            return (answer, Inside::NotLooked);
        }
        answer.contradiction = None;
        let (named, probe) = (side.named(), side.probe());
        let route = Route { probe: &probe, ports: &named, options: &self.options };
        let failed = match inside::authentication(deciding, &route) {
            Some(Authentication::AlwaysFails) => true,
            Some(Authentication::Required) => !provable,
            Some(Authentication::Disabled) | None => false,
        };
        if failed {
            const AUTH_REQUIRED: u8 = 189;
            answer.verdict = Verdict::Denied;
            (answer.reason, answer.code) = ("auth-required", Some(AUTH_REQUIRED));
            return (answer, Inside::NotLooked);
        }
        let looked = inside::look(deciding, &ask.request, *default_deny, &route);
        (answer, looked)
    }
}

/// What the first two of some rules that disagree disagree about.
fn contradiction(deciding: &[&Rule]) -> Option<Disagreement> {
    let after = |at: usize| deciding.iter().skip(at + 1);
    deciding
        .iter()
        .enumerate()
        .find_map(|(at, one)| after(at).find_map(|other| disagreement(one, other)))
}

fn same(one: &Answer, other: &Answer) -> bool {
    (one.verdict, &one.egress, &one.ingress, &one.inside)
        == (other.verdict, &other.egress, &other.ingress, &other.inside)
}

/// What becomes of a packet to a service that nobody serves.
fn no_backend() -> Answer {
    const SERVICE_BACKEND_NOT_FOUND: u8 = 158;
    path_alone("service_backend_not_found", SERVICE_BACKEND_NOT_FOUND)
}

/// Only sockets of TCP and UDP are led to a service; a pod's echo request or SCTP
/// association is sent to the service's own address.
fn stays_on_the_wire(ask: &Ask, from: &Target<'_>, to: &Target<'_>) -> bool {
    const ICMP: u8 = 1;
    const ICMPV6: u8 = 58;
    const SCTP: u8 = 132;
    matches!(ask.protocol, ICMP | ICMPV6 | SCTP)
        && is_workload(&from.who)
        && to.service.is_some_and(|service| !service.headless)
}

/// What becomes of such a packet.
fn is_a_clusterip() -> Answer {
    const IS_A_CLUSTERIP: u8 = 174;
    path_alone("is_a_clusterip", IS_A_CLUSTERIP)
}

/// A denial at the sender that no policy decides.
fn path_alone(reason: &'static str, code: u8) -> Answer {
    let side = SideAnswer {
        verdict: Verdict::Denied,
        reason,
        code: Some(code),
        rules: Vec::new(),
        because: Vec::new(),
        contradiction: None,
    };
    Answer {
        verdict: Verdict::Denied,
        egress: Some(side),
        ingress: None,
        inside: None,
        explanation: explain::Explanation::default(),
    }
}

impl Answer {
    /// The answer where no policy is asked.
    fn unjudged(why: &str) -> Self {
        let explanation = explain::Explanation {
            remarks: vec![why.to_owned()],
            ..explain::Explanation::default()
        };
        Self { verdict: Verdict::Allowed, egress: None, ingress: None, inside: None, explanation }
    }

    /// The end that decides: the first that denies, else the last that judges.
    pub(super) fn deciding(&self) -> Option<&SideAnswer> {
        let denies = |side: &&SideAnswer| side.verdict == Verdict::Denied;
        let sides = || self.egress.iter().chain(&self.ingress);
        sides().find(denies).or_else(|| sides().last())
    }
}
