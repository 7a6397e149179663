//! Every key does what it says, and nothing else does.

use std::collections::BTreeSet;

use runner_k8s::settings::{KubernetesSettings, RawSettings, SettingsWarning, without_effect};
use serde_json::Value;
use toml::Table;

use crate::cases::{Case, Lands, all};
use crate::generator::fields;
use crate::world::{Seen, at, job, see, with_init_container};

/// The keys of the settings type that are not tables.
fn leaves() -> BTreeSet<String> {
    let all = fields::<RawSettings>();
    let is_table = |key: &String| {
        let inner = [format!("{key}."), format!("{key}[].")];
        all.iter().any(|other| inner.iter().any(|start| other.starts_with(start.as_str())))
    };
    all.iter().filter(|key| !is_table(key)).cloned().collect()
}

#[test]
fn k8s_01_every_key_of_the_settings_type_has_a_case() {
    let cases: BTreeSet<String> = all().into_iter().map(|case| case.key).collect();
    let missing: Vec<_> = leaves().difference(&cases).cloned().collect();
    assert!(missing.is_empty(), "keys without a case: {missing:#?}");
    let gone: Vec<_> = cases.difference(&leaves()).cloned().collect();
    assert!(gone.is_empty(), "cases of keys that do not exist: {gone:#?}");
}

#[test]
fn k8s_01_k8s_21_every_key_lands_where_it_should() {
    let wrong: Vec<_> = all().iter().filter_map(|case| check(case).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with a case, if anything: with the key its value must be where it belongs, without
/// the key it must not.
fn check(case: &Case) -> Result<(), String> {
    let wrong =
        |what: String| format!("{}: {what}\n  {}", case.key, case.toml.replace('\n', "\n  "));
    let mut table: Table = toml::from_str(&case.toml).map_err(|error| wrong(error.to_string()))?;
    let with = seen(case, &table);
    landed(case, &with).map_err(wrong)?;
    // A whole table may be without effect: then it is the table that nobody misses.
    let idle = without_effect();
    let idle = idle.iter().find(|(key, _)| case.key.starts_with(&format!("{key}.")));
    let parts: Vec<&str> = idle.map_or(case.key.as_str(), |(table, _)| table).split('.').collect();
    if !remove(&mut table, &parts) {
        return Err(wrong("the case does not set its key".to_owned()));
    }
    match landed(case, &seen(case, &table)) {
        Ok(()) => Err(wrong("the same happens without the key".to_owned())),
        Err(_) => Ok(()),
    }
}

fn seen(case: &Case, table: &Table) -> Result<Seen, String> {
    let raw: RawSettings =
        Table::try_into(table.clone()).map_err(|error: toml::de::Error| error.to_string())?;
    let settings = KubernetesSettings::resolve(&raw).map_err(|error| error.to_string())?;
    let mut job = job();
    (case.job)(&mut job);
    see(&job, &settings)
}

fn landed(case: &Case, seen: &Result<Seen, String>) -> Result<(), String> {
    match (&case.lands, seen) {
        (Lands::Refusal(words), Err(error)) if error.contains(words) => Ok(()),
        (Lands::Refusal(_), Ok(_)) => Err("is not refused".to_owned()),
        (_, Err(error)) => Err(error.clone()),
        (Lands::Pod(path, value), Ok(seen)) => {
            let pod = match path.starts_with("spec/initContainers") {
                true => with_init_container(seen),
                false => seen.built.pod.to_value(),
            };
            same(path, at(&pod, path), value)
        }
        (Lands::Elsewhere(place, find, value), Ok(seen)) => same(place, Some(&find(seen)), value),
        (Lands::Found(place, find, value), Ok(seen)) => same(place, Some(&find(seen)), value),
        (Lands::Nowhere, Ok(seen)) => {
            let top = case.key.split(['.', '[']).next().unwrap_or_default();
            let told = |w: &SettingsWarning| w.key.starts_with(top) && w.is_without_effect;
            match seen.settings.warnings.iter().any(told) {
                true => Ok(()),
                false => Err(format!("nobody is told: {:?}", seen.settings.warnings)),
            }
        }
    }
}

fn same(place: &str, found: Option<&Value>, value: &Value) -> Result<(), String> {
    match found {
        Some(found) if found == value => Ok(()),
        found => Err(format!("{place} is {found:?}, not {value}")),
    }
}

/// Takes a key out; of lists out of the first entry.
fn remove(table: &mut Table, path: &[&str]) -> bool {
    let [first, rest @ ..] = path else { return false };
    if rest.is_empty() {
        return table.remove(*first).is_some();
    }
    let inner = match first.strip_suffix("[]") {
        Some(list) => table.get_mut(list).and_then(|list| list.get_mut(0)),
        None => table.get_mut(*first),
    };
    inner.and_then(toml::Value::as_table_mut).is_some_and(|inner| remove(inner, rest))
}
