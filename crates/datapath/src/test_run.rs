//! Runs the pod programs on a given frame (BPF_PROG_TEST_RUN): the same code
//! that judges traffic, without an interface. For tests and benchmarks.

use std::time::Duration;

use libbpf_rs::ProgramInput;
use model::{Direction, Verdict};

use crate::error::MapError;
use crate::object::{self, Datapath};

/// What a program did with a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PacketOutcome {
    /// Whether it let the frame go on.
    pub verdict: Verdict,
    /// Mean time of one run.
    pub duration: Duration,
}

/// Runs a pod program on frames, as the endpoint on the loopback interface
/// (number 1), which is what a test run stands in for.
#[derive(Debug)]
pub struct TestRun<'datapath> {
    datapath: &'datapath Datapath,
}

/// Interface that the kernel takes for a test run.
const LOOPBACK: u32 = 1;

/// `struct __sk_buff` of the kernel's API, in words, and where `mark` and
/// `ingress_ifindex` are.
const SK_BUFF_WORDS: usize = 48;
const MARK_WORD: usize = 2;
const INGRESS_IFINDEX_WORD: usize = 9;

impl<'datapath> TestRun<'datapath> {
    /// Of an open datapath.
    pub fn new(datapath: &'datapath Datapath) -> Self {
        Self { datapath }
    }

    /// Index of the interface that frames appear on.
    pub fn ifindex() -> u32 {
        LOOPBACK
    }

    /// Judges one Ethernet frame that the endpoint sent (egress) or is to get
    /// (ingress), `repeat` times.
    pub fn run(
        &self,
        direction: Direction,
        frame: &[u8],
        repeat: u32,
    ) -> Result<PacketOutcome, MapError> {
        self.run_from(direction, frame, 0, repeat)
    }

    /// The same for a frame that the node forwards from another interface; 0: one
    /// that the node itself sent, or that the pod did.
    pub fn run_from(
        &self,
        direction: Direction,
        frame: &[u8],
        from: u32,
        repeat: u32,
    ) -> Result<PacketOutcome, MapError> {
        self.run_program(program_of(direction), frame, from, repeat)
    }

    /// Judges one frame on an uplink of the node: one that it got (ingress) or that
    /// leaves it (egress); `from` as above.
    pub fn run_uplink(
        &self,
        direction: Direction,
        frame: &[u8],
        from: u32,
        repeat: u32,
    ) -> Result<PacketOutcome, MapError> {
        let name = match direction {
            Direction::Egress => "host_egress",
            Direction::Ingress => "host_ingress",
        };
        self.run_program(name, frame, from, repeat)
    }

    fn run_program(
        &self,
        name: &str,
        frame: &[u8],
        from: u32,
        repeat: u32,
    ) -> Result<PacketOutcome, MapError> {
        let failed = |source| MapError { step: "run", map: name.to_owned(), source };
        let program = object::program(self.datapath.object(), name)
            .ok_or_else(|| failed(std::io::Error::from(std::io::ErrorKind::NotFound).into()))?;
        let mut context = [0; SK_BUFF_WORDS * 4];
        let place = INGRESS_IFINDEX_WORD * 4;
        context[place..place + 4].copy_from_slice(&from.to_ne_bytes());
        let input = ProgramInput {
            data_in: Some(frame),
            context_in: Some(&mut context),
            repeat,
            ..ProgramInput::default()
        };
        let output = program.test_run(input).map_err(failed)?;
        const PASS: u32 = u32::MAX;
        let verdict =
            if output.return_value == PASS { Verdict::Forwarded } else { Verdict::Dropped };
        Ok(PacketOutcome { verdict, duration: output.duration })
    }

    /// What is left of a frame's mark when its program has run.
    pub fn mark_after(
        &self,
        direction: Direction,
        frame: &[u8],
        mark: u32,
    ) -> Result<u32, MapError> {
        let name = program_of(direction);
        let failed = |source| MapError { step: "run", map: name.to_owned(), source };
        let program = object::program(self.datapath.object(), name)
            .ok_or_else(|| failed(std::io::Error::from(std::io::ErrorKind::NotFound).into()))?;
        let mut context = [0; SK_BUFF_WORDS * 4];
        let mut after = context;
        let place = MARK_WORD * 4..MARK_WORD * 4 + 4;
        context[place.clone()].copy_from_slice(&mark.to_ne_bytes());
        let input = ProgramInput {
            data_in: Some(frame),
            context_in: Some(&mut context),
            context_out: Some(&mut after),
            ..ProgramInput::default()
        };
        program.test_run(input).map_err(failed)?;
        let left = <[u8; 4]>::try_from(&after[place]).unwrap_or_default();
        Ok(u32::from_ne_bytes(left))
    }
}

fn program_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "pod_egress",
        Direction::Ingress => "pod_ingress",
    }
}
