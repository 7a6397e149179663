//! The executor of local processes keeps what every executor promises.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use runner_core::executor::Executor;
use runner_core::ids::JobId;
use runner_testkit::conformance::{self, ExecutorPromise, Site};
use runner_testkit::local::LocalExecutor;

struct Directory(tempfile::TempDir);

impl Directory {
    fn local(&self) -> LocalExecutor {
        let agent = env!("CARGO_BIN_EXE_podwright-agent").to_owned();
        LocalExecutor::new(self.0.path().join("jobs"), [agent])
    }
}

#[async_trait]
impl Site for Directory {
    async fn executor(&self) -> Arc<dyn Executor> {
        Arc::new(self.local())
    }

    async fn leftovers(&self) -> Vec<String> {
        let left = self.local().leftovers();
        left.iter().map(|path| path.display().to_string()).collect()
    }

    async fn destroy(&self, job: JobId) -> bool {
        self.local().destroy(job).is_ok()
    }

    fn shared_directory(&self) -> Option<PathBuf> {
        Some(self.0.path().to_owned())
    }
}

#[tokio::test]
async fn local_processes_keep_what_an_executor_promises() {
    let report = conformance::executor(&Directory(tempfile::tempdir().unwrap())).await;
    report.assert_kept();
    for promise in ExecutorPromise::ALL {
        assert!(report.keeps(promise), "{report}");
    }
}
