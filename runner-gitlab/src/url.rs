//! The base URL of the runner API and the addresses below it.

use runner_core::ids::JobId;

use crate::settings::SettingsError;

/// `https://host/relative/api/v4/`, from the `url` of a runner's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiBase {
    /// The instance, without a trailing slash. Two spellings of one address are equal here.
    instance: String,
    host: String,
}

impl ApiBase {
    /// Strips trailing slashes and the legacy suffix `/ci`; keeps a relative path.
    ///
    /// GitLab Runner finds a bad scheme only at the first request and calls the runner unhealthy;
    /// here it is a mistake in the settings and said at once.
    pub(crate) fn parse(url: &str) -> Result<Self, SettingsError> {
        let invalid =
            |reason: &str| SettingsError::Url { url: printable(url), reason: reason.into() };
        let trimmed = url.trim().trim_end_matches('/');
        let trimmed = trimmed.strip_suffix("/ci").unwrap_or(trimmed).trim_end_matches('/');
        let mut parsed =
            reqwest::Url::parse(trimmed).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(invalid("the scheme must be http or https"));
        }
        let Some(host) = parsed.host_str().map(str::to_owned) else {
            return Err(invalid("there is no host"));
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(invalid("it must not carry credentials"));
        }
        parsed.set_query(None);
        parsed.set_fragment(None);
        Ok(Self { instance: parsed.as_str().trim_end_matches('/').to_owned(), host })
    }

    /// The instance's address, normalised, without a trailing slash.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// The host without port, by which certificate files are named.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Where jobs are asked for.
    pub(crate) fn request_job(&self) -> String {
        format!("{}/api/v4/jobs/request", self.instance)
    }

    /// Where runners are looked after: `runners`, and below it `/verify`, `/managers`, ….
    pub(crate) fn runners(&self, below: &str) -> String {
        format!("{}/api/v4/runners{below}", self.instance)
    }

    /// Where a job's state goes.
    pub(crate) fn job(&self, id: JobId) -> String {
        format!("{}/api/v4/jobs/{id}", self.instance)
    }

    /// Where a job's trace goes.
    pub(crate) fn trace(&self, id: JobId, debug: bool) -> String {
        format!("{}/api/v4/jobs/{id}/trace?debug_trace={debug}", self.instance)
    }

    /// Where a job's archives come from and go to, with query parameters; empty values are left out.
    pub(crate) fn artifacts(&self, id: JobId, query: &[(&str, &str)]) -> String {
        let base = format!("{}/api/v4/jobs/{id}/artifacts", self.instance);
        let mut parts = query.iter().filter(|(_, value)| !value.is_empty()).peekable();
        if parts.peek().is_none() {
            return base;
        }
        // The instance has been parsed as a URL, and a path of digits cannot change that.
        reqwest::Url::parse_with_params(&base, parts).map_or(base, Into::into)
    }
}

/// The address as far as it may be printed: credentials in it are not.
fn printable(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
        Some((scheme, (_, rest))) => format!("{scheme}://***@{rest}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use runner_core::ids::JobId;

    use super::ApiBase;

    #[rstest]
    #[case("https://h", "https://h/api/v4/jobs/request")]
    #[case("https://h/", "https://h/api/v4/jobs/request")]
    #[case("https://h///", "https://h/api/v4/jobs/request")]
    #[case("https://h/ci", "https://h/api/v4/jobs/request")]
    #[case("https://h/ci/", "https://h/api/v4/jobs/request")]
    #[case("https://h/gitlab", "https://h/gitlab/api/v4/jobs/request")]
    #[case("https://h/gitlab/ci/", "https://h/gitlab/api/v4/jobs/request")]
    #[case("http://H:8080", "http://h:8080/api/v4/jobs/request")]
    #[case("https://h:443", "https://h/api/v4/jobs/request")]
    #[case("https://h/magic-ci", "https://h/magic-ci/api/v4/jobs/request")]
    #[case("https://[::1]:8443/x", "https://[::1]:8443/x/api/v4/jobs/request")]
    fn api_01_the_base_url_is_normalised(#[case] url: &str, #[case] expected: &str) {
        assert_eq!(ApiBase::parse(url).unwrap().request_job(), expected);
    }

    #[rstest]
    #[case("")]
    #[case("gitlab.example.com")]
    #[case("ftp://h")]
    #[case("https://")]
    #[case("https://user:hunter2@h")]
    fn api_01_an_unusable_url_is_refused_and_its_credentials_are_not_printed(#[case] url: &str) {
        let message = ApiBase::parse(url).unwrap_err().to_string();
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn addresses_of_a_job() {
        let base = ApiBase::parse("https://h/g").unwrap();
        assert_eq!(base.job(JobId(7)), "https://h/g/api/v4/jobs/7");
        assert_eq!(base.trace(JobId(7), true), "https://h/g/api/v4/jobs/7/trace?debug_trace=true");
        assert_eq!(base.artifacts(JobId(7), &[("a", "")]), "https://h/g/api/v4/jobs/7/artifacts");
        assert_eq!(
            base.artifacts(JobId(7), &[("expire_in", "1 week & a bit"), ("x", "y")]),
            "https://h/g/api/v4/jobs/7/artifacts?expire_in=1+week+%26+a+bit&x=y"
        );
    }
}
