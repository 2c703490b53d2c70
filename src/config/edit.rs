//! Changes one waiting room in the text of a configuration file and leaves every other byte as it is.
//!
//! **Method.** The tree knows where each value was written. A changed setting is written over the old one; a room that
//! loses a setting is written anew, in flow style. The result is read again and compared with what was wanted: a file in
//! a form that this does not understand (aliases, odd layouts) is refused, never damaged.
//!
//! **Fails.** Comments inside a room that is written anew are lost. Variables (`${NAME}`) in a room are kept where only
//! other settings of it are changed, and are a reason to refuse where it would be written anew.

use std::fmt;
use std::ops::Range;

use serde_json::{Map, Value};

use super::parse::parse;
use super::tree::{Content, Id, Scalar, Tree};

const LIST: &str = "waiting_rooms";

/// What is to be done with a room.
#[derive(Clone, Debug)]
pub enum RoomEdit {
    /// A room more, with these settings; `name` is one of them.
    Add(Map<String, Value>),
    /// All settings of this room.
    Replace(String, Map<String, Value>),
    /// These settings of this room; `null` takes one away (RFC 7396, one level deep).
    Change(String, Map<String, Value>),
    /// No such room any more.
    Remove(String),
}

/// Why a text cannot be changed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditError {
    /// There is no room of that name.
    Unknown,
    /// There is one already.
    Exists,
    /// A room is called otherwise than its settings say.
    Renamed,
    /// The file is written in a form that is not understood here.
    Form,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no waiting room is named so",
            Self::Exists => "a waiting room has that name already",
            Self::Renamed => "a room keeps its name",
            Self::Form => "the file is written in a form that has to be changed by hand",
        })
    }
}

impl std::error::Error for EditError {}

/// The text with that change.
///
/// # Errors
/// See [`EditError`].
pub fn edit_room(text: &str, edit: &RoomEdit, env: &dyn Fn(&str) -> Option<String>) -> Result<String, EditError> {
    let parsed = parse(text, env).map_err(|_| EditError::Form)?;
    let file = File { text, tree: &parsed.tree };
    let (changed, wanted) = file.edit(edit)?;
    let again = parse(&changed, env).map_err(|_| EditError::Form)?;
    let is = json(&again.tree, Tree::ROOT);
    if is == wanted { Ok(changed) } else { Err(EditError::Form) }
}

struct File<'a> {
    text: &'a str,
    tree: &'a Tree,
}

impl File<'_> {
    /// The changed text, and what it should say.
    fn edit(&self, edit: &RoomEdit) -> Result<(String, Value), EditError> {
        let list = self.tree.child(Tree::ROOT, LIST);
        let rooms = list.map_or(&[][..], |list| self.tree.items(list));
        let name = |id: &Id| self.tree.child(*id, "name").and_then(|name| self.tree.scalar(name)).map(|s| &*s.text);
        let find = |wanted: &str| rooms.iter().position(|id| name(id) == Some(wanted)).ok_or(EditError::Unknown);
        let named = |room: &Map<String, Value>, wanted: &str| {
            let same = room.get("name").is_none_or(|name| name == wanted);
            if same { Ok(()) } else { Err(EditError::Renamed) }
        };
        let mut whole = json(self.tree, Tree::ROOT);
        let mut wanted: Vec<Value> = rooms.iter().map(|id| json(self.tree, *id)).collect();
        let text = match edit {
            RoomEdit::Add(room) => {
                let name = room.get("name").and_then(Value::as_str).unwrap_or_default();
                if find(name).is_ok() {
                    return Err(EditError::Exists);
                }
                wanted.insert(0, Value::Object(room.clone()));
                self.add(list, rooms, &flow(&Value::Object(room.clone())))?
            }
            RoomEdit::Replace(name, room) => {
                named(room, name)?;
                let at = find(name)?;
                let mut room = room.clone();
                room.insert("name".to_owned(), Value::from(name.as_str()));
                wanted[at] = Value::Object(room);
                self.put(self.extent(rooms[at])?, &flow(&wanted[at]))
            }
            RoomEdit::Change(name, settings) => {
                named(settings, name)?;
                let at = find(name)?;
                self.change(rooms[at], settings, &mut wanted[at])?
            }
            RoomEdit::Remove(name) => {
                let at = find(name)?;
                wanted.remove(at);
                self.remove(list.ok_or(EditError::Form)?, rooms, at)?
            }
        };
        if let Value::Object(whole) = &mut whole {
            whole.insert(LIST.to_owned(), Value::Array(wanted));
        }
        Ok((text, whole))
    }

    fn change(&self, room: Id, settings: &Map<String, Value>, wanted: &mut Value) -> Result<String, EditError> {
        let Value::Object(whole) = wanted else { return Err(EditError::Form) };
        for (key, value) in settings {
            match value {
                Value::Null => drop(whole.remove(key)),
                value => drop(whole.insert(key.clone(), value.clone())),
            }
        }
        let there = |key: &String| self.tree.child(room, key);
        if settings.iter().any(|(key, value)| value.is_null() && there(key).is_some()) {
            if self.has_variables(room) {
                return Err(EditError::Form);
            }
            let anew = flow(wanted);
            return Ok(self.put(self.extent(room)?, &anew));
        }
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        let mut new = String::new();
        let first = self.tree.pairs(room).first().ok_or(EditError::Form)?;
        let is_flow = self.starts_flow(room);
        let indent = " ".repeat(first.mark.column - 1);
        for (key, value) in settings.iter().filter(|(_, value)| !value.is_null()) {
            match there(key) {
                Some(id) => edits.push((self.extent(id)?, flow(value))),
                None if is_flow => new.push_str(&format!("{key}: {}, ", flow(value))),
                None => new.push_str(&format!("{key}: {}\n{indent}", flow(value))),
            }
        }
        if !new.is_empty() {
            let at = self.offset(first.mark.line, first.mark.column).ok_or(EditError::Form)?;
            edits.push((at..at, new));
        }
        edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        let mut text = self.text.to_owned();
        for (range, new) in edits {
            text.replace_range(range, &new);
        }
        Ok(text)
    }

    fn add(&self, list: Option<Id>, rooms: &[Id], room: &str) -> Result<String, EditError> {
        let Some(list) = list else {
            let end = if self.text.ends_with('\n') { "" } else { "\n" };
            return Ok(format!("{}{end}{LIST}:\n  - {room}\n", self.text));
        };
        if self.starts_flow(list) {
            let at = self.tree.get(list).ok_or(EditError::Form)?.bytes.start + 1;
            return Ok(self.put(at..at, &if rooms.is_empty() { room.to_owned() } else { format!("{room}, ") }));
        }
        let first = rooms.first().ok_or(EditError::Form)?;
        let dash = self.dash(*first)?;
        let column = dash - self.text[..dash].rfind('\n').map_or(0, |at| at + 1);
        Ok(self.put(dash..dash, &format!("- {room}\n{}", " ".repeat(column))))
    }

    fn remove(&self, list: Id, rooms: &[Id], at: usize) -> Result<String, EditError> {
        let own = self.extent(rooms[at])?;
        let is_flow = self.starts_flow(list);
        let begin = |id: Id| if is_flow { self.extent(id).map(|range| range.start) } else { self.dash(id) };
        Ok(match (rooms.get(at + 1), at.checked_sub(1)) {
            (Some(next), _) => self.put(begin(rooms[at])?..begin(*next)?, ""),
            (None, Some(before)) => self.put(self.extent(rooms[before])?.end..own.end, ""),
            (None, None) if is_flow => self.put(own, ""),
            (None, None) => self.put(begin(rooms[at])?..own.end, "[]"),
        })
    }

    fn put(&self, range: Range<usize>, new: &str) -> String {
        format!("{}{new}{}", &self.text[..range.start], &self.text[range.end..])
    }

    /// The bytes that a value was written in, to its very end.
    fn extent(&self, id: Id) -> Result<Range<usize>, EditError> {
        let node = self.tree.get(id).ok_or(EditError::Form)?;
        let children: Vec<Id> = match &node.content {
            Content::Scalar(_) => return Ok(node.bytes.clone()),
            Content::Seq(items) => items.clone(),
            Content::Map(pairs) => pairs.iter().map(|pair| pair.value).collect(),
        };
        let mut end = node.bytes.start + usize::from(self.starts_flow(id));
        for child in children {
            end = end.max(self.extent(child)?.end);
        }
        if !self.starts_flow(id) {
            return Ok(node.bytes.start..end);
        }
        let mut comment = false;
        for (at, char) in self.text[end..].char_indices() {
            match char {
                '\n' => comment = false,
                _ if comment => (),
                '#' => comment = true,
                '}' | ']' => return Ok(node.bytes.start..end + at + 1),
                ',' | ' ' | '\t' | '\r' => (),
                _ => return Err(EditError::Form),
            }
        }
        Err(EditError::Form)
    }

    fn starts_flow(&self, id: Id) -> bool {
        let scalar = self.tree.scalar(id).is_some();
        let start = self.tree.get(id).map_or(usize::MAX, |node| node.bytes.start);
        !scalar && self.text.as_bytes().get(start).is_some_and(|byte| matches!(byte, b'{' | b'['))
    }

    /// Where the dash before a list's item is.
    fn dash(&self, item: Id) -> Result<usize, EditError> {
        let start = self.tree.get(item).ok_or(EditError::Form)?.bytes.start;
        let before = self.text.get(..start).ok_or(EditError::Form)?;
        before.trim_end().strip_suffix('-').map(str::len).ok_or(EditError::Form)
    }

    fn offset(&self, line: usize, column: usize) -> Option<usize> {
        let start = self.text.split_inclusive('\n').take(line - 1).map(str::len).sum::<usize>();
        let inside = self.text.get(start..)?.char_indices().nth(column - 1)?.0;
        Some(start + inside)
    }

    fn has_variables(&self, id: Id) -> bool {
        match self.tree.get(id).map(|node| &node.content) {
            Some(Content::Scalar(scalar)) => !scalar.env.is_empty(),
            Some(Content::Seq(items)) => items.iter().any(|item| self.has_variables(*item)),
            Some(Content::Map(pairs)) => pairs.iter().any(|pair| self.has_variables(pair.value)),
            None => false,
        }
    }
}

/// A value as YAML's flow style has it; JSON is that.
fn flow(value: &Value) -> String {
    value.to_string()
}

fn json(tree: &Tree, id: Id) -> Value {
    match tree.get(id).map(|node| &node.content) {
        Some(Content::Scalar(scalar)) => scalar_json(scalar),
        Some(Content::Seq(items)) => items.iter().map(|item| json(tree, *item)).collect(),
        Some(Content::Map(pairs)) => pairs.iter().map(|pair| (pair.key.clone(), json(tree, pair.value))).collect(),
        None => Value::Null,
    }
}

fn scalar_json(scalar: &Scalar) -> Value {
    let text = scalar.text.as_str();
    if !scalar.plain {
        return Value::from(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        text => {
            let float = || text.parse::<f64>().ok().filter(|_| text.starts_with(|char: char| char.is_ascii_digit()));
            let number = text.parse::<u64>().map(Value::from).ok();
            number.or_else(|| float().map(Value::from)).unwrap_or_else(|| Value::from(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BLOCK: &str = "# head\nserver: {}\nwaiting_rooms:   # the rooms\n  - name: drop   # a sale\n    total_active_users: 10\n    polling: {min: 2s}\n    rules:\n      - {action: bypass_waiting_room, expression: 'true'}\n  # the other\n  - {name: other, total_active_users: 5, description: \"${WHO:-x}\"}\nroutes: []  # end\n";

    fn edit(text: &str, edit: &RoomEdit) -> Result<String, EditError> {
        edit_room(text, edit, &|_| None)
    }

    fn map(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("no object") };
        map
    }

    #[test]
    fn a_setting_is_written_over_and_everything_else_stays() {
        let change = |name: &str, value| edit(BLOCK, &RoomEdit::Change(name.to_owned(), map(value)));
        let changed = change("drop", json!({"total_active_users": 25, "polling": {"min": "1s"}})).unwrap();
        assert_eq!(changed, BLOCK.replace("users: 10", "users: 25").replace("{min: 2s}", "{\"min\":\"1s\"}"));
        let added = change("drop", json!({"queue_all": true})).unwrap();
        assert_eq!(added, BLOCK.replace("- name: drop", "- queue_all: true\n    name: drop"));
        let added = change("other", json!({"queue_all": true, "total_active_users": 6})).unwrap();
        assert_eq!(
            added,
            BLOCK
                .replace("{name: other, total_active_users: 5", "{queue_all: true, name: other, total_active_users: 6")
        );
        let taken = change("drop", json!({"polling": null, "rules": null})).unwrap();
        assert!(taken.contains("  - {\"name\":\"drop\",\"total_active_users\":10}\n  # the other\n"), "{taken}");
        assert_eq!(change("none", json!({})), Err(EditError::Unknown));
        assert_eq!(change("drop", json!({"name": "drip"})), Err(EditError::Renamed));
        assert_eq!(
            change("other", json!({"total_active_users": null})),
            Err(EditError::Form),
            "a variable stands there"
        );
    }

    #[test]
    fn rooms_come_and_go() {
        let room = map(json!({"name": "third", "total_active_users": 1}));
        let added = edit(BLOCK, &RoomEdit::Add(room.clone())).unwrap();
        assert!(
            added.contains("  - {\"name\":\"third\",\"total_active_users\":1}\n  - name: drop   # a sale\n"),
            "{added}"
        );
        assert_eq!(edit(&added, &RoomEdit::Add(room.clone())), Err(EditError::Exists));
        assert_eq!(edit(&added, &RoomEdit::Remove("third".to_owned())).unwrap(), BLOCK);
        let one = edit(BLOCK, &RoomEdit::Remove("other".to_owned())).unwrap();
        let none = edit(&one, &RoomEdit::Remove("drop".to_owned())).unwrap();
        assert!(
            none.contains("waiting_rooms:   # the rooms\n  []\n") && none.ends_with("routes: []  # end\n"),
            "{none}"
        );
        let again = edit(&none, &RoomEdit::Add(room.clone())).unwrap();
        assert!(again.contains("  [{\"name\":\"third\",\"total_active_users\":1}]\n"), "{again}");
        let begun = edit("routes: []", &RoomEdit::Add(room)).unwrap();
        assert!(
            begun.ends_with("routes: []\nwaiting_rooms:\n  - {\"name\":\"third\",\"total_active_users\":1}\n"),
            "{begun}"
        );
        let replaced =
            edit(BLOCK, &RoomEdit::Replace("drop".to_owned(), map(json!({"total_active_users": 3})))).unwrap();
        assert!(replaced.contains("  - {\"name\":\"drop\",\"total_active_users\":3}\n  # the other\n"), "{replaced}");
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_damaged() {
        let aliased = "waiting_rooms:\n  - &a {name: drop, total_active_users: 1}\n  - {<<: *a, name: other}\n";
        let change = RoomEdit::Change("drop".to_owned(), map(json!({"total_active_users": 2})));
        assert_eq!(edit(aliased, &change), Err(EditError::Form), "it would change the other as well");
        assert_eq!(edit("waiting_rooms: [", &change), Err(EditError::Form));
    }
}
