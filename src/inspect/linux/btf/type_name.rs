//! Types as C writes them. It never prints more than a screen of one, whatever refers to what.

use std::fmt::Write;

use super::{Btf, DEEPEST, Kind};

/// Function pointers that take function pointers are printed so deep.
const NESTED: usize = 3;
const LONGEST: usize = 1000;

impl Btf {
    /// The name of a type, as C writes it: "struct mm_struct *", "char[16]".
    pub fn type_name(&self, id: u32) -> String {
        self.declare(id, "", 0)
    }

    /// A variable or member `name` of the type `id`, as C declares it.
    pub fn declaration(&self, id: u32, name: &str) -> String {
        self.declare(id, name, 0)
    }

    fn declare(&self, mut id: u32, name: &str, nested: usize) -> String {
        let mut text = name.to_owned();
        for _ in 0..DEEPEST {
            let Some(raw) = self.raw(id).filter(|_| text.len() < LONGEST) else {
                return joined(if id == 0 { "void" } else { "?" }, &text);
            };
            match raw.kind {
                Kind::Pointer => text = self.pointer(raw.size_or_type, &text),
                Kind::Array => text.push_str(&raw.array().map(|(_, count)| format!("[{count}]")).unwrap_or_default()),
                Kind::Prototype => text.push_str(&self.parameters(id, nested)),
                Kind::Const | Kind::Volatile | Kind::Restrict => {
                    text = self.qualified(raw.size_or_type, raw.kind, &text);
                }
                Kind::TypeTag => {}
                Kind::Forward => return joined(&self.base(if raw.flag { "union" } else { "struct" }, raw.name), &text),
                Kind::Struct => return joined(&self.base("struct", raw.name), &text),
                Kind::Union => return joined(&self.base("union", raw.name), &text),
                Kind::Enum | Kind::Enum64 => return joined(&self.base("enum", raw.name), &text),
                _ => return joined(self.string(raw.name), &text),
            }
            id = raw.array().map_or(raw.size_or_type, |(element, _)| element);
        }
        joined("?", &text)
    }

    fn base(&self, word: &str, name: u32) -> String {
        match self.string(name) {
            "" => format!("{word} {{...}}"),
            name => format!("{word} {name}"),
        }
    }

    fn pointer(&self, to: u32, text: &str) -> String {
        let target = self.raw(self.resolve_qualifiers(to)).map(|raw| raw.kind);
        match target {
            Some(Kind::Array | Kind::Prototype) => format!("(*{text})"),
            _ => format!("*{text}"),
        }
    }

    fn resolve_qualifiers(&self, mut id: u32) -> u32 {
        for _ in 0..DEEPEST {
            match self.raw(id) {
                Some(raw) if raw.kind.is_alias() && raw.kind != Kind::Typedef => id = raw.size_or_type,
                _ => break,
            }
        }
        id
    }

    /// A qualifier of a pointer stands behind its star, that of another type before it.
    fn qualified(&self, of: u32, kind: Kind, text: &str) -> String {
        let word = match kind {
            Kind::Const => "const",
            Kind::Volatile => "volatile",
            _ => "restrict",
        };
        match (self.raw(self.resolve_qualifiers(of)).map(|raw| raw.kind), text.is_empty()) {
            (Some(Kind::Pointer), true) => format!(" {word}"),
            (Some(Kind::Pointer), false) => format!(" {word} {text}"),
            (_, _) => format!("\u{1}{word} \u{2}{text}"), // `joined` puts it in front
        }
    }

    fn parameters(&self, id: u32, nested: usize) -> String {
        let Some(raw) = self.raw(id).filter(|_| nested < NESTED) else { return "(...)".into() };
        let mut text = String::from("(");
        for (at, (name, id)) in raw.parameters().take(32).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            let last = id == 0 && self.string(name).is_empty();
            let one = if last { "...".into() } else { self.declare(id, self.string(name), nested + 1) };
            let _ = write!(text, "{comma}{one}");
        }
        if text.len() == 1 { "(void)".into() } else { text + ")" }
    }
}

/// Base type and declarator, with the qualifiers that the declarator has collected in front.
fn joined(base: &str, text: &str) -> String {
    let (mut words, mut rest) = (String::new(), String::with_capacity(text.len()));
    let mut front = false;
    for character in text.chars() {
        match character {
            '\u{1}' => front = true,
            '\u{2}' => front = false,
            _ if front => words.push(character),
            _ => rest.push(character),
        }
    }
    let gap = if rest.is_empty() || rest.starts_with([' ', '[', '(']) && !rest.starts_with("(*") { "" } else { " " };
    format!("{words}{base}{gap}{rest}")
}
