//! Programs that judge nothing: they note what is asked of them, and refuse or
//! delay as a test wants. `pinned.rs` uses the real ones.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use cni::programs::{Programs, ProgramsError};

use crate::node::run_in;

/// What a test lets go wrong.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Trouble {
    #[default]
    None,
    AttachFails,
    IsEnforcedFails,
    NeverEnforced,
    DetachFails,
}

#[derive(Debug, Default)]
struct State {
    attached: BTreeSet<u32>,
    attachments: usize,
    looks: usize,
    /// States of all links, node's and pod's, at each attachment.
    seen: Vec<String>,
}

/// The fake, with its memory.
#[derive(Debug, Default)]
pub struct Fake {
    trouble: Trouble,
    /// `is_enforced` says yes from this look on.
    enforced_at_look: usize,
    /// Where the pod is, to see its links at the moment of attachment.
    pod: Option<PathBuf>,
    state: Mutex<State>,
}

impl Fake {
    pub fn with(trouble: Trouble) -> Self {
        Self { trouble, ..Self::default() }
    }

    pub fn seeing(pod: PathBuf) -> Self {
        Self { pod: Some(pod), ..Self::default() }
    }

    pub fn enforced_at_look(look: usize) -> Self {
        Self { enforced_at_look: look, ..Self::default() }
    }

    pub fn attached(&self) -> usize {
        self.state.lock().unwrap().attached.len()
    }

    pub fn attachments(&self) -> usize {
        self.state.lock().unwrap().attachments
    }

    pub fn looks(&self) -> usize {
        self.state.lock().unwrap().looks
    }

    pub fn seen(&self) -> Vec<String> {
        self.state.lock().unwrap().seen.clone()
    }

    /// As if somebody had detached them by hand.
    pub fn forget_attachments(&self) {
        self.state.lock().unwrap().attached.clear();
    }
}

/// `NAME FLAGS`, a line for each interface of the calling thread's namespace.
fn links() -> String {
    let output = Command::new("ip").args(["-br", "link"]).output().expect("ip");
    String::from_utf8(output.stdout).expect("text")
}

#[derive(Debug, thiserror::Error)]
#[error("the verifier said no")]
struct Refused;

fn refuse<T>() -> Result<T, ProgramsError> {
    Err(ProgramsError::Refused(Box::new(Refused)))
}

impl Programs for Fake {
    fn attach(&self, _: &Path, interface: &str, ifindex: u32) -> Result<(), ProgramsError> {
        let mut state = self.state.lock().unwrap();
        let own = links();
        assert!(own.contains(interface), "attached in the node's namespace: {own}");
        state.seen.push(own);
        if let Some(pod) = &self.pod {
            state.seen.push(run_in(pod, links));
        }
        if self.trouble == Trouble::AttachFails {
            return refuse();
        }
        state.attachments += 1;
        state.attached.insert(ifindex);
        Ok(())
    }

    fn detach(&self, _: &Path, ifindex: u32) -> Result<(), ProgramsError> {
        if self.trouble == Trouble::DetachFails {
            return refuse();
        }
        self.state.lock().unwrap().attached.remove(&ifindex);
        Ok(())
    }

    fn is_attached(&self, _: &Path, ifindex: u32) -> Result<bool, ProgramsError> {
        Ok(self.state.lock().unwrap().attached.contains(&ifindex))
    }

    fn is_enforced(&self, _: &Path, _: u32) -> Result<bool, ProgramsError> {
        let mut state = self.state.lock().unwrap();
        state.looks += 1;
        match self.trouble {
            Trouble::IsEnforcedFails => refuse(),
            Trouble::NeverEnforced => Ok(false),
            _ => Ok(state.looks >= self.enforced_at_look),
        }
    }
}
