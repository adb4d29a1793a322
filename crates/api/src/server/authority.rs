//! Connections of a unix socket, whose clients may call the server by its path.
//!
//! gRPC's own clients send a socket's path, escaped (`%2Frun%2Fa.sock`), as the
//! authority, which an HTTP/2 server must refuse: no authority has a `%` there (RFC
//! 3986, 3.2.2). Nobody here cares how it is called, so each such `%` becomes a `-`
//! before the server sees it: same length, so frames and tables stay as they were.
//!
//! Follows frames (RFC 9113, 4.1) and header fields (RFC 7541, 6) only as far as it
//! must to know where an authority lies. What it does not understand it leaves alone.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::{Connected, UdsConnectInfo};

/// A connection that forgives.
#[derive(Debug)]
pub(super) struct Forgiving {
    stream: UnixStream,
    frames: Frames,
}

impl From<UnixStream> for Forgiving {
    fn from(stream: UnixStream) -> Self {
        Self { stream, frames: Frames::default() }
    }
}

impl Connected for Forgiving {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Forgiving {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        if let Some(new) = buffer.filled_mut().get_mut(before..) {
            this.frames.pass(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Forgiving {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// What a client sends before its first frame.
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// Where in the stream of frames one is.
#[derive(Debug)]
enum Place {
    /// Of what is of no interest: so many bytes.
    Skip(usize),
    /// A frame's header, so far.
    Header([u8; FRAME_HEADER], usize),
    /// The length of the padding at the end of a frame.
    Padding { length: usize, priority: usize },
    /// Header fields, and what follows them in the frame.
    Fields { length: usize, padding: usize },
}

#[derive(Debug)]
struct Frames {
    place: Place,
    /// Header fields go on from one frame to the next.
    fields: Fields,
    /// Bytes before the header fields of the present frame.
    ahead: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { place: Place::Skip(PREFACE), fields: Fields::default(), ahead: 0 }
    }
}

impl Frames {
    fn pass(&mut self, mut bytes: &mut [u8]) {
        while let Some(first) = bytes.first_mut() {
            let taken = match &mut self.place {
                Place::Skip(0) => {
                    self.place = Place::Header([0; FRAME_HEADER], 0);
                    0
                }
                Place::Skip(length) => {
                    let taken = bytes.len().min(*length);
                    *length -= taken;
                    taken
                }
                Place::Header(header, filled) => {
                    header[*filled] = *first;
                    *filled += 1;
                    if *filled == FRAME_HEADER {
                        let header = *header;
                        self.begin(header);
                    }
                    1
                }
                Place::Padding { length, priority } => {
                    let (padding, priority) = (usize::from(*first), *priority);
                    let length = length.saturating_sub(1);
                    self.place = block(length, priority, padding);
                    self.ahead = priority;
                    1
                }
                Place::Fields { length: 0, padding } => {
                    self.place = Place::Skip(*padding);
                    0
                }
                Place::Fields { length, padding: _ } => {
                    *length -= 1;
                    match self.ahead.checked_sub(1) {
                        Some(ahead) => self.ahead = ahead,
                        None => *first = self.fields.pass(*first),
                    }
                    1
                }
            };
            bytes = bytes.get_mut(taken..).unwrap_or_default();
        }
    }

    fn begin(&mut self, header: [u8; FRAME_HEADER]) {
        let [a, b, c, kind, flags, ..] = header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let flag = |flag: u8| kind == HEADERS && flags & flag != 0;
        let priority = if flag(PRIORITY) { 5 } else { 0 };
        self.place = match kind {
            HEADERS if flag(PADDED) && length > 0 => Place::Padding { length, priority },
            HEADERS | CONTINUATION => block(length, priority, 0),
            _ => Place::Skip(length),
        };
        if kind == HEADERS {
            self.fields = Fields::default();
            self.ahead = priority;
        }
    }
}

fn block(length: usize, priority: usize, padding: usize) -> Place {
    match length.checked_sub(padding).filter(|length| *length >= priority) {
        Some(length) => Place::Fields { length, padding },
        // Not as the standard has it: the server will say so.
        None => Place::Skip(length),
    }
}

/// Its place in the table that every connection begins with.
const AUTHORITY: usize = 1;
/// Its name, which a client may also write out.
const AUTHORITY_NAME: &[u8] = b":authority";

/// Where in a block of header fields one is.
#[derive(Clone, Copy, Debug, Default)]
enum Fields {
    /// At the beginning of a field.
    #[default]
    Next,
    /// In a number that began in the byte before; then comes this.
    Number { value: usize, shift: u32, then: Then },
    /// At the length of a text.
    Length(Text),
    /// In a text, with so many bytes to come.
    Bytes(Text, usize),
}

/// What a number is.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// An index into the table or a table's size: the whole field.
    Field,
    /// The index of a name, whose value follows.
    Name,
    /// The length of a text.
    Text(Text),
}

#[derive(Clone, Copy, Debug)]
enum Text {
    /// A name, which so far is that of the authority up to here, or is not.
    Name(Option<usize>),
    Value {
        is_authority: bool,
    },
}

impl Fields {
    /// Takes a byte; gives back what is to stand there.
    fn pass(&mut self, byte: u8) -> u8 {
        let bits = |prefix: u32| usize::from(byte) & ((1 << prefix) - 1);
        *self = match *self {
            Self::Next => match byte {
                0x80.. => number(bits(7), 7, Then::Field),
                0x40.. => number(bits(6), 6, Then::Name),
                0x20.. => number(bits(5), 5, Then::Field),
                _ => number(bits(4), 4, Then::Name),
            },
            Self::Number { value, shift, then } => {
                let value = value.saturating_add(bits(7).checked_shl(shift).unwrap_or(0));
                match byte & 0x80 {
                    0 => known(value, then),
                    _ => Self::Number { value, shift: shift + 7, then },
                }
            }
            // Compressed text (the first bit) is not read, and has no `%` to find.
            Self::Length(Text::Value { .. }) if byte & 0x80 != 0 => {
                number(bits(7), 7, Then::Text(Text::Value { is_authority: false }))
            }
            Self::Length(Text::Name(_)) if byte & 0x80 != 0 => {
                number(bits(7), 7, Then::Text(Text::Name(None)))
            }
            Self::Length(text) => number(bits(7), 7, Then::Text(text)),
            Self::Bytes(Text::Name(same), left) => {
                let same = same.filter(|at| AUTHORITY_NAME.get(*at) == Some(&byte));
                after(Text::Name(same.map(|at| at + 1)), left - 1)
            }
            Self::Bytes(text, left) => {
                *self = after(text, left - 1);
                let is_authority = matches!(text, Text::Value { is_authority: true });
                return if is_authority && byte == b'%' { b'-' } else { byte };
            }
        };
        byte
    }
}

/// A number whose first bits are these; all ones: it goes on.
fn number(value: usize, prefix: u32, then: Then) -> Fields {
    if value == (1 << prefix) - 1 {
        Fields::Number { value, shift: 0, then }
    } else {
        known(value, then)
    }
}

fn known(value: usize, then: Then) -> Fields {
    match (then, value) {
        (Then::Field, _) => Fields::Next,
        (Then::Name, 0) => Fields::Length(Text::Name(Some(0))),
        (Then::Name, index) => Fields::Length(Text::Value { is_authority: index == AUTHORITY }),
        (Then::Text(text), length) => after(text, length),
    }
}

/// What comes when so many bytes of a text are left.
fn after(text: Text, left: usize) -> Fields {
    match (text, left) {
        (Text::Name(same), 0) => {
            let is_authority = same == Some(AUTHORITY_NAME.len());
            Fields::Length(Text::Value { is_authority })
        }
        (Text::Value { .. }, 0) => Fields::Next,
        (text, left) => Fields::Bytes(text, left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's stream: preface, an empty SETTINGS, and frames of this kind.
    fn stream(frames: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        for (kind, flags, payload) in frames {
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            bytes.extend(&length[1..]);
            bytes.extend([*kind, *flags, 0, 0, 0, 1]);
            bytes.extend(*payload);
        }
        bytes
    }

    /// Passed whole and byte by byte, it becomes the same.
    #[track_caller]
    fn check(frames: &[(u8, u8, &[u8])], want: &[(u8, u8, &[u8])]) {
        let mut whole = stream(frames);
        Frames::default().pass(&mut whole);
        assert_eq!(whole, stream(want));
        let mut bytewise = stream(frames);
        let mut state = Frames::default();
        bytewise.chunks_mut(1).for_each(|byte| state.pass(byte));
        assert_eq!(bytewise, whole);
    }

    /// `:method POST`, an authority by the table's name, and a header of one's own.
    const ESCAPED: &[u8] = b"\x83\x41\x09%2Fa.sock\x40\x01%\x01%\x04\x01%";
    const FORGIVEN: &[u8] = b"\x83\x41\x09-2Fa.sock\x40\x01%\x01%\x04\x01%";

    #[test]
    fn the_percent_signs_of_an_authority_become_dashes_and_no_others() {
        check(&[(HEADERS, 4, ESCAPED)], &[(HEADERS, 4, FORGIVEN)]);
        check(&[(0, 0, ESCAPED)], &[(0, 0, ESCAPED)]);
    }

    #[test]
    fn an_authority_that_is_written_out_is_one_too() {
        let field = |name: &[u8], value: &[u8]| {
            let (name_length, length) = (name.len() as u8, value.len() as u8);
            [b"\x40", &[name_length][..], name, &[length], value].concat()
        };
        let names: [&[u8]; 4] = [b":authority", b":authoritx", b":authorit", b":authority2"];
        for (name, want) in names.into_iter().zip([&b"-2F"[..], b"%2F", b"%2F", b"%2F"]) {
            check(&[(HEADERS, 4, &field(name, b"%2F"))], &[(HEADERS, 4, &field(name, want))]);
        }
    }

    #[test]
    fn padding_priority_and_continuations_are_followed() {
        let padded = [b"\x02\0\0\0\0\0", ESCAPED, b"%%"].concat();
        let want = [b"\x02\0\0\0\0\0", FORGIVEN, b"%%"].concat();
        let flags = PADDED | PRIORITY;
        check(&[(HEADERS, flags, &padded)], &[(HEADERS, flags, &want)]);
        let (a, b) = (ESCAPED.split_at(3), FORGIVEN.split_at(3));
        check(
            &[(HEADERS, 0, a.0), (CONTINUATION, 4, a.1)],
            &[(HEADERS, 0, b.0), (CONTINUATION, 4, b.1)],
        );
    }

    #[test]
    fn long_and_compressed_texts_are_passed_over() {
        let long = [&b"\x41\x7f\x49"[..], &b"%".repeat(200), b"\x41\x81%\x41\x01%"].concat();
        let want = [&b"\x41\x7f\x49"[..], &b"-".repeat(200), b"\x41\x81%\x41\x01-"].concat();
        check(&[(HEADERS, 4, &long)], &[(HEADERS, 4, &want)]);
    }

    #[test]
    fn no_bytes_make_it_panic_or_change_their_number() {
        let mut seed = 1u64;
        for _ in 0..2000 {
            let mut bytes = stream(&[]);
            for _ in 0..300 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                bytes.push((seed >> 56) as u8);
            }
            Frames::default().pass(&mut bytes);
        }
    }
}
