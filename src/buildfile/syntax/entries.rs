//! Scans the arguments and properties of a node, token by token. It is the part of
//! [`Scan`] between a node's name and its end, and does not know where a node ends.

use super::lex::{self, Kind, Token};
use super::mistake::{self, Mark};
use super::structure::{MOST_IN_NODE, Scan};

impl Scan<'_, '_> {
    /// Scans a token after a node's name.
    pub(super) fn in_entries(&mut self, token: Token) {
        match token.kind {
            Kind::Newline if self.is_between_dash_and_entry() => self.spaced(),
            Kind::Newline | Kind::Semicolon => self.end_node(),
            Kind::Open => {
                self.end_entry();
                let dash = self.node().dash.take();
                self.open(token, dash);
            }
            Kind::Close => self.close(token),
            _ if self.node().is_spoilt => self.blanks.push(token.start..token.end),
            Kind::SlashDash => self.dash_before_entry(token),
            Kind::Equals => self.equals(token),
            Kind::ParenOpen | Kind::ParenClose => {
                self.unexpected(token, "text with parentheses in it must be quoted");
            }
            _ => self.value(token),
        }
    }

    fn is_between_dash_and_entry(&mut self) -> bool {
        let node = self.node();
        node.dash.is_some() && node.last.is_none()
    }

    pub(super) fn dash_before_entry(&mut self, token: Token) {
        self.end_entry();
        let node = self.node();
        node.end = token.end;
        match node.dash {
            None => node.dash = Some(token.start),
            Some(_) => self.unexpected(token, "one `/-` is enough"),
        }
    }

    fn equals(&mut self, token: Token) {
        let last = self.node().last.map(|last| self.word(last));
        let is_name = last.is_some_and(|w| !lex::is_number_like(w) && !w.starts_with("#"));
        let is_raw = self.node().last.is_some_and(|last| last.kind == Kind::Raw);
        if self.node().equals.is_some() || !(is_name || is_raw) {
            self.problem(
                "text with `=` in it must be quoted",
                Mark::token(token, "this belongs to no NAME=VALUE"),
                "put the whole value in quotes: \"…\"",
            );
            self.blanks.push(token.start..token.end);
            return;
        }
        let node = self.node();
        node.equals = Some(token.start);
        node.end = token.end;
    }

    /// Scans a string, number or keyword, or a token in the place of one.
    fn value(&mut self, token: Token) {
        let is_property = self.node().equals.is_some();
        if !is_property {
            self.end_entry();
            if !self.node().is_spaced {
                self.glued(token);
                return;
            }
        }
        let node = self.node();
        let start = node.last.map_or(token.start, |last| last.start);
        node.end = token.end;
        node.is_spaced = false;
        node.entries += 1;
        let is_too_many = node.entries > MOST_IN_NODE;
        if is_too_many {
            self.too_many("arguments and properties of one node", token);
        } else if let Some(mistake) = mistake::of_value(self.text, token) {
            self.report_token(token, mistake);
            let from = self.node().dash.take().unwrap_or(start);
            self.blanks.push(from..token.end);
            self.node().last = None;
            self.node().equals = None;
            return;
        }
        self.node().last = Some(token);
        if is_property {
            self.node().last = Some(Token { start, ..token });
            self.node().equals = None;
            self.end_entry();
        }
    }

    fn glued(&mut self, token: Token) {
        self.problem(
            "a blank is missing between two values",
            Mark::token(token, "this starts where the value before it ends"),
            "put a blank between them, or one pair of quotes around both",
        );
        self.blanks.push(token.start..token.end);
    }

    /// Ends the current argument or property.
    pub(super) fn end_entry(&mut self) {
        if let Some(at) = self.node().equals.take() {
            let start = self.node().last.map_or(at, |name| name.start);
            self.problem(
                "a value is missing after `=`",
                Mark::new(at..at + 1, "no value follows"),
                "write NAME=VALUE, and put values with special characters in quotes",
            );
            let from = self.node().dash.take().unwrap_or(start);
            self.blanks.push(from..at + 1);
            self.node().last = None;
            return;
        }
        let node = self.node();
        if let (Some(last), Some(dash)) = (node.last.take(), node.dash) {
            node.dash = None;
            self.blanks.push(dash..last.end);
        }
    }

    /// Scans a token between a line-joining backslash and the end of its line.
    pub(super) fn is_joining(&mut self, token: Token) -> bool {
        let Some(at) = self.backslash else {
            return false;
        };
        match token.kind {
            Kind::Space => return true,
            Kind::BlockComment | Kind::LineComment => {
                self.blanks.push(token.start..token.end);
                return true;
            }
            Kind::Newline => {
                self.backslash = None;
                self.spaced();
                return true;
            }
            _ => {}
        }
        self.backslash = None;
        self.problem(
            "a `\\` outside a string must be the last thing on its line",
            Mark::new(at..at + 1, "it joins this line and the next"),
            "put the text in quotes, and write each `\\` in it as `\\\\`",
        );
        self.blanks.push(at..at + 1);
        false
    }
}
