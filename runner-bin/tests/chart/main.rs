//! The chart in `deploy/chart`: what it makes of several files of values.
//!
//! * Always: the committed renderings (`deploy/chart/ci/*.rendered.yaml`) are made of nothing but what Kubernetes knows, and the
//!   manager takes the configuration in them.
//! * With `PODWRIGHT_HELM` (the program `helm`; `.ci/run chart` fetches it): the renderings are what `helm template` gives, and
//!   wrong values are refused. `PODWRIGHT_UPDATE_RENDERED=1` writes them anew.
//! * With `PODWRIGHT_E2E_KUBECONFIG` (`docs/real-cluster.md`): a real API server accepts them, and the chart is installed and
//!   upgraded there.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]
#![expect(clippy::print_stderr, reason = "a test that was not run must say so")]

mod cluster;
mod enough;
mod examples;
mod install;
mod official;
mod official_itself;
mod render;
mod roles;
mod schema;
mod terminal;
mod values;

/// The files of values in `deploy/chart/ci`.
pub(crate) const FILES: [&str; 4] = ["default", "everything", "openshift", "override"];

/// A variable that is set and not empty; without it a test says so and does nothing.
pub(crate) fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        eprintln!("left out without {name}");
    }
    value
}
