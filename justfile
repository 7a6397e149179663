# The daily commands. `just` lists them; `.ci/run` runs what CI runs.

_default:
    @just --list

# Formatting, lints and docs, as CI wants them.
check:
    .ci/run core_tree features fmt clippy docs api

# The libraries' public interface against the reviewed lists in docs/api.
api:
    .ci/run api

# All tests.
test:
    .ci/run test

# All tests, end-to-end ones on a real cluster too.
test-cluster kubeconfig:
    PODWRIGHT_E2E_KUBECONFIG={{ kubeconfig }} cargo test --workspace

# A two-job pipeline without a cluster and without GitLab.
demo *args:
    cargo run --release -- demo {{ args }}

# Benches, with numbers worth quoting.
bench *args:
    cargo bench -p benches {{ args }}

# One fuzz target for a while.
fuzz target seconds="60":
    FUZZ_PROFILE=release fuzz/run {{ seconds }} {{ target }}

# So many runs of managers, jobs and faults from a seed on, in one process and without time.
chaos seed="1" runs="10000":
    CHAOS_SEED={{ seed }} CHAOS_RUNS={{ runs }} CHAOS_JOBS=20 CHAOS_FAULTS=40 \
        cargo test --profile chaos -p runner-bin --test chaos whatever -- --nocapture

# The same with real processes and sockets.
chaos-processes seed="1" runs="200":
    PODWRIGHT_SEED={{ seed }} PODWRIGHT_RUNS={{ runs }} \
        cargo test -p runner-bin --test e2e processes -- --nocapture

# The book of docs/ into target/book, and every link of the repository's documents.
book:
    .ci/run book

# What CI runs beside `check` and `book`.
ci-tests:
    .ci/run test outside demo browser prometheus chart benches fuzz

# Each crate as a registry gets it, built from what is in the package.
package:
    .ci/release package

# The libraries' interfaces against the last tag.
semver:
    .ci/release semver

# The oldest versions of direct dependencies that the manifests allow.
minimal:
    .ci/release minimal

# The oldest Rust that Cargo.toml promises.
msrv:
    .ci/release msrv

# Licences, sources and duplicate versions; ADVISORIES=1 asks the advisory database too.
deny:
    .ci/release deny

# The workflow files against the schemas of GitHub and GitLab.
workflows:
    .ci/release workflows

# Bills of materials of both programs, CycloneDX.
sbom:
    .ci/release sbom

# The description of a release: the changelog's section of VERSION=v1.2.3, or of the tag of HEAD.
notes:
    .ci/release notes

# What a release consists of: static programs, bills of materials, sums.
files:
    .ci/release files

# Build time, crates and size of each crate and feature, as BENCHMARKS.md has them.
build-costs *args:
    benches/build-costs {{ args }}

# A container image as a tar file, without a registry and without a Docker engine: just image [--target official-chart] [--arch arm64] …
image *args:
    deploy/image/build {{ args }}

# Images of dev programs, and their tests with runc (needs root).
test-image:
    .ci/run image

# The chart against helm and Kubernetes' types; `just chart update` writes the committed renderings anew.
chart update="":
    {{ if update == "update" { "PODWRIGHT_UPDATE_RENDERED=1" } else { "" } }} .ci/run chart

# Everything that CI runs.
ci:
    .ci/run
