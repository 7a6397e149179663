//! The simulated cluster, whose pods log so much and then go on until they are told to end.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec, Isolation, scripted_agent};
use tokio::sync::watch;

/// The executor's settings that every runner here has.
pub(crate) const KUBERNETES: &str = "namespace = \"ci\"\nimage = \"job\"\nhelper_image = \"job\"\n\
                                     agent_image = \"agent\"\npoll_timeout = 600\n";

/// A cluster, and by what its jobs are told to end.
pub(crate) fn cluster(directory: &Path, log: usize) -> (Cluster, watch::Sender<bool>) {
    let cluster = Cluster::start(ClusterSettings {
        isolation: Isolation::Plain,
        node_cpus: 100_000,
        ..ClusterSettings::default()
    });
    let cluster = cluster.expect("a cluster");
    let (finish, finished) = watch::channel(false);
    let line = b"a line of a log that is about as long as such lines mostly are, 80 characters.\n";
    let trace: Bytes = line.iter().copied().cycle().take(log).collect();
    cluster.register_image("job", ImageSpec::scripted(scripted_agent(trace, finished)));
    let agent = directory.join("agent");
    fs::create_dir(&agent).expect("a directory");
    cluster.register_image("agent", ImageSpec::volume(agent));
    (cluster, finish)
}
