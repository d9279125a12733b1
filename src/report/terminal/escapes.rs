//! Filters the escape sequences in the output of commands, piece by piece.
//!
//! The output of a running command reaches a terminal as it is, because the user started the
//! command. Output from the cache may have been printed for another terminal: only text,
//! line breaks, tabs and colours pass; titles, cursor movements and queries become visible.

/// The longest colour sequence that passes.
const MAX_SEQUENCE: usize = 64;

/// Passes text and colours, and makes other escape sequences visible as `^[…`.
#[derive(Debug, Default)]
pub struct EscapeFilter {
    state: State,
    /// The escape sequence so far.
    sequence: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Within a character, with the number of bytes to come.
    Character(u8),
    /// After `0xC2`, which begins the control characters U+0080 to U+009F.
    Control,
    Escape,
    /// After `ESC [`.
    Sequence,
}

impl EscapeFilter {
    /// Filters the next piece into `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            self.take(*byte, out);
        }
    }

    /// Writes an unfinished sequence.
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
            (State::Sequence, b'0'..=b'9' | b';' | b':') if self.sequence.len() < MAX_SEQUENCE => {
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

    /// Writes a sequence that is not a colour in visible form.
    fn show_sequence(&mut self, out: &mut Vec<u8>) {
        out.extend(b"^[");
        out.extend(self.sequence.drain(..).skip(1));
        self.state = State::Text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(bytes: &[u8]) -> Vec<u8> {
        let (mut filter, mut out) = (EscapeFilter::default(), Vec::new());
        filter.push(bytes, &mut out);
        filter.finish(&mut out);
        out
    }

    #[test]
    fn filter_passes_text_and_colours() {
        let plain = "ok\t\r\n\u{1b}[1;31mrot\u{1b}[0m \u{1b}[38:2::1:2:3m äé日本 😀 ©";
        assert_eq!(filtered(plain.as_bytes()), plain.as_bytes());
        assert_eq!(
            filtered(b"\xff\xfe latin \xe4 end"),
            b"\xff\xfe latin \xe4 end"
        );
    }

    #[test]
    fn filter_shows_other_sequences() {
        assert_eq!(filtered(b"\x1b]0;title\x07"), b"^[]0;title^G");
        assert_eq!(filtered(b"\x1b[2J\x1b[6n"), b"^[[2J^[[6n");
        assert_eq!(filtered(b"\x1bc\x08\x7f\x00"), b"^[c^H^?^@");
        assert_eq!(filtered("\u{9b}31m".as_bytes()), b"\\xc2\\x9b31m");
        assert_eq!(filtered(b"\x9b31m"), b"\\x9b31m");
        assert_eq!(filtered(b"\x1b\x1b[31m"), b"^[\x1b[31m");
        assert_eq!(filtered(b"\x1b[31"), b"^[[31");
        assert_eq!(filtered(b"\xc2"), b"\xc2");
        let long = [b"\x1b[".to_vec(), vec![b'1'; 100], b"m".to_vec()].concat();
        assert_eq!(filtered(&long)[..3], *b"^[[");
    }

    #[test]
    fn filter_accepts_any_piece_size() {
        let text = "a\u{1b}[31mé日\u{9b}\u{1b}]x\u{1b}[2Jz".as_bytes();
        let (mut filter, mut out) = (EscapeFilter::default(), Vec::new());
        for byte in text {
            filter.push(&[*byte], &mut out);
        }
        filter.finish(&mut out);
        assert_eq!(out, filtered(text));
    }
}
