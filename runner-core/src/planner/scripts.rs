//! Which commands run where: user steps, `after_script`, functions, hooks.

use super::error::PlanError;
use super::flags::Flags;
use super::job_settings::JobSettings;
use super::settings::PlanSettings;
use super::variables::VariableSet;
use crate::job::{Job, Step};
use crate::plan::{CommandList, GitStrategy, Requirement, Script, ScriptLanguage, SourceHooks};

/// The step that runs whatever became of the others.
pub(super) const AFTER_SCRIPT: &str = "after_script";
/// The program that runs functions.
const STEP_RUNNER: &str = "step-runner";

/// Everything that scripts are made of.
#[derive(Clone, Copy)]
pub(super) struct Scripts<'a> {
    pub(super) job: &'a Job,
    pub(super) settings: &'a PlanSettings,
    pub(super) job_settings: &'a JobSettings,
    pub(super) variables: &'a VariableSet,
    pub(super) flags: &'a Flags,
}

/// Commands of one origin.
struct List {
    /// What its sections are called.
    name: &'static str,
    commands: Vec<String>,
}

impl List {
    fn configured(name: &'static str, script: Option<&String>) -> Self {
        let script = script.filter(|script| !script.trim().is_empty());
        Self { name, commands: script.cloned().into_iter().collect() }
    }
}

impl Scripts<'_> {
    /// The user steps, in order, with their names.
    pub(super) fn steps(&self) -> Result<Vec<(String, Script)>, PlanError> {
        if self.job.functions.is_some() {
            return Ok(vec![("run".to_owned(), self.functions())]);
        }
        let steps = self.job.steps.iter().filter(|step| step.name != AFTER_SCRIPT);
        let scripts = steps.map(|step| Ok((step.name.clone(), self.step(step)?)));
        let scripts: Vec<_> = scripts.collect::<Result<_, PlanError>>()?;
        Ok(scripts.into_iter().filter(|(_, script)| !script.commands.is_empty()).collect())
    }

    fn step(&self, step: &Step) -> Result<Script, PlanError> {
        // Only a release's commands are the runner's to expand; the shell does it for all others.
        let expand = |line: &String| self.variables.expand(line);
        let own: Vec<_> = match step.name.as_str() {
            "release" => step.script.iter().map(expand).collect::<Result<_, _>>()?,
            _ => step.script.clone(),
        };
        Ok(self.script([
            List::configured("pre_build_script", self.settings.pre_build_script.as_ref()),
            List { name: "script_step", commands: own },
            List::configured("post_build_script", self.settings.post_build_script.as_ref()),
        ]))
    }

    /// Functions run through GitLab's own program for them, which reads them from `STEPS`. GitLab
    /// Runner's Kubernetes executor refuses such jobs unless `FF_CONCRETE` is on.
    fn functions(&self) -> Script {
        let commands = vec![format!("{STEP_RUNNER} ci")];
        let message = format!(
            "the job uses `run:`, which needs the program {STEP_RUNNER} in the job's image; \
             install it there (https://docs.gitlab.com/ci/functions/) or use `script:`"
        );
        Script {
            requires: Some(Requirement { program: STEP_RUNNER.to_owned(), message }),
            language: ScriptLanguage::Shell,
            ..self.script([List { name: "script_step", commands }])
        }
    }

    /// `after_script`. `None`: there is none.
    pub(super) fn after_script(&self) -> Option<Script> {
        let of_steps = self.job.steps.iter().filter(|step| step.name == AFTER_SCRIPT);
        let commands: Vec<_> = of_steps.flat_map(|step| step.script.clone()).collect();
        if commands.is_empty() || self.job.functions.is_some() {
            return None;
        }
        let announce = Some("Running after script...".to_owned());
        let script = self.script([List { name: "after_script_step", commands }]);
        Some(Script { announce, ..script })
    }

    /// Commands around the work on the sources: the configuration's are the outer ones. They are
    /// shell text whatever the job's own language is: the helper image has no other.
    pub(super) fn hooks(&self) -> SourceHooks {
        if matches!(self.job_settings.strategy, GitStrategy::None | GitStrategy::Empty) {
            return SourceHooks::default();
        }
        let of_job = |hook: &str| {
            let hooks = self.job.hooks.iter().filter(|step| step.name == hook);
            hooks.flat_map(|step| step.script.clone()).collect()
        };
        let wanted = |script: Script| {
            let script = Script { language: ScriptLanguage::Shell, ..script };
            (!script.commands.is_empty()).then_some(script)
        };
        let (pre, post) = ("pre_clone_script", "post_clone_script");
        let settings = self.settings;
        SourceHooks {
            before: wanted(self.script([
                List::configured(pre, settings.pre_get_sources_script.as_ref()),
                List { name: pre, commands: of_job("pre_get_sources_script") },
            ])),
            after: wanted(self.script([
                List { name: post, commands: of_job("post_get_sources_script") },
                List::configured(post, settings.post_get_sources_script.as_ref()),
            ])),
        }
    }

    fn script<const N: usize>(&self, lists: [List; N]) -> Script {
        let sections = match self.shows_sections() {
            true => lists
                .iter()
                .map(|list| CommandList {
                    name: list.name.to_owned(),
                    commands: list.commands.len(),
                })
                .filter(|list| list.commands > 0)
                .collect(),
            false => Vec::new(),
        };
        Script {
            commands: lists.into_iter().flat_map(|list| list.commands).collect(),
            xtrace: self.job_settings.debug_trace,
            sections,
            check_each: self.flags.is_on("FF_ENABLE_BASH_EXIT_CODE_CHECK"),
            language: self.settings.language,
            ..Script::default()
        }
    }

    fn shows_sections(&self) -> bool {
        self.flags.is_on("FF_SCRIPT_SECTIONS") && self.job.features.trace_sections
    }
}
