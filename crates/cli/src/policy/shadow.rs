//! What would be, beside what is: what manifests would mean if others were applied
//! on top of them, and if their policies in shadow mode were in force.

use std::collections::BTreeSet;
use std::path::PathBuf;

use manifest::{Document, Refusal};
use policy::question::{Answer, Ask, Asked, Cluster, ProbeError};
use policy::{Options, Policy, shadow_of};

use super::input::{self, Input, InputError};

/// The cluster and its policies as they would be.
pub struct Candidate {
    cluster: Cluster,
    policies: Vec<Policy>,
}

/// Why there is no candidate.
pub enum NoCandidate {
    /// A path cannot be read.
    Input(InputError),
    /// What is refused would not be applied.
    Refused(Vec<Refusal>),
}

impl Candidate {
    /// Reads what is to be applied on top of `live`: of two objects with one name
    /// the candidate's counts.
    pub fn read(paths: &[PathBuf], live: &[Document]) -> Result<Self, NoCandidate> {
        let Input { documents, mut refusals, .. } =
            input::read(paths).map_err(NoCandidate::Input)?;
        refusals.extend(manifest::policies(&documents).refusals);
        refusals.extend(manifest::cluster(&documents).1);
        if !refusals.is_empty() {
            return Err(NoCandidate::Refused(refusals));
        }
        let replaced: BTreeSet<_> = documents.iter().map(name).collect();
        let kept = live.iter().filter(|document| !replaced.contains(&name(document)));
        let applied: Vec<Document> = kept.chain(&documents).cloned().collect();
        let policies = manifest::policies(&applied).policies;
        // What the candidate leaves in shadow mode is not in force once it is applied:
        // but the question is what all that is not in force yet would do.
        let policies = shadow_of(&policies).unwrap_or(policies);
        Ok(Self { cluster: manifest::cluster(&applied).0, policies })
    }

    /// What policies in shadow mode would do, and retired ones not; `None`: there are
    /// neither.
    pub fn of_modes(cluster: &Cluster, policies: &[Policy]) -> Option<Self> {
        let policies = shadow_of(policies)?;
        Some(Self { cluster: cluster.clone(), policies })
    }
}

/// What tells objects apart; a namespace that is not named is the default one.
fn name(document: &Document) -> (&str, &str, &str, &str) {
    let namespace = match document.namespace() {
        "" => "default",
        namespace => namespace,
    };
    (document.group(), &document.kind, namespace, document.name())
}

/// What is, and what would be beside it.
pub struct Beside<'a> {
    pub live: Asked<'a>,
    pub shadow: Option<Asked<'a>>,
}

/// The answer, and what it would be if that is asked.
pub type Answered = (Answer, Option<Result<Answer, ProbeError>>);

impl<'a> Beside<'a> {
    pub fn new(live: Asked<'a>, candidate: Option<&'a Candidate>, options: &Options) -> Self {
        let shadow =
            candidate.map(|candidate| Asked::new(&candidate.cluster, &candidate.policies, options));
        Self { live, shadow }
    }

    pub fn answer(&self, ask: &Ask) -> Result<Answered, ProbeError> {
        let answer = self.live.answer(ask)?;
        Ok((answer, self.shadow.as_ref().map(|shadow| shadow.answer(ask))))
    }
}
