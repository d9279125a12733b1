//! Reads the part of TOML that package manifests need: tables, and keys with a string or a
//! list of strings. Skips everything else without an error.

/// A line `[table]`, and the keys below it.
pub(super) struct Table<'t> {
    pub(super) name: &'t str,
    pairs: Vec<(&'t str, String)>,
}

/// Reads the tables of a text, starting with the one without a name.
pub(super) fn read(text: &str) -> Vec<Table<'_>> {
    let mut tables = vec![Table::new("")];
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.trim_start_matches('[').split(']').next();
            tables.push(Table::new(name.unwrap_or("").trim()));
        } else if let (Some((key, value)), Some(table)) = (line.split_once('='), tables.last_mut())
        {
            let mut value = value.trim().to_owned();
            while value.starts_with('[') && !value.contains(']') {
                let Some(line) = lines.next() else { break };
                value.push_str(line.split('#').next().unwrap_or(""));
            }
            table.pairs.push((key.trim(), value));
        }
    }
    tables
}

impl<'t> Table<'t> {
    fn new(name: &'t str) -> Self {
        Self {
            name,
            pairs: Vec::new(),
        }
    }

    /// Returns the strings of a key: a single one, or those of a list.
    pub(super) fn strings(&self, key: &str) -> Vec<&str> {
        let pair = self.pairs.iter().find(|(k, _)| *k == key);
        pair.map_or_else(Vec::new, |(_, value)| strings(value))
    }

    /// Returns the string of a key.
    pub(super) fn string(&self, key: &str) -> Option<&str> {
        self.strings(key).first().copied()
    }
}

/// Returns the quoted strings.
fn strings(value: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = value;
    while let Some(start) = rest.find(['"', '\'']) {
        let quote = if rest[start..].starts_with('"') {
            '"'
        } else {
            '\''
        };
        let Some((string, after)) = rest[start + 1..].split_once(quote) else {
            break;
        };
        found.push(string);
        rest = after;
    }
    found
}

/// Returns the string of a key in the first table of that name.
pub(super) fn string<'t>(tables: &'t [Table<'_>], table: &str, key: &str) -> Option<&'t str> {
    let table = tables.iter().find(|t| t.name == table)?;
    table.string(key)
}

/// Returns true if the table, or one below it, exists.
pub(super) fn has(tables: &[Table<'_>], name: &str) -> bool {
    tables.iter().any(|table| {
        let below = table.name.strip_prefix(name);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_read_strings_and_lists() {
        let text = "x = 1\n[package]\nname = \"a\" # b\nversion.workspace = true\n\
                    [workspace]\nmembers = [\n  'crates/*', # c\n  \"d\",\n]\n[[bin]]\nname = 'e'\n\
                    [[bin]]\nname = \"f\"\n[tool.pytest.ini_options]\n[broken\nname = \"";
        let tables = read(text);
        assert_eq!(string(&tables, "package", "name"), Some("a"));
        assert_eq!(string(&tables, "package", "x"), None);
        let bins = tables.iter().filter(|t| t.name == "bin");
        let bins: Vec<_> = bins.filter_map(|t| t.string("name")).collect();
        assert_eq!(bins, ["e", "f"]);
        let workspace = tables.iter().find(|t| t.name == "workspace").unwrap();
        assert_eq!(workspace.strings("members"), ["crates/*", "d"]);
        assert!(has(&tables, "tool.pytest") && !has(&tables, "tool.py"));
    }
}
