//! Changes to the file: comments, order, unknown keys and `$VAR` stay as they are. GitLab Runner
//! writes the whole file anew, without them and with tokens in clear where a variable was.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use runner_core::secret::Secret;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, Value};

/// Why a file cannot be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// It is not TOML.
    #[error("the file cannot be read as TOML: {0}")]
    Syntax(String),
    /// `runners` is something else.
    #[error("`runners` is not a list of [[runners]] tables")]
    Runners,
    /// The token stands somewhere else.
    #[error(
        "the token of this runner comes from {0}, so the new one has to be put there; it is not \
         written into the file"
    )]
    TokenElsewhere(String),
}

/// A file that is being changed.
#[derive(Clone, Debug)]
pub(crate) struct Document(DocumentMut);

impl Document {
    /// From the file's text.
    pub(crate) fn parse(text: &str) -> Result<Self, EditError> {
        let document = text.parse::<DocumentMut>();
        document.map(Self).map_err(|error| EditError::Syntax(error.message().to_owned()))
    }

    /// The text to write.
    pub(crate) fn text(&self) -> String {
        self.0.to_string()
    }

    fn runners(&mut self) -> Result<&mut ArrayOfTables, EditError> {
        // In any case, as everywhere.
        let key = self.0.iter().map(|(key, _)| key).find(|key| key.eq_ignore_ascii_case("runners"));
        let key = key.unwrap_or("runners").to_owned();
        let item = self.0.entry(&key).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
        item.as_array_of_tables_mut().ok_or(EditError::Runners)
    }

    fn runner(&mut self, index: usize) -> Result<&mut Table, EditError> {
        self.runners()?.get_mut(index).ok_or(EditError::Runners)
    }

    /// A new token with its times. A token that stands as `$VAR` is not replaced: the variable would
    /// be lost, and the secret be in clear where it was not.
    pub(crate) fn set_token(
        &mut self,
        index: usize,
        token: &Secret,
        obtained: Timestamp,
        expires: Option<Timestamp>,
    ) -> Result<(), EditError> {
        let runner = self.runner(index)?;
        let text =
            |key: &str| runner.get(key).and_then(Item::as_str).unwrap_or_default().to_owned();
        let (written, file) = (text("token"), text("token_file"));
        if written.contains('$') {
            return Err(EditError::TokenElsewhere(written));
        }
        if written.trim().is_empty() && !file.is_empty() {
            return Err(EditError::TokenElsewhere(file));
        }
        set(runner, "token", token.expose().into());
        set(runner, "token_obtained_at", date(Some(obtained)));
        set(runner, "token_expires_at", date(expires));
        Ok(())
    }

    /// Removes these entries of `[[runners]]`.
    pub(crate) fn remove_runners(&mut self, indexes: &[usize]) -> Result<(), EditError> {
        let mut indexes = indexes.to_vec();
        indexes.sort_unstable();
        let runners = self.runners()?;
        for index in indexes.into_iter().rev() {
            if index < runners.len() {
                runners.remove(index);
            }
        }
        Ok(())
    }

    /// Adds a `[[runners]]` entry at the end.
    pub(crate) fn add_runner(&mut self, runner: &toml::Table) -> Result<(), EditError> {
        let table = table(runner);
        self.runners()?.push(table);
        Ok(())
    }

    /// Sets a global key that is not there.
    pub(crate) fn set_default(&mut self, key: &str, value: impl Into<Value>) {
        if !self.0.contains_key(key) {
            self.0.insert(key, Item::Value(value.into()));
        }
    }
}

/// Keeps the comments around the value.
fn set(table: &mut Table, key: &str, value: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = value;
            *old.decor_mut() = decor;
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

/// GitLab Runner's way to write "never" is the first of January of year 1.
fn date(time: Option<Timestamp>) -> Value {
    let text = time.map_or_else(
        || "0001-01-01T00:00:00Z".to_owned(),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    );
    // Both forms are dates of TOML.
    text.parse::<toml_edit::Datetime>().map_or_else(|_| text.into(), Value::from)
}

/// A table with plain values first, so that they do not end up in a table below.
fn table(values: &toml::Table) -> Table {
    let mut table = Table::new();
    let (tables, plain): (Vec<_>, Vec<_>) =
        values.iter().partition(|(_, value)| matches!(value, toml::Value::Table(_)));
    for (key, value) in plain {
        table.insert(key, item(value));
    }
    for (key, value) in tables {
        table.insert(key, item(value));
    }
    table
}

fn item(value: &toml::Value) -> Item {
    match value {
        toml::Value::Table(inner) => Item::Table(table(inner)),
        toml::Value::Array(list)
            if !list.is_empty() && list.iter().all(|entry| entry.is_table()) =>
        {
            Item::ArrayOfTables(
                list.iter().filter_map(|entry| entry.as_table()).map(table).collect(),
            )
        }
        other => Item::Value(plain(other)),
    }
}

fn plain(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(flag) => (*flag).into(),
        toml::Value::Datetime(date) => (*date).into(),
        toml::Value::Array(list) => list.iter().map(plain).collect::<toml_edit::Array>().into(),
        toml::Value::Table(inner) => {
            let pairs = inner.iter().map(|(key, value)| (key.as_str(), plain(value)));
            pairs.collect::<toml_edit::InlineTable>().into()
        }
    }
}

/// Writes the file: a new one beside it, then a rename, so that a reader sees the old or the new one.
/// A file that is mounted by itself cannot be replaced, so it is written in place.
///
/// # Errors
/// When neither works; the old file is untouched unless writing in place broke off.
pub(crate) fn save(path: &Path, text: &str) -> io::Result<()> {
    // The target of a link is replaced, not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().filter(|directory| !directory.as_os_str().is_empty());
    let directory = directory.map_or_else(|| PathBuf::from("."), Path::to_owned);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    match replace(&target, &directory, text) {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::debug!(%error, file = %target.display(), "cannot be replaced; writing in place");
            let mut file = File::options().write(true).truncate(true).open(&target)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        }
    }
}

fn replace(target: &Path, directory: &Path, text: &str) -> io::Result<()> {
    let mode = fs::metadata(target).map_or(0o600, |metadata| metadata.permissions().mode());
    let mut file = tempfile::Builder::new().prefix(".config.toml-").tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    // The rename itself survives a crash only when the directory was written.
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{Document, EditError, save};

    const FILE: &str = "# ours\nconcurrent = 3 # three\n\n[[runners]] # first\n  name = \"a\"\n  \
                        url = \"$URL\"\n  token = \"old\" # from the web page\n  own_key = 1\n\n\
                        [[runners]]\n  name = \"b\"\n  token = \"$TOKEN\"\n";

    #[test]
    fn a_new_token_changes_nothing_else() {
        let mut document = Document::parse(FILE).unwrap();
        let obtained = "2026-01-02T03:04:05.6Z".parse().unwrap();
        document.set_token(0, &"new".into(), obtained, None).unwrap();
        let expected = FILE.replace("\"old\"", "\"new\"").replace(
            "own_key = 1\n",
            "own_key = 1\ntoken_obtained_at = 2026-01-02T03:04:05Z\ntoken_expires_at = \
             0001-01-01T00:00:00Z\n",
        );
        assert_eq!(document.text(), expected);
        assert!(super::super::tests::read(&document.text()).config.is_some());
    }

    #[test]
    fn a_token_that_is_a_variable_is_never_written_in_clear() {
        let mut document = Document::parse(FILE).unwrap();
        let now = jiff::Timestamp::now();
        let error = document.set_token(1, &"new".into(), now, None).unwrap_err();
        assert!(matches!(error, EditError::TokenElsewhere(_)), "{error}");
        assert_eq!(document.text(), FILE);
    }

    #[test]
    fn a_runner_is_removed_and_another_added() {
        let mut document = Document::parse(FILE).unwrap();
        document.remove_runners(&[0]).unwrap();
        let runner = toml::toml! {
            [kubernetes]
            image = "x"
            [kubernetes.pod_labels]
            a = "b"
        };
        let mut table = runner;
        table.insert("name".into(), "c".into());
        document.add_runner(&table).unwrap();
        let text = document.text();
        assert!(!text.contains("\"a\"") && text.contains("\"b\""), "{text}");
        let read: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(read["runners"][1]["name"].as_str(), Some("c"));
        assert_eq!(read["runners"][1]["kubernetes"]["pod_labels"]["a"].as_str(), Some("b"));
        assert!(text.contains("concurrent = 3 # three"), "{text}");
    }

    #[test]
    fn the_first_runner_of_an_empty_file() {
        let mut document = Document::parse("").unwrap();
        document.set_default("concurrent", 1);
        document.add_runner(&toml::toml! { name = "a" }).unwrap();
        assert_eq!(document.text(), "concurrent = 1\n\n[[runners]]\nname = \"a\"\n");
    }

    #[test]
    fn saving_replaces_the_file_behind_a_link_and_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        std::fs::write(&real, "old").unwrap();
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        save(&link, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "new");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = std::fs::metadata(&real).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn a_new_file_and_its_directory_are_for_their_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("new/config.toml");
        save(&file, "x").unwrap();
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&file) & 0o777, 0o600);
        assert_eq!(mode(file.parent().unwrap()) & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }
}
