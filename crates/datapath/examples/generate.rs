//! Offers an agent's rings denied packets, each a flow of its own, faster than any
//! sender could: the kernel makes them itself.
//!
//! `generate PINS PER_SECOND SECONDS`: a test run of the benchmark's program repeats one
//! frame of the pod on the loopback interface and gives it another source port and
//! destination each time, as long as the agent at `PINS` has not let that pod send.
//! Prints how many there were and how long it took, in microseconds. `flood` of crate
//! `agent` starts it.

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::{Object, ObjectBuilder, ProgramInput};

type Outcome<T> = Result<T, Box<dyn Error>>;

#[repr(C, align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/bench.bpf.o")));

/// Destinations that take turns; with the source ports, which do too, no two packets of
/// a minute are the same.
const DESTINATIONS: u32 = 1 << 16;
const PORT: u32 = 443;
/// Packets of one call into the kernel: a fraction of a millisecond.
const AT_ONCE: u32 = 256;
/// TC_ACT_SHOT: see `bpf/lib/base.h`.
const DROP: u32 = 2;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [pins, per_second, seconds] = words.as_slice() else {
        return Err("usage: generate PINS PER_SECOND SECONDS".into());
    };
    let (rate, during) = (per_second.parse::<u64>()?, Duration::from_secs(seconds.parse()?));
    let object = load(Path::new(pins))?;
    let mut programs = object.progs_mut();
    let program =
        programs.find(|it| it.name() == "bench_egress").ok_or("no program `bench_egress`")?;
    let frame = frame();
    let started = Instant::now();
    let mut offered = 0u64;
    while started.elapsed() < during {
        let due = u128::from(rate) * started.elapsed().as_micros() / 1_000_000;
        if u128::from(offered) >= due {
            thread::sleep(Duration::from_micros(100));
            continue;
        }
        let input =
            ProgramInput { data_in: Some(&frame), repeat: AT_ONCE, ..ProgramInput::default() };
        let output = program.test_run(input)?;
        if output.return_value != DROP {
            return Err(format!("a packet was let go: {}", output.return_value).into());
        }
        offered += u64::from(AT_ONCE);
    }
    println!("{offered} {}", started.elapsed().as_micros());
    Ok(())
}

/// The benchmark's program on the maps of a running agent.
fn load(pins: &Path) -> Outcome<Object> {
    let mut open = ObjectBuilder::default().open_memory(&OBJECT.0)?;
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if name == ".rodata.bench" {
            // `struct bench_keys`: count, peers, port, in turn, fresh.
            let words = [DESTINATIONS, DESTINATIONS, PORT, 1, 1];
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            map.set_initial_value(&bytes)?;
        } else if !name.contains('.') {
            map.reuse_pinned_map(pins.join("maps").join(&name))?;
        }
    }
    for mut program in open.progs_mut() {
        let wanted = program.name() == "bench_egress";
        program.set_autoload(wanted);
    }
    Ok(open.load()?)
}

/// A TCP segment with SYN of the pod that `flood` has made.
fn frame() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 5];
    frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend([10, 1, 0, 5]);
    frame.extend([198, 51, 100, 7]);
    frame.extend([0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
    frame
}
