//! Draws what a terminal shows as SVG: text with colours in a window.
//!
//! Knows the escape sequences that choose colours and weight (ECMA-48, SGR); any other
//! is left out.

use std::fmt::Write;

/// Longer lines go on in the next, at a space where there is one.
const COLUMNS: usize = 118;
/// Columns by which they are further in, and most that they take over.
const HANG: usize = 4;
const DEEPEST: usize = 11;
const SIZE: usize = 13;
/// Tenths of a pixel a character is wide, and pixels a line is high.
const WIDTH: usize = 78;
const LINE: usize = 19;
const MARGIN: usize = 18;
const BAR: usize = 36;

const BACKGROUND: &str = "#11161d";
const FRAME: &str = "#1c232d";
const EDGE: &str = "#303a47";
const TEXT: &str = "#d5dce5";
const STRONG: &str = "#ffffff";
const FAINT: &str = "#8493a5";
const FONT: &str =
    "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace";

/// How characters look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Look {
    colour: Option<&'static str>,
    bold: bool,
}

type Run = (Look, String);

/// A window with this title and text.
pub fn picture(title: &str, text: &str) -> String {
    let lines: Vec<_> = lines(text.trim_matches('\n')).iter().flat_map(|it| wrapped(it)).collect();
    let width = COLUMNS * WIDTH / 10 + 2 * MARGIN;
    let height = BAR + lines.len() * LINE + 2 * MARGIN;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"{FONT}\" font-size=\"{SIZE}\">\n\
         <title>{}</title>\n\
         <rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"10\" fill=\"{BACKGROUND}\" \
         stroke=\"{EDGE}\"/>\n\
         <path d=\"M0.5 {BAR}V10.5a10 10 0 0 1 10-10H{}a10 10 0 0 1 10 10V{BAR}z\" \
         fill=\"{FRAME}\" stroke=\"{EDGE}\"/>",
        escaped(title),
        width - 1,
        height - 1,
        width - 11,
    );
    for (at, colour) in [(20, "#e8695f"), (40, "#e5b84a"), (60, "#5fb562")] {
        let _ = writeln!(out, "<circle cx=\"{at}\" cy=\"18\" r=\"6\" fill=\"{colour}\"/>");
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"23\" fill=\"{FAINT}\" text-anchor=\"middle\">{}</text>",
        width / 2,
        escaped(title)
    );
    let _ = writeln!(out, "<g fill=\"{TEXT}\" xml:space=\"preserve\">");
    for (number, line) in lines.iter().enumerate() {
        let y = BAR + MARGIN + number * LINE + SIZE;
        let _ = writeln!(out, "{}", drawn(line, y));
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// A line of text; the length is given so that columns stand whatever the font.
fn drawn(line: &[Run], y: usize) -> String {
    let length: usize = line.iter().map(|(_, text)| text.chars().count()).sum();
    if length == 0 {
        return String::new();
    }
    let tenths = length * WIDTH;
    let mut out = format!(
        "<text x=\"{MARGIN}\" y=\"{y}\" textLength=\"{}.{}\" xml:space=\"preserve\">",
        tenths / 10,
        tenths % 10
    );
    for (look, text) in line {
        let text = escaped(text);
        let colour = look.colour.or(look.bold.then_some(STRONG));
        let _ = match (colour, look.bold) {
            (None, _) => write!(out, "{text}"),
            (Some(colour), false) => write!(out, "<tspan fill=\"{colour}\">{text}</tspan>"),
            (Some(colour), true) => {
                write!(out, "<tspan fill=\"{colour}\" font-weight=\"bold\">{text}</tspan>")
            }
        };
    }
    out.push_str("</text>");
    out
}

/// What each line of the text is.
fn lines(text: &str) -> Vec<Vec<Run>> {
    let mut look = Look::default();
    let mut lines = vec![Vec::<Run>::new()];
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        match char {
            '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                let mut sequence = String::new();
                let end = loop {
                    match rest.next() {
                        Some(char @ '\u{40}'..='\u{7e}') => break Some(char),
                        Some(char) => sequence.push(char),
                        None => break None,
                    }
                };
                if end == Some('m') {
                    sequence.split(';').for_each(|code| look = look.after(code));
                }
            }
            '\n' => lines.push(vec![]),
            char if char.is_control() => {}
            char => {
                if let Some(line) = lines.last_mut() {
                    put(line, look, char);
                }
            }
        }
    }
    lines
}

/// One line as it fits: what does not goes on below, further in.
fn wrapped(line: &[Run]) -> Vec<Vec<Run>> {
    let look = |(look, text): &Run| text.chars().map(|char| (*look, char)).collect::<Vec<_>>();
    let mut rest: Vec<(Look, char)> = line.iter().flat_map(look).collect();
    let indent = rest.iter().take_while(|(_, char)| *char == ' ').count().min(DEEPEST) + HANG;
    let mut lines = Vec::new();
    while rest.len() > COLUMNS {
        let space = rest.iter().take(COLUMNS + 1).rposition(|(_, char)| *char == ' ');
        let at = space.filter(|at| *at > COLUMNS / 2).unwrap_or(COLUMNS);
        let tail = rest.split_off(at);
        lines.push(std::mem::take(&mut rest));
        rest.extend(std::iter::repeat_n((Look::default(), ' '), indent));
        rest.extend(tail.into_iter().skip_while(|(_, char)| *char == ' '));
    }
    lines.push(rest);
    let join = |chars: Vec<(Look, char)>| {
        let mut line = Vec::new();
        chars.into_iter().for_each(|(look, char)| put(&mut line, look, char));
        line
    };
    lines.into_iter().map(join).collect()
}

fn put(line: &mut Vec<Run>, look: Look, char: char) {
    match line.last_mut() {
        Some((last, text)) if *last == look => text.push(char),
        _ => line.push((look, char.to_string())),
    }
}

impl Look {
    fn after(self, code: &str) -> Self {
        match code {
            "" | "0" => Self::default(),
            "1" => Self { bold: true, ..self },
            "2" | "90" => Self { colour: Some(FAINT), ..self },
            "31" | "91" => Self { colour: Some("#ff7b72"), ..self },
            "32" | "92" => Self { colour: Some("#6fd08c"), ..self },
            "33" | "93" => Self { colour: Some("#e5b84a"), ..self },
            "34" | "94" => Self { colour: Some("#79b8ff"), ..self },
            "35" | "95" => Self { colour: Some("#d2a8ff"), ..self },
            "36" | "96" => Self { colour: Some("#76d9e6"), ..self },
            "39" => Self { colour: None, ..self },
            _ => self,
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_last_until_they_are_taken_back() {
        let found = lines("a\u{1b}[31mb\nc\u{1b}[0md\u{1b}[2J");
        let red = Look { colour: Some("#ff7b72"), bold: false };
        let plain = Look::default();
        let run = |look, text: &str| (look, text.to_owned());
        assert_eq!(
            found,
            [vec![run(plain, "a"), run(red, "b")], vec![run(red, "c"), run(plain, "d")]]
        );
    }

    #[test]
    fn a_line_that_is_too_long_goes_on_in_the_next() {
        let texts = |text: &str| -> Vec<String> {
            let found = lines(text).iter().flat_map(|line| wrapped(line)).collect::<Vec<_>>();
            found.iter().map(|line| line.iter().map(|(_, text)| &**text).collect()).collect()
        };
        let long = "x".repeat(COLUMNS - 2);
        assert_eq!(texts(&format!("{long} yyyy")), [long, "    yyyy".to_owned()]);
        assert_eq!(texts(&"x".repeat(COLUMNS + 3)), ["x".repeat(COLUMNS), "    xxx".to_owned()]);
        assert_eq!(texts(" a"), [" a"]);
    }

    #[test]
    fn what_markup_would_be_is_text() {
        let drawn = picture("a < b", "<script> & co");
        assert!(drawn.contains("&lt;script&gt; &amp; co") && drawn.contains("a &lt; b"), "{drawn}");
    }
}
