//! Containers beside the job's own, and the names under which they are reached.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use runner_core::job::{Image, Variable};
use runner_core::plan::ServicePlan;
use runner_core::planner::{PlanLookup, expand as expand_text};
use runner_core::secret::Secret;
use serde_json::Value;

use super::containers::{container, put_lifecycle, put_policy, put_ports, put_resources};
use super::environment::{Env, Environment, Masks, is_login};
use super::images::{check_allowed, expand, policies};
use super::json::Container;
use super::text::Text;
use super::user::security;
use super::volumes::Volumes;
use super::{BUILD, HELPER, PodError, PodInput};
use crate::names::{is_dns_label, is_dns_subdomain};
use crate::overwrites::service_resources;
use crate::settings::{PullPolicy, Resources};

/// The variable of a service that names the port to check.
const HEALTHCHECK: &str = "HEALTHCHECK_TCP_PORT";

/// Command and arguments of a service. Without FF_KUBERNETES_HONOR_ENTRYPOINT and with it: GitLab
/// Runner drops both then, although nothing of its own has to run in a service (better).
fn program(service: &Image) -> (&[String], &[String]) {
    let entrypoint = service.entrypoint.as_deref().unwrap_or_default();
    let command = service.command.as_deref().unwrap_or_default();
    match entrypoint {
        // Docker's way to say "no entry point": the command is the program. Kubernetes would look
        // for a program without a name.
        [word] if word.is_empty() && !command.is_empty() => (command, &[]),
        [word] if word.is_empty() => (&[], &[]),
        _ => (entrypoint, command),
    }
}

/// A container and the pull policies to try for it.
pub(super) type PolicyList = (String, Vec<Option<PullPolicy>>);

pub(super) struct Services<'a> {
    list: Vec<Service<'a>>,
}

struct Service<'a> {
    name: String,
    image: String,
    aliases: Vec<String>,
    of_job: &'a Image,
    resources: Resources,
    /// The items of `env`.
    environment: String,
    /// Values that stand in the record, by key.
    secret: Vec<(String, Secret)>,
    /// Of the variable of this name.
    healthcheck: Option<String>,
}

pub(super) fn services<'a>(
    input: &PodInput<'a>,
    lookup: &PlanLookup<'_>,
    environment: &Environment<'_>,
    masks: &Masks<'_>,
) -> Result<Services<'a>, PodError> {
    let mut list: Vec<Service<'a>> = Vec::new();
    // GitLab Runner lets an alias take the name of another container (better).
    let mut taken = vec![BUILD.to_owned(), HELPER.to_owned()];
    let mut unnamed = 0;
    for of_job in input.settings.services.iter().chain(&input.job.services) {
        let image = expand(lookup, &of_job.name)?;
        if image.is_empty() {
            continue;
        }
        check_allowed("service image", &image, &input.settings.allowed_services, lookup)?;
        let mut aliases = Vec::new();
        for alias in &of_job.aliases {
            aliases.push(expand(lookup, alias)?);
        }
        let free = |name: &&String| is_dns_label(name) && !taken.contains(name);
        let name = aliases.iter().find(free).cloned().unwrap_or_else(|| {
            loop {
                let name = format!("svc-{unnamed}");
                unnamed += 1;
                if !taken.contains(&name) {
                    break name;
                }
            }
        });
        taken.push(name.clone());
        let resources = service_resources(input.settings, &of_job.variables, input.plan())
            .map_err(|error| PodError(format!("service {image:?}: {error}")))?;
        let (own, secret, healthcheck) = (String::new(), Vec::new(), None);
        let mut service = Service {
            name,
            image,
            aliases,
            of_job,
            resources,
            environment: own,
            secret,
            healthcheck,
        };
        service.environment(input, lookup, environment, masks)?;
        list.push(service);
    }
    list.sort_by(|one, other| one.name.cmp(&other.name));
    for service in &list {
        if let Some(bad) = service.aliases.iter().find(|alias| !is_dns_subdomain(alias)) {
            return Err(PodError(format!(
                "the alias {bad:?} of service {:?} is not a host name: use lower case letters, \
                 digits, `-` and `.`",
                service.image
            )));
        }
    }
    Ok(Services { list })
}

impl Service<'_> {
    fn environment(
        &mut self,
        input: &PodInput<'_>,
        lookup: &PlanLookup<'_>,
        environment: &Environment<'_>,
        masks: &Masks<'_>,
    ) -> Result<(), PodError> {
        let of_job = self.of_job;
        let mut own: HashMap<&str, &Variable, RandomState> = HashMap::default();
        own.extend(of_job.variables.iter().map(|v| (v.key.as_str(), v)));
        let mut values: HashMap<&str, String, RandomState> = HashMap::default();
        for variable in &of_job.variables {
            let raw = variable.value.expose();
            let value = if variable.raw {
                raw.to_owned()
            } else {
                expand_text(raw, |name| match own.get(name) {
                    // Its own name means the job's variable, not itself.
                    Some(own) if name != variable.key => Some(Cow::from(own.value.expose())),
                    _ => lookup.reference(name),
                })
                .map_err(|error| PodError(format!("variable {:?}: {error}", variable.key)))?
            };
            if variable.key == HEALTHCHECK {
                self.healthcheck = Some(value.clone());
            }
            values.insert(variable.key.as_str(), value);
        }
        let is_secret = |key: &str, value: &str| {
            own.get(key).is_some_and(|variable| variable.masked)
                || is_login(key)
                || masks.are_in(value)
        };
        let mut out = Env::new(environment);
        let record = &input.names.record;
        // A variable of its own takes the place of the job's.
        for (at, entry) in environment.entries.iter().enumerate() {
            // Most services have none.
            let of_its_own = if values.is_empty() { None } else { values.remove(entry.key) };
            match of_its_own {
                Some(value) if is_secret(entry.key, &value) => {
                    out.referred(entry.key, record, &self.hide(&value));
                }
                Some(value) => out.plain(entry.key, &value),
                None if entry.is_secret => {
                    out.referred(entry.key, record, &self.hide(&entry.value));
                }
                None => out.shared(at),
            }
        }
        for variable in &of_job.variables {
            let key = variable.key.as_str();
            match values.remove(key) {
                Some(value) if is_secret(key, &value) => {
                    out.referred(key, record, &self.hide(&value));
                }
                Some(value) => out.plain(key, &value),
                None => {}
            }
        }
        self.environment = out.into_text();
        Ok(())
    }

    /// Puts a value into the record; returns its key there.
    fn hide(&mut self, value: &str) -> String {
        let key = format!("env.{}.{}", self.name, self.secret.len());
        self.secret.push((key.clone(), Secret::from(value)));
        key
    }

    /// Ports that are to be checked: GitLab's `HEALTHCHECK_TCP_PORT`, from the service's own
    /// variables only.
    fn ports(&self) -> Result<Vec<u16>, PodError> {
        let own = |key: &str| self.of_job.variables.iter().any(|variable| variable.key == key);
        if !own(HEALTHCHECK) {
            return Ok(Vec::new());
        }
        let value = self.healthcheck.as_deref().unwrap_or_default();
        match value.trim().parse() {
            Ok(port) if port != 0 => Ok(vec![port]),
            _ => Err(PodError(format!(
                "{HEALTHCHECK} of service {:?} is {value:?}; it must be a port, 1 to 65535",
                self.image
            ))),
        }
    }

    /// As GitLab Runner calls it in the trace: image without tag, and aliases.
    fn title(&self) -> String {
        let image = self.image.split('@').next().unwrap_or(&self.image);
        let slash = image.rfind('/').map_or(0, |at| at + 1);
        // GitLab Runner cuts at the first colon, which may be a registry's port (better).
        let end = image[slash..].find(':').map_or(image.len(), |at| slash + at);
        let words = std::iter::once(&image[..end]).chain(self.aliases.iter().map(String::as_str));
        words.collect::<Vec<_>>().join("-")
    }

    fn policies(&self, input: &PodInput<'_>) -> Result<Vec<Option<PullPolicy>>, PodError> {
        policies(input.settings, &self.of_job.pull_policies, &self.name)
    }

    fn container(
        &mut self,
        input: &PodInput<'_>,
        volumes: &Volumes,
    ) -> Result<Container, PodError> {
        let mut out = container(&self.name, &self.image);
        put_policy(&mut out, &self.policies(input)?);
        let (command, args) = program(self.of_job);
        for (key, words) in [("command", command), ("args", args)] {
            if !words.is_empty() {
                out.key(key);
                out.strings(words);
            }
        }
        put_ports(&mut out, &self.of_job.ports);
        put_lifecycle(&mut out, input);
        put_resources(&mut out, &self.resources);
        let settings = input.settings;
        let user = self.of_job.user.as_deref();
        out.key("securityContext");
        out.object(&*security(&settings.service_security, user, settings)?);
        volumes.put_mounts(&mut out, &[]);
        Ok(Container { fields: out, environment: std::mem::take(&mut self.environment) })
    }

    /// The image's path without registry port and tag, with `/` as `__` and as `-`, then aliases.
    fn hostnames(&self) -> Vec<String> {
        let image = self.image.split('@').next().unwrap_or(&self.image);
        let (path, last) = match image.rsplit_once('/') {
            Some((path, last)) => (Some(path), last),
            None => (None, image),
        };
        let last = last.split(':').next().unwrap_or(last);
        let full = match path {
            Some(path) => {
                let (host, rest) = path.split_once('/').unwrap_or((path, ""));
                let host = host.split(':').next().unwrap_or(host);
                let rest = if rest.is_empty() { String::new() } else { format!("/{rest}") };
                format!("{host}{rest}/{last}")
            }
            None => last.to_owned(),
        };
        let mut out = Vec::new();
        for name in [full.replace('/', "__"), full.replace('/', "-")] {
            if is_dns_subdomain(&name) && !out.contains(&name) {
                out.push(name);
            }
        }
        for alias in &self.aliases {
            if !out.contains(alias) {
                out.push(alias.clone());
            }
        }
        out
    }
}

impl Services<'_> {
    /// The services as the job's plan knows them.
    pub(super) fn plans(&self) -> Result<Vec<ServicePlan>, PodError> {
        let plan = |service: &Service<'_>| {
            let (name, title) = (service.name.clone(), service.title());
            Ok(ServicePlan { name, title, ports: service.ports()? })
        };
        self.list.iter().map(plan).collect()
    }

    pub(super) fn containers(
        &mut self,
        input: &PodInput<'_>,
        volumes: &Volumes,
    ) -> Result<Vec<Container>, PodError> {
        self.list.iter_mut().map(|service| service.container(input, volumes)).collect()
    }

    /// Container names and resources.
    pub(super) fn resources(&self) -> impl Iterator<Item = (&str, &Resources)> {
        self.list.iter().map(|service| (service.name.as_str(), &service.resources))
    }

    pub(super) fn pull_policies(&self, input: &PodInput<'_>) -> Result<Vec<PolicyList>, PodError> {
        let of = |service: &Service<'_>| Ok((service.name.clone(), service.policies(input)?));
        self.list.iter().map(of).collect()
    }

    /// `hostAliases`: one entry for localhost. Services with `ports` are left out, as GitLab Runner
    /// does. Those of the settings come after.
    pub(super) fn put_host_aliases(&self, out: &mut Text, of_settings: &[Value]) {
        let reached = self.list.iter().filter(|service| service.of_job.ports.is_empty());
        let names: Vec<_> = reached.flat_map(Service::hostnames).collect();
        if names.is_empty() && of_settings.is_empty() {
            return;
        }
        out.key("hostAliases");
        out.open('[');
        if !names.is_empty() {
            out.open('{');
            out.text("ip", "127.0.0.1");
            out.key("hostnames");
            out.strings(names);
            out.close('}');
        }
        of_settings.iter().for_each(|alias| out.value(alias));
        out.close(']');
    }

    pub(super) fn secret_environment(&self) -> Vec<(String, Secret)> {
        let all = self.list.iter().flat_map(|service| &service.secret);
        all.cloned().collect()
    }
}
