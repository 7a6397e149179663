//! The text that `pwsh` runs for one list of the user's commands.
//!
//! Its shape is GitLab Runner's: errors stop the script, each command is shown and its success
//! looked at, variables are there as `$NAME` and as `$env:NAME`.

use super::compose::{Composition, exports, section_names, shown};

/// The text. `exit` in it is the exit status of `pwsh`.
pub(super) fn compose(job: &Composition<'_>) -> Vec<u8> {
    let mut out = String::from("$ErrorActionPreference = \"Stop\"\n& {\n");
    if job.script.xtrace {
        out.push_str("Set-PSDebug -Trace 2\n");
    }
    for export in exports(job) {
        let value = quoted(&String::from_utf8_lossy(&export.value));
        let name = export.name;
        out.push_str(&format!("${{env:{name}}} = {value}\n"));
        // Some names are the shell's own and cannot be set (`Host`, `PID`); the environment can.
        out.push_str(&format!("try {{ Set-Variable -Name {name} -Value {value} }} catch {{ }}\n"));
    }
    out.push_str(&format!("Set-Location -LiteralPath {}\n", quoted(&job.directories.project)));
    if let Some(line) = &job.script.announce {
        put_echo(&format!("\x1b[32;1m{line}\x1b[0;m\n"), &mut out);
    }
    let mut sections = section_names(job.script);
    for command in &job.script.commands {
        let section = sections.next();
        let command = command.trim();
        put_echo(&shown(command, section.as_deref(), job.began), &mut out);
        if !command.is_empty() {
            out.push_str(command);
            out.push_str(
                "\nif (!$?) { exit $(if ($LASTEXITCODE) { $LASTEXITCODE } else { 1 }) }\n",
            );
        }
    }
    out.push_str("}\n");
    out.into_bytes()
}

/// The console's own writer: what goes down the pipeline may be formatted, or come later.
fn put_echo(text: &str, out: &mut String) {
    out.push_str(&format!("[Console]::Out.Write({})\n", quoted(text)));
}

/// A verbatim string. PowerShell takes the typographic single quotes for quotes as well; a quote
/// that is doubled is one.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for letter in text.chars().filter(|letter| *letter != '\0') {
        if matches!(letter, '\'' | '\u{2018}'..='\u{201b}') {
            out.push(letter);
        }
        out.push(letter);
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::quoted;
    use crate::plan::{CommandList, Directories, PlanVariable, Script};
    use crate::shell::{Composition, JobStatus, ShellKind, compose};

    #[test]
    fn every_kind_of_single_quote_is_doubled() {
        assert_eq!(quoted("it's $x `n \u{2019}\0"), "'it''s $x `n \u{2019}\u{2019}'");
    }

    /// Only the text: no package registry has `pwsh`, so nothing here could run it.
    #[test]
    fn stages_120_the_text_for_pwsh_stops_at_the_first_failure_and_shows_each_command() {
        let directories = Directories {
            builds: "/b".into(),
            project: "/b/it's".into(),
            temp: "/b/t".into(),
            cache: "/c".into(),
        };
        let script = Script {
            commands: vec!["Get-Date".into(), String::new(), "if ($true) {\n 1 }".into()],
            xtrace: true,
            sections: vec![CommandList { name: "script_step".into(), commands: 3 }],
            ..Script::default()
        };
        let variables = [
            PlanVariable { key: "A".into(), value: "x=1;'".into(), file: false },
            PlanVariable { key: "F".into(), value: "content".into(), file: true },
        ];
        let text = compose(&Composition {
            shell: ShellKind::PowerShell,
            variables: &variables,
            env_file: &[],
            directories: &directories,
            job_status: JobStatus::Running,
            script: &script,
            began: 9,
        });
        let text = String::from_utf8(text).unwrap();
        let expected = "$ErrorActionPreference = \"Stop\"\n& {\nSet-PSDebug -Trace 2\n\
            ${env:A} = 'x=1;'''\ntry { Set-Variable -Name A -Value 'x=1;''' } catch { }\n\
            ${env:F} = '/b/t/F'\ntry { Set-Variable -Name F -Value '/b/t/F' } catch { }\n";
        assert!(text.starts_with(expected), "{text}");
        let check = "if (!$?) { exit $(if ($LASTEXITCODE) { $LASTEXITCODE } else { 1 }) }\n";
        let (_, body) = text.split_once("Set-Location -LiteralPath '/b/it''s'\n").unwrap();
        assert_eq!(
            body,
            format!(
                "[Console]::Out.Write('\x1b[32;1m$ Get-Date\x1b[0;m\n')\nGet-Date\n{check}\
                 [Console]::Out.Write('\n')\n\
                 [Console]::Out.Write('section_start:9:section_script_step_2\
                 [hide_duration=true,collapsed=true]\r\x1b[0K\x1b[32;1m$ if ($true) {{\n 1 }}\
                 \x1b[0;m\nsection_end:9:section_script_step_2\r\x1b[0K')\n\
                 if ($true) {{\n 1 }}\n{check}}}\n"
            )
        );
    }
}
