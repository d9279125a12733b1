//! Filters the escape sequences in the output of commands, piece by piece.
//!
//! Colours pass only if colours are on. Other sequences of a running command reach a terminal
//! as they are, because the user started the command. Output from the cache may have been
//! printed for another terminal: titles, cursor movements and queries become visible instead.
//! Files and pipes get plain text.

use crate::report::Style;

/// The longest sequence to collect.
const MAX_SEQUENCE: usize = 64;

/// Where the output of a command comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A command that runs now.
    Command,
    /// The cache, or the end of a finished command's output.
    Replay,
}

/// Passes text, and passes, shows or drops escape sequences.
#[derive(Debug)]
pub struct EscapeFilter {
    colors: Colors,
    others: Others,
    state: State,
    /// The escape sequence so far.
    sequence: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colors {
    Pass,
    Drop,
}

/// The treatment of sequences that are not colours, and of control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Pass,
    /// Make them visible as `^[…`.
    Show,
    /// Drop sequences, pass control characters.
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// Within a character, with the number of bytes to come.
    Character(u8),
    /// After `0xC2`, which begins the control characters U+0080 to U+009F.
    Control,
    /// After `ESC`.
    Escape,
    /// After `ESC [`.
    Sequence,
    /// Within a string such as a title, which is dropped.
    String,
}

impl EscapeFilter {
    /// Creates a filter for a style, unless everything may pass.
    pub fn new(style: Style, origin: Origin) -> Option<Self> {
        let colors = if style.color {
            Colors::Pass
        } else {
            Colors::Drop
        };
        let others = match (style.terminal, origin) {
            (true, Origin::Replay) => Others::Show,
            (false, _) if !style.color => Others::Drop,
            _ => Others::Pass,
        };
        if (colors, others) == (Colors::Pass, Others::Pass) {
            return None;
        }
        Some(Self {
            colors,
            others,
            state: State::Text,
            sequence: Vec::new(),
        })
    }

    /// Filters a whole text.
    pub fn filter(style: Style, origin: Origin, text: &str) -> String {
        let Some(mut filter) = Self::new(style, origin) else {
            return text.to_owned();
        };
        let mut out = Vec::new();
        filter.push(text.as_bytes(), &mut out);
        filter.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Filters the next piece into `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            self.take(*byte, out);
        }
    }

    /// Writes an unfinished sequence.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self.state {
            State::Escape | State::Sequence => self.end_other(out),
            State::Control => out.push(0xC2),
            State::Text | State::Character(_) | State::String => {}
        }
        self.state = State::Text;
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.state {
            State::Text => self.text(byte, out),
            State::Escape => self.escape(byte, out),
            State::Sequence => self.sequence(byte, out),
            State::String => self.string(byte, out),
            State::Control if (0x80..=0x9F).contains(&byte) => {
                out.extend(format!("\\xc2\\x{byte:02x}").bytes());
                self.state = State::Text;
            }
            State::Control => {
                out.push(0xC2);
                self.state = State::Character(1);
                self.take(byte, out);
            }
            State::Character(more) if (0x80..=0xBF).contains(&byte) => {
                out.push(byte);
                self.state = match more {
                    0 | 1 => State::Text,
                    more => State::Character(more - 1),
                };
            }
            State::Character(_) => self.text(byte, out),
        }
    }

    fn text(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte == 0x1B {
            self.sequence.push(byte);
            self.state = State::Escape;
            return;
        }
        if self.others != Others::Show {
            out.push(byte);
            self.state = State::Text;
            return;
        }
        self.state = match byte {
            0xC2 => State::Control,
            0xC3..=0xDF => State::Character(1),
            0xE0..=0xEF => State::Character(2),
            0xF0..=0xF7 => State::Character(3),
            _ => State::Text,
        };
        match byte {
            0xC2 => {}
            b'\n' | b'\r' | b'\t' => out.push(byte),
            0..=0x1F | 0x7F => out.extend([b'^', byte ^ 0x40]),
            0x80..=0x9F => out.extend(format!("\\x{byte:02x}").bytes()),
            _ => out.push(byte),
        }
    }

    fn escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        match (self.others, byte) {
            (_, b'[') => {
                self.sequence.push(byte);
                self.state = State::Sequence;
            }
            (Others::Drop, b']' | b'P' | b'X' | b'^' | b'_') => {
                self.sequence.clear();
                self.state = State::String;
            }
            // An intermediate byte: the final one follows.
            (Others::Drop, 0x20..=0x2F) => {}
            (Others::Drop, 0x30..=0x7E) => self.end_other(out),
            _ => {
                if self.others == Others::Drop {
                    // An `ESC` that begins no sequence is data.
                    out.push(0x1B);
                }
                self.end_other(out);
                self.text(byte, out);
            }
        }
    }

    fn sequence(&mut self, byte: u8, out: &mut Vec<u8>) {
        let is_full = self.sequence.len() >= MAX_SEQUENCE;
        match byte {
            0x20..=0x3F if !is_full => self.sequence.push(byte),
            0x20..=0x3F if self.others == Others::Drop => {}
            b'm' if self.is_color() && !is_full => {
                if self.colors == Colors::Pass {
                    out.append(&mut self.sequence);
                    out.push(byte);
                }
                self.sequence.clear();
                self.state = State::Text;
            }
            0x40..=0x7E if self.others == Others::Drop => self.end_other(out),
            _ => {
                self.end_other(out);
                self.text(byte, out);
            }
        }
    }

    /// Drops a string up to `BEL` or `ESC \`. A line break ends it as well, so that a missing
    /// end costs one line only.
    fn string(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            0x07 => self.state = State::Text,
            // The `\` that follows is the final byte of this escape sequence.
            0x1B | b'\n' => self.text(byte, out),
            _ => {}
        }
    }

    fn is_color(&self) -> bool {
        let parameters = self.sequence.iter().skip(2);
        parameters
            .copied()
            .all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':'))
    }

    /// Ends a sequence that is not a colour.
    fn end_other(&mut self, out: &mut Vec<u8>) {
        match self.others {
            Others::Pass => out.extend(&self.sequence),
            Others::Show => {
                out.extend(b"^[");
                out.extend(self.sequence.iter().skip(1));
            }
            Others::Drop => {}
        }
        self.sequence.clear();
        self.state = State::Text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMINAL: Style = Style {
        color: true,
        terminal: true,
        ..Style::PLAIN
    };

    fn pass(style: Style, origin: Origin, pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(mut filter) = EscapeFilter::new(style, origin) else {
            return pieces.concat();
        };
        for piece in pieces {
            filter.push(piece, &mut out);
        }
        filter.finish(&mut out);
        out
    }

    fn replayed(bytes: &[u8]) -> Vec<u8> {
        pass(TERMINAL, Origin::Replay, &[bytes])
    }

    fn piped(bytes: &[u8]) -> Vec<u8> {
        pass(Style::PLAIN, Origin::Command, &[bytes])
    }

    #[test]
    fn replay_passes_text_and_colours() {
        let plain = "ok\t\r\n\u{1b}[1;31mrot\u{1b}[0m \u{1b}[38:2::1:2:3m äé日本 😀 ©";
        assert_eq!(replayed(plain.as_bytes()), plain.as_bytes());
        let bytes = b"\xff\xfe latin \xe4 end";
        assert_eq!(replayed(bytes), bytes);
    }

    #[test]
    fn replay_shows_other_sequences() {
        assert_eq!(replayed(b"\x1b]0;title\x07"), b"^[]0;title^G");
        assert_eq!(replayed(b"\x1b[2J\x1b[6n"), b"^[[2J^[[6n");
        assert_eq!(replayed(b"\x1b[?25h\x1b[>4;2m"), b"^[[?25h^[[>4;2m");
        assert_eq!(replayed(b"\x1bc\x08\x7f\x00"), b"^[c^H^?^@");
        assert_eq!(replayed("\u{9b}31m".as_bytes()), b"\\xc2\\x9b31m");
        assert_eq!(replayed(b"\x9b31m"), b"\\x9b31m");
        assert_eq!(replayed(b"\x1b\x1b[31m"), b"^[\x1b[31m");
        assert_eq!(replayed(b"\x1b[31"), b"^[[31");
        assert_eq!(replayed(b"\xc2"), b"\xc2");
        let long = [b"\x1b[".to_vec(), vec![b'1'; 100], b"m".to_vec()].concat();
        assert_eq!(replayed(&long)[..3], *b"^[[");
    }

    #[test]
    fn pipe_gets_no_escape_sequences() {
        let text = b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07a\x1b]8;;x\x1b\\b\x1b[2K\x1b(Bc\xff\r\n";
        assert_eq!(piped(text), b"red abc\xff\r\n");
        let long = [b"\x1b[".to_vec(), vec![b'1'; 100], b"mx".to_vec()].concat();
        assert_eq!(piped(&long), b"x");
        assert_eq!(piped(b"a\x1b]no end\nb\x1b["), b"a\nb");
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(piped(&bytes), bytes, "no sequence");
    }

    #[test]
    fn forced_colours_pass_everything_to_a_pipe() {
        let style = Style {
            terminal: false,
            ..TERMINAL
        };
        let text = b"\x1b[31m\x1b]0;x\x07";
        assert_eq!(pass(style, Origin::Command, &[text]), text);
        assert_eq!(pass(style, Origin::Replay, &[text]), text);
    }

    #[test]
    fn no_color_drops_only_colours_on_a_terminal() {
        let style = Style {
            color: false,
            ..TERMINAL
        };
        let text = b"\x1b[31mred\x1b[0m\x1b[2K\x1bc\x1b[>4m";
        assert_eq!(
            pass(style, Origin::Command, &[text]),
            b"red\x1b[2K\x1bc\x1b[>4m"
        );
        assert_eq!(pass(style, Origin::Replay, &[b"\x1b[31mred"]), b"red");
    }

    #[test]
    fn filter_accepts_any_piece_size() {
        let text = "a\u{1b}[31mé日\u{9b}\u{1b}]x\u{7}\u{1b}[2Jz".as_bytes();
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        for style in [TERMINAL, Style::PLAIN] {
            assert_eq!(
                pass(style, Origin::Replay, &bytes),
                pass(style, Origin::Replay, &[text])
            );
        }
    }
}
