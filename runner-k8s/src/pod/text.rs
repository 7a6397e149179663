//! JSON, written once and in order.
//!
//! Owns how text gets there; what is written is the callers' business. A tree of a pod takes some
//! thousand allocations, for something that is only sent.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// JSON that is being written. Commas are put where they belong; that what is opened is closed is up
/// to the caller.
#[derive(Clone, Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// With room for so many bytes.
    pub(super) fn with_capacity(length: usize) -> Self {
        Self(String::with_capacity(length))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// What comes next is another item, if there was one before.
    fn separate(&mut self) {
        if !matches!(self.0.as_bytes().last(), None | Some(b'{' | b'[' | b':')) {
            self.0.push(',');
        }
    }

    /// `{`, `[`.
    pub(super) fn open(&mut self, bracket: char) {
        self.separate();
        self.0.push(bracket);
    }

    /// `}`, `]`.
    pub(super) fn close(&mut self, bracket: char) {
        self.0.push(bracket);
    }

    /// `"key":`
    pub(super) fn key(&mut self, key: &str) {
        self.string(key);
        self.0.push(':');
    }

    /// JSON that is written already.
    pub(super) fn raw(&mut self, json: &str) {
        self.separate();
        self.0.push_str(json);
    }

    pub(super) fn string(&mut self, text: &str) {
        self.separate();
        self.0.push('"');
        self.escaped(text);
        self.0.push('"');
    }

    /// A text in which Kubernetes replaces `$(NAME)`; `$$` is how to say `$`.
    pub(super) fn dollars(&mut self, text: &str) {
        self.separate();
        self.0.push('"');
        let mut rest = text;
        while let Some(at) = memchr::memchr(b'$', rest.as_bytes()) {
            self.escaped(&rest[..at]);
            self.0.push_str("$$");
            rest = &rest[at + 1..];
        }
        self.escaped(rest);
        self.0.push('"');
    }

    pub(super) fn number(&mut self, number: impl Into<serde_json::Number>) {
        self.separate();
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{}", number.into());
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.raw(if flag { "true" } else { "false" });
    }

    /// `"key":"text"`
    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        self.string(text);
    }

    /// The same, unless it is empty.
    pub(super) fn text_if_any(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.text(key, text);
        }
    }

    pub(super) fn strings<S: AsRef<str>>(&mut self, texts: impl IntoIterator<Item = S>) {
        self.open('[');
        texts.into_iter().for_each(|text| self.string(text.as_ref()));
        self.close(']');
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.raw("null"),
            Value::Bool(flag) => self.flag(*flag),
            Value::Number(number) => self.number(number.clone()),
            Value::String(text) => self.string(text),
            Value::Array(list) => {
                self.open('[');
                list.iter().for_each(|value| self.value(value));
                self.close(']');
            }
            Value::Object(map) => self.object(map),
        }
    }

    pub(super) fn object(&mut self, map: &Map<String, Value>) {
        self.open('{');
        for (key, value) in map {
            self.key(key);
            self.value(value);
        }
        self.close('}');
    }

    /// The inside of a string.
    fn escaped(&mut self, text: &str) {
        let odd = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        // Without a way out, so that the compiler looks at many bytes at once: nearly no text has one.
        if !text.bytes().fold(false, |found, byte| found | odd(byte)) {
            self.0.push_str(text);
            return;
        }
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| odd(*byte)) {
            self.0.push_str(&text[plain..at]);
            plain = at + 1;
            match byte {
                b'"' => self.0.push_str("\\\""),
                b'\\' => self.0.push_str("\\\\"),
                b'\n' => self.0.push_str("\\n"),
                b'\r' => self.0.push_str("\\r"),
                b'\t' => self.0.push_str("\\t"),
                0x08 => self.0.push_str("\\b"),
                0x0c => self.0.push_str("\\f"),
                // Writing to a String cannot fail.
                other => drop(write!(self.0, "\\u{other:04x}")),
            }
        }
        self.0.push_str(&text[plain..]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::Text;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[\\x00-\\x7f]{0,9}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a\\x00-\\x22\\\\{\\[,:]{0,4}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(value in any_json()) {
            let mut text = Text::default();
            text.value(&value);
            prop_assert_eq!(text.as_str(), value.to_string());
        }

        #[test]
        fn k8s_40_each_dollar_is_written_twice_and_nothing_else_changes(value in "[a$\"\\\\\\n()ü]{0,12}") {
            let mut text = Text::default();
            text.dollars(&value);
            let read: String = serde_json::from_str(text.as_str()).unwrap();
            prop_assert_eq!(read, value.replace('$', "$$"));
        }
    }

    #[test]
    fn commas_stand_between_items_only() {
        let mut text = Text::default();
        text.open('{');
        text.text("a{", "b[");
        text.text_if_any("no", "");
        text.key("list:");
        text.strings(["x:", "y,"]);
        text.key("empty");
        text.strings([""; 0]);
        text.key("raw");
        text.raw("{}");
        text.key("n");
        text.number(7);
        text.close('}');
        let read: Value = serde_json::from_str(text.as_str()).unwrap();
        assert_eq!(
            read,
            json!({ "a{": "b[", "list:": ["x:", "y,"], "empty": [], "raw": {}, "n": 7 })
        );
    }
}
