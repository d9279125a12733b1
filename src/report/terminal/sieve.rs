//! Makes visible what in a command's output could act on a terminal: everything but
//! text, line ends, tabs and colours. It works on a stream, piece by piece.
//!
//! Output that a command prints now passes a terminal as it is: the person started the
//! command. What comes out of the cache may have been printed elsewhere, for another
//! terminal; a title, a cursor movement or an answer-back request has no place in it.

/// The longest colour sequence that is let through.
const LONGEST: usize = 64;

/// Lets text and colours through and shows other escape sequences as `^[…`.
#[derive(Debug, Default)]
pub struct Sieve {
    state: State,
    /// The part of an escape sequence seen so far.
    sequence: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Within a character of several bytes, of which so many are to come.
    Character(u8),
    /// After `0xC2`, which begins the control characters U+0080 to U+009F.
    Control,
    Escape,
    /// After `ESC [`.
    Sequence,
}

impl Sieve {
    /// Takes in the next piece, and adds what may be shown to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            self.take(*byte, out);
        }
    }

    /// Shows what was held back because a sequence might have come of it.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self.state {
            State::Escape | State::Sequence => self.show_sequence(out),
            State::Control => out.push(0xC2),
            State::Text | State::Character(_) => {}
        }
        self.state = State::Text;
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        match (self.state, byte) {
            (State::Escape, b'[') => {
                self.sequence.push(byte);
                self.state = State::Sequence;
            }
            (State::Sequence, b'0'..=b'9' | b';' | b':') if self.sequence.len() < LONGEST => {
                self.sequence.push(byte);
            }
            (State::Sequence, b'm') => {
                out.append(&mut self.sequence);
                out.push(byte);
                self.state = State::Text;
            }
            (State::Escape | State::Sequence, _) => {
                self.show_sequence(out);
                self.text(byte, out);
            }
            (State::Control, 0x80..=0x9F) => {
                out.extend(format!("\\xc2\\x{byte:02x}").bytes());
                self.state = State::Text;
            }
            (State::Control, _) => {
                out.push(0xC2);
                self.state = State::Character(1);
                self.take(byte, out);
            }
            (State::Character(more), 0x80..=0xBF) => {
                out.push(byte);
                self.state = match more {
                    0 | 1 => State::Text,
                    more => State::Character(more - 1),
                };
            }
            (State::Text | State::Character(_), _) => self.text(byte, out),
        }
    }

    fn text(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.state = match byte {
            0x1B => State::Escape,
            0xC2 => State::Control,
            0xC3..=0xDF => State::Character(1),
            0xE0..=0xEF => State::Character(2),
            0xF0..=0xF7 => State::Character(3),
            _ => State::Text,
        };
        match byte {
            0x1B => self.sequence.push(byte),
            0xC2 => {}
            b'\n' | b'\r' | b'\t' => out.push(byte),
            0..=0x1F | 0x7F => out.extend([b'^', byte ^ 0x40]),
            0x80..=0x9F => out.extend(format!("\\x{byte:02x}").bytes()),
            _ => out.push(byte),
        }
    }

    /// Shows a sequence that is not a colour.
    fn show_sequence(&mut self, out: &mut Vec<u8>) {
        out.extend(b"^[");
        out.extend(self.sequence.drain(..).skip(1));
        self.state = State::Text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sieved(bytes: &[u8]) -> Vec<u8> {
        let (mut sieve, mut out) = (Sieve::default(), Vec::new());
        sieve.push(bytes, &mut out);
        sieve.finish(&mut out);
        out
    }

    #[test]
    fn text_colours_and_odd_bytes_pass() {
        let plain = "ok\t\r\n\u{1b}[1;31mrot\u{1b}[0m \u{1b}[38:2::1:2:3m äé日本 😀 ©";
        assert_eq!(sieved(plain.as_bytes()), plain.as_bytes());
        assert_eq!(
            sieved(b"\xff\xfe latin \xe4 end"),
            b"\xff\xfe latin \xe4 end"
        );
    }

    #[test]
    fn what_acts_on_a_terminal_is_shown() {
        assert_eq!(sieved(b"\x1b]0;title\x07"), b"^[]0;title^G");
        assert_eq!(sieved(b"\x1b[2J\x1b[6n"), b"^[[2J^[[6n");
        assert_eq!(sieved(b"\x1bc\x08\x7f\x00"), b"^[c^H^?^@");
        assert_eq!(sieved("\u{9b}31m".as_bytes()), b"\\xc2\\x9b31m");
        assert_eq!(sieved(b"\x9b31m"), b"\\x9b31m");
        assert_eq!(sieved(b"\x1b\x1b[31m"), b"^[\x1b[31m");
        assert_eq!(sieved(b"\x1b[31"), b"^[[31");
        assert_eq!(sieved(b"\xc2"), b"\xc2");
        let long = [b"\x1b[".to_vec(), vec![b'1'; 100], b"m".to_vec()].concat();
        assert_eq!(sieved(&long)[..3], *b"^[[");
    }

    #[test]
    fn pieces_are_as_good_as_the_whole() {
        let text = "a\u{1b}[31mé日\u{9b}\u{1b}]x\u{1b}[2Jz".as_bytes();
        let (mut sieve, mut out) = (Sieve::default(), Vec::new());
        for byte in text {
            sieve.push(&[*byte], &mut out);
        }
        sieve.finish(&mut out);
        assert_eq!(out, sieved(text));
    }
}
