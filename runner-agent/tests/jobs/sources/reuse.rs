//! Checkouts that an earlier job has left behind.

use super::{Shop, contains, run, success};

#[tokio::test]
async fn stages_43_the_next_job_reuses_what_is_there() {
    let shop = Shop::new().await;
    success(&shop.next_job("main", &["echo x > file; echo y > new"]).run().await);
    let seen = shop.next_job("feature", &["cat file; git status --short; ls"]).run().await;
    success(&seen);
    contains(
        &seen,
        &[
            "Reinitialized existing Git repository in ",
            "Checking out ",
            "Removing new\n",
            "$ cat file; git status --short; ls",
            "\nthree\ndir\nfile\nrun\n",
        ],
    );
    assert!(!seen.text().contains("Created fresh repository."));
}
